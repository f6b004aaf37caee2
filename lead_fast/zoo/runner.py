"""Go through the models of a zoo: look up, read, score, record."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import numpy as np

from ..device import resolve
from ..errors import InputError, StoreError
from . import fingerprint
from .ahead import bring_in, read_ahead, read_model
from .buffers import Buffers
from .inputs import read_inputs
from .upload import Uploads


class Records:
    """What a store has of one run's models, and what is added to it.

    Parameters
    ----------
    store : Store
    zoo : str
        What to call the zoo in the list of runs.
    options : dict {metric: dict}
    models : int
    labels : array-like or None
        Labels of every model.
    """

    def __init__(self, store, zoo, options, models, labels):
        self._store = store
        self._options = {name: fingerprint.of_options(name, options[name]) for name in options}
        self._labels = None if labels is None else fingerprint.of_labels(labels)
        self._run = store.begin(zoo, self._options, models)

    def look_up(self, model, readers, read, features):
        """Set `read`'s keys, given the fingerprint of the features, and what is stored."""
        read.keys = dict.fromkeys(self._options)
        # What stands in the way, such as a damaged file of outputs, is for scoring to tell: it asks
        # for the same, and it is a failure of the metrics that need it alone.
        with suppress(Exception):
            labels = self._labels or fingerprint.of_labels(read.labels)
            for name, options in self._options.items():
                with suppress(Exception):
                    inputs = read_inputs(readers.get(name, {}))
                    key = features, labels, name, fingerprint.with_inputs(options, inputs)
                    read.keys[name] = key
        found = {name: self._store.get(key) for name, key in read.keys.items() if key}
        read.stored = {
            name: _of_file(outcome, read.parameters)
            for name, outcome in found.items()
            if outcome is not None
        }

    def known(self, model):
        """State of the model's file and the fingerprint it had in that state, each if any."""
        state = _state(model)
        return state, None if state is None else self._store.known_file(state)

    def remember(self, state, features):
        """Keep the fingerprint of the features in a file of this state."""
        if state is not None:
            self._store.remember_file(state, features)

    def put(self, model, read, outcomes):
        """Record a model's outcomes."""
        self._store.put(self._run, model.name, read.keys, outcomes)

    def finish(self, scores):
        """Mark the run as complete, see :meth:`Store.finish`."""
        self._store.finish(self._run, scores)


def _state(model):
    """State of a model's file; None if it has none, or if reading is to say what is wrong."""
    with suppress(OSError):
        return model.state()
    return None


def _of_file(outcome, parameters):
    """A stored outcome, which is by content, with the size of the model that this file gives."""
    if outcome.details.get("parameters") == parameters:
        return outcome
    details = {**outcome.details, "parameters": parameters}
    if parameters is None:
        del details["parameters"]
    return replace(outcome, details=details)


def go_through(zoo, labels, work, inputs, records, progress, jobs=None):
    """Outcomes of every model: list of ``(model, {metric: Outcome})``, and whether labels differ.

    Parameters
    ----------
    zoo : Zoo
    labels : array-like or None
    work : Work
    inputs : Inputs
    records : Records or None
    progress : bool or None
    jobs : Jobs, optional
        Other processes that score; by default this one does, and reads ahead meanwhile.
    """
    buffers, place = Buffers(), None if jobs else resolve(work.device)
    uploads = None if place is None else Uploads(place)

    def read(model):
        # What is copied to a GPU is read for that, by several threads.
        touch = uploads is None
        got = _read(model, labels, inputs.readers(model), records, buffers.empty, touch)
        if uploads is not None and got.error is None and len(got.stored) < len(work.names):
            _send(got, uploads)
        return got

    found, differ, last = [], False, None
    if jobs is None:
        scored = _score_here(zoo.models, read, work, inputs)
    else:
        scored = jobs.score(zoo.models, labels, work, inputs, records)
    try:
        # Closed, so that other processes stop with this and not when what is raised is forgotten.
        with _progress_bar(len(zoo.models), progress) as step, closing(scored):
            for model, got, outcomes in scored:
                if records is not None:
                    records.put(model, got, outcomes)
                if labels is None and any(one.error is None for one in outcomes.values()):
                    differ = differ or (last is not None and not np.array_equal(last, got.labels))
                    last = got.labels
                found.append((model, {name: outcomes[name] for name in work.names}))
                del got  # its features, before the next model's are waited for
                step()
    finally:
        if uploads is not None:
            uploads.release()
    order = {model.name: place for place, model in enumerate(zoo.models)}
    found.sort(key=lambda entry: order[entry[0].name])
    return found, differ


def _score_here(models, read, work, inputs):
    # Arrays are in memory already, unless their fingerprints have to be computed.
    for model, got in read_ahead(models, read):
        missing = [name for name in work.names if name not in got.stored]
        scored = work.score(got, inputs.readers(model), missing) if missing else {}
        yield model, got, {**got.stored, **scored}
        del got


def _read(model, labels, readers, records, empty, touch):
    """Read a model, as far as the store does not make that needless: Read."""
    if records is None:
        return read_model(model, labels, empty=empty, touch=touch)
    started = time.perf_counter()
    state, features = records.known(model)
    if features is not None:
        read = read_model(model, labels, only_labels=True)
        if read.error is None:
            records.look_up(model, readers, read, features)
            if len(read.keys) == len(read.stored):
                return read
    read = read_model(model, labels, empty=empty, touch=touch)
    if read.error is None:
        try:
            if features is None or _state(model) != state:  # else it is that file that was read
                features = fingerprint.of_features(read.features)
                records.remember(state, features)
            records.look_up(model, readers, read, features)
        except StoreError:
            raise
        except Exception as error:
            read.error = error
    read.seconds = time.perf_counter() - started
    return read


def _send(got, uploads):
    """Copy a model's features to the GPU, or have them in memory where they stay on the host."""
    started = time.perf_counter()
    # What goes wrong here, memory that is not to be had first of all, is for scoring to tell.
    with suppress(Exception):
        got.there = uploads(got.features)
    if got.there is None:
        try:
            bring_in(got.features)
        except InputError as error:  # the file has become shorter
            got.error = error
    got.seconds += time.perf_counter() - started


@contextmanager
def _progress_bar(count, progress):
    """A function to call after each model, which moves a bar on stderr if `progress` says so."""
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        yield lambda: None
        return
    from tqdm import tqdm

    bar = tqdm(total=count, unit="model", file=sys.stderr, leave=False, dynamic_ncols=True)
    with bar:
        yield bar.update


def describe_zoo(zoo):
    """What to call a zoo in the list of runs."""
    try:
        return os.path.realpath(zoo)
    except TypeError:
        return "(arrays)"
