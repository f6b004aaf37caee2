"""Score one model by the metrics of a run, in whatever process."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from .._caller import catching
from .._text import one_line
from ..errors import DeviceMemoryError, InputError, LeadFastError, ScoreWarning
from ..lead import LeadResult
from ..metrics import _several
from .ahead import check_map
from .inputs import read_inputs


@dataclass(frozen=True)
class Outcome:
    """What one metric made of one model; plain values that can be stored and sent.

    Attributes
    ----------
    value : float, tuple of float or None
        The score; the parts of a metric that scores a whole zoo; None after a failure.
    seconds : float
        Wall time of reading and scoring.
    device : str
    error : str or None
        Why it failed, on one line.
    notices : tuple of (str, str)
        Names and texts of the warnings.
    details : dict
        JSON-ready, where known: "samples", "width", "parameters", "draws", and of lead "initial",
        "times", "curve", "rates", "classes".
    """

    value: float | tuple | None
    seconds: float
    device: str
    error: str | None = None
    notices: tuple = ()
    details: dict = field(default_factory=dict)


class Work:
    """Metrics, options and device of a run. Another process can be sent it without its scorers.

    Parameters
    ----------
    names : list of str
        Metrics.
    options : dict {name: dict}
        Of each, as :func:`lead_fast.metrics._several.make` takes them.
    device : str or None
    """

    def __init__(self, names, options, device):
        self.names, self.options, self.device = list(names), options, device
        self._drop_scorers()

    def _drop_scorers(self):
        # Nothing in them refers to this object, so that their heads go when it does.
        self.scorers, self._on_cpu = (
            ScorerPerLabels(partial(_make, self.names, self.options, device))
            for device in (self.device, "cpu")
        )

    def __getstate__(self):
        return {"names": self.names, "options": self.options, "device": self.device}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._drop_scorers()

    def score(self, read, readers, names=None):
        """Outcomes ``{metric: Outcome}`` of one model.

        Parameters
        ----------
        read : Read
            Its features and labels.
        readers : dict {metric: {option: callable}}
            What reads the metrics' further inputs for it.
        names : list of str, optional
            Those of the metrics that are wanted.
        """
        names = self.names if names is None else names
        started = time.perf_counter()
        try:
            if read.error is not None:
                raise read.error
            check_map(read.features)
            made = self.scorers(read.labels)
        except Exception as failure:
            seconds = read.seconds + time.perf_counter() - started
            failed = Outcome(None, seconds, "cpu", describe(failure))
            forget_frames(failure)
            return dict.fromkeys(names, failed)
        found = {}
        for name, scored in score_each({n: made[n] for n in names}, read, readers).items():
            device = made[name].device
            if isinstance(scored.outcome, DeviceMemoryError):
                text = f"scored on the CPU, {one_line(scored.outcome)}"
                forget_frames(scored.outcome)
                on_cpu = {name: self._on_cpu(read.labels)[name]}
                again = score_each(on_cpu, replace(read, there=None), readers)[name]
                again.caught.insert(0, (ScoreWarning.__name__, text))
                again.seconds += scored.seconds
                scored, device = again, "cpu"
            found[name] = _outcome(scored, device, read)
        return found


def _make(names, options, device, labels):
    return _several.make(names, labels, device, options, raising=False)


@dataclass
class Scored:
    """What a metric returned or raised, how long it took, and what it warned of."""

    outcome: object
    seconds: float
    caught: list


def score_each(metrics, read, readers):
    """``{metric: Scored}`` of a model that was read, with what each metric warned of."""
    caught = {name: [] for name in metrics}
    found = _several.score_each(
        metrics, read.features if read.there is None else read.there, True,
        lambda name: read_inputs(readers.get(name, {})),
        lambda name: catching(caught[name]),
        curve=True,
    )  # fmt: skip
    return {name: Scored(*found[name], caught[name]) for name in found}


class ScorerPerLabels:
    """What `make` makes of given labels; the previous again while the labels stay equal."""

    def __init__(self, make):
        self._make = make
        self._labels = None
        self._scorer = None
        self.made = 0

    def __call__(self, labels):
        """The scorer for these labels."""
        if self._scorer is None or (
            labels is not self._labels and not np.array_equal(labels, self._labels)
        ):
            self._scorer = None  # one at a time, as it may hold heads
            self._scorer = self._make(labels)
            self._labels = labels
            self.made += 1
        return self._scorer


def describe(failure):
    """What failed, on one line; with its type where the message was not written by this package."""
    if isinstance(failure, LeadFastError):
        return one_line(failure)
    if isinstance(failure, MemoryError):
        return "out of memory" if not str(failure) else f"out of memory: {one_line(failure)}"
    return f"{type(failure).__name__}: {one_line(failure)}"


def forget_frames(failure):
    """Drop where an exception, and what led to it, was raised: frames hold a model's features."""
    while failure is not None:
        failure.__traceback__ = None
        failure = failure.__cause__ or failure.__context__


def _outcome(scored, device, read):
    found, seconds = scored.outcome, read.seconds + scored.seconds
    if not isinstance(found, Exception | tuple) and not math.isfinite(float(found)):
        found = InputError(f"the score is {float(found)}, so it cannot be ranked")
    notices = tuple(scored.caught)
    if isinstance(found, Exception):
        forget_frames(found)
        return Outcome(None, seconds, device, describe(found), notices)
    details = {}
    shape = getattr(read.features, "shape", ())
    if len(shape) == 2:
        details["samples"], details["width"] = int(shape[0]), int(shape[1])
    if read.parameters:
        details["parameters"] = read.parameters
    if len(getattr(found, "draws", ())) > 1:
        details["draws"] = [float(score) for score in found.draws]
    if isinstance(found, LeadResult):
        details["initial"] = found.initial
        details["times"], details["curve"] = map(list, zip(*found.curve, strict=True))
        details["rates"] = found.rates.tolist()
        details["classes"] = [str(name) for name in found.classes.tolist()]
    value = tuple(map(float, found)) if isinstance(found, tuple) else float(found)
    return Outcome(value, seconds, device, None, notices, details)
