"""Score models in other processes, of whatever joblib backend is active: here, Dask or Ray.

Which process takes which model, and which GPU it sees, is up to the backend. Workers read the files
themselves; only this process writes to the store.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid

import numpy as np

from .._optional import need
from .._text import one_line
from ..errors import InputError, StoreError
from ..options import integer
from . import fingerprint
from .ahead import Read, read_model
from .work import Outcome

_TRIES = 2  # of a model alone whose worker dies


def active(jobs):
    """The :class:`Jobs` that are asked for, or None to score in this process.

    Parameters
    ----------
    jobs : int or None
        Processes: None for as many as the active backend of joblib has, which by default is one;
        -1 for one per core.
    """
    if jobs is None and "joblib" not in sys.modules:
        return None  # nobody can have configured it
    from joblib.parallel import LokyBackend, SequentialBackend, get_active_backend

    _check(jobs)
    backend, configured = get_active_backend()
    count = configured if jobs is None else jobs
    if isinstance(backend, LokyBackend | SequentialBackend):
        count = backend.effective_n_jobs(count or 1)
        if count == 1:
            return None
    count = -1 if count is None else count  # all that the cluster has
    return Jobs(
        count,
        getattr(backend, "supports_return_generator", False),
        getattr(backend, "supports_sharedmem", False),
    )


def _check(jobs):
    if jobs is not None and integer("jobs", jobs, -1) == 0:
        raise InputError("jobs: must be a number of processes, or -1 for one per core, got 0")


@contextlib.contextmanager
def backend(name, address=None, jobs=None):
    """Make a backend of joblib the active one, as the command line does.

    Parameters
    ----------
    name : {"loky", "dask", "ray"}
        Processes of this machine; a cluster of Dask or Ray.
    address : str, optional
        Of the cluster's scheduler; by default a cluster on this machine, for as long as it is
        needed.
    jobs : int, optional
        Processes of a cluster on this machine; -1 for one per core, as by default.
    """
    import joblib

    _check(jobs)
    if address is not None and name != "loky" and jobs is not None:
        raise InputError(f"jobs: of a cluster on this machine; that at {address} has its own")
    count = joblib.cpu_count() if jobs == -1 else jobs
    where = f"address: no cluster at {address}" if address else f"backend: no cluster of {name}"
    if name == "loky":
        if address is not None:
            raise InputError("address: of a cluster; give --backend dask or ray with it")
        yield
    elif name == "dask":
        distributed = need("distributed", "the backend dask")
        try:
            client = (
                distributed.Client(address, timeout="20s")
                if address
                else distributed.Client(
                    n_workers=count, threads_per_worker=1, dashboard_address=None
                )
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{where} ({one_line(error)})") from error
        with client, joblib.parallel_config("dask", client=client):
            yield
    else:
        ray = need("ray", "the backend ray")
        register = need("ray.util.joblib", "the backend ray").register_ray
        try:
            ray.init(address=address, num_cpus=count, log_to_driver=False, include_dashboard=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{where} ({one_line(error)})") from error
        register()
        # An actor that dies is started again, and its task given to it once more.
        restart = {"max_restarts": -1, "max_task_retries": 2}
        try:
            with joblib.parallel_config("ray", ray_remote_args=restart):
                yield
        finally:
            ray.shutdown()


class Jobs:
    """Scoring by joblib's active backend.

    Parameters
    ----------
    count : int
        Of processes, as joblib takes it.
    streams : bool
        Whether the backend hands out results as they come; else models go to it in rounds of four
        per process, so that what is finished is recorded.
    shares : bool
        Whether its workers are threads of this process, which need not be sent anything.
    """

    def __init__(self, count, streams, shares=False):
        self._count, self._streams, self._shares = count, streams, shares

    def score(self, models, labels, work, inputs, records):
        """Triples ``(model, Read, {metric: Outcome})`` in the order in which they are done.

        A worker that dies takes with it what it was at: those models are scored again. One whose
        workers die as often as it is tried alone is recorded as a failure.

        Models are handed out as results are taken, at most eight per process ahead: what is done
        but not taken when all ends, by Ctrl-C or with a worker, was done in vain.
        """
        token = uuid.uuid4().hex
        waiting = []
        unsent = self._unsent((work, labels))
        for model in models:
            found = _stored(model, labels, inputs, records)
            if found is not None:
                yield model, found, found.stored
                continue
            why = unsent or self._unsent((model, inputs.readers(model)))
            if why is None:
                waiting.append(model)
            else:
                yield model, Read(model.name), _failed(work, why)
        alone, broken = 0, 0  # models to be tried one by one; breakdowns since the last result
        tries = {}
        while waiting:
            batch = waiting[:1] if alone else waiting
            finished = set()
            try:
                for name, done in self._run(batch, labels, work, inputs, records, token):
                    finished.add(name)
                    broken = 0
                    yield done
            except StoreError:
                raise
            except Exception as failure:
                broken += 1
                if alone:
                    model = batch[0]
                    tries[model.name] = tries.get(model.name, 0) + 1
                    if tries[model.name] >= _TRIES:
                        finished.add(model.name)
                        yield model, Read(model.name), _failed(work, _died(failure))
                elif broken > 1:
                    alone = self._most_at_once()
            if alone and finished:
                alone -= 1
            waiting = [model for model in waiting if model.name not in finished]

    def _unsent(self, values):
        """Why something cannot be sent to the workers; None where it can be, or need not be."""
        if self._shares:
            return None
        try:
            _dry_pickler().dump(values)
        except MemoryError:  # then a message is too long to be tried
            return None
        except Exception as error:
            text = one_line(error)[:200]
            return f"cannot be sent to another process ({type(error).__name__}: {text})"
        return None

    def _run(self, models, labels, work, inputs, records, token):
        """Pairs of a model's name and its triple; raises when a worker dies.

        Ends before all models are done where results are taken too slowly.
        """
        import joblib

        sent, taken, most = 0, 0, 4 * self._most_at_once()

        def calls(part):
            nonlocal sent
            for model in part:
                if sent - taken >= most:
                    return
                sent += 1
                yield joblib.delayed(_score)(
                    token, work, model, labels, inputs.readers(model), records is not None
                )

        settings = {"n_jobs": self._count, "batch_size": 1, "pre_dispatch": "2*n_jobs"}
        if self._streams:
            streamed = joblib.Parallel(**settings, return_as="generator_unordered")(calls(models))
            results = contextlib.closing(streamed)
        else:
            results = contextlib.nullcontext(self._in_rounds(models, calls, settings))
        named = {model.name: model for model in models}
        with results as stream:
            for read, state, features, outcomes in stream:
                model = named[read.model]
                if records is not None and features is not None:
                    records.look_up(model, inputs.readers(model), read, features)
                    records.remember(state, features)
                yield model.name, (model, read, outcomes)
                taken += 1

    def _in_rounds(self, models, calls, settings):
        import joblib

        size = self._most_at_once() * 2
        with joblib.Parallel(**settings) as parallel:  # its processes stay from round to round
            for start in range(0, len(models), size):
                yield from parallel(calls(models[start : start + size]))

    def _most_at_once(self):
        """Models that may be at some worker at a moment; not 0 where a cluster has none yet."""
        import joblib

        return 2 * max(1, joblib.effective_n_jobs(self._count))


def _failed(work, text):
    return dict.fromkeys(work.names, Outcome(None, 0.0, "unknown", text))


def _died(failure):
    return f"lost with its process ({type(failure).__name__}: {one_line(failure)[:200]})"


def _dry_pickler():
    """What pickles without a result, and passes by what arrays hold, so that it takes no time."""
    try:
        import cloudpickle
    except ImportError:  # which joblib brought along before it needed it
        from joblib.externals import cloudpickle

    class Pickler(cloudpickle.CloudPickler):
        def reducer_override(self, value):
            numbers = isinstance(value, np.ndarray) and not value.dtype.hasobject
            # Torch's tensors, of which parameters are a kind; there may be no torch.
            if numbers or any(kind.__module__ == "torch" for kind in type(value).__mro__[:-1]):
                return int, ()
            return super().reducer_override(value)

    return Pickler(_Nowhere(), 5)


class _Nowhere:
    """A file of which only that it is written to matters."""

    def write(self, data):
        """Forget what is written."""


def _stored(model, labels, inputs, records):
    """What the store has of a model whose file has not changed: Read; None where anything lacks."""
    if records is None:
        return None
    _, features = records.known(model)
    if features is None:
        return None
    read = read_model(model, labels, only_labels=True)
    if read.error is not None:  # the worker says what is wrong with it
        return None
    records.look_up(model, inputs.readers(model), read, features)
    return read if len(read.stored) == len(read.keys) else None


# In the worker

_lock = threading.Lock()  # one model at a time: all threads and memory are for it
_works = {}  # token of a run: its Work, with scorers that keep the label side; of the last run only


def _score(token, work, model, labels, readers, keyed):
    """Read and score a model: what was read but its features, their fingerprint, outcomes."""
    state = features = None
    with contextlib.suppress(OSError):
        state = model.state() if keyed else None
    read = read_model(model, labels)
    if keyed and read.error is None:
        try:
            features = fingerprint.of_features(read.features)
        except Exception as error:
            read.error = error
    with _lock:
        if token not in _works:
            _works.clear()
            _works[token] = work
        outcomes = _works[token].score(read, readers)
    read.features = None
    if labels is not None:
        read.labels = None  # they are the caller's
    read.error = None  # need not be picklable, and is in the outcomes
    return read, state, features, outcomes
