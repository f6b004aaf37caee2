"""Read the next model while the present one is scored."""

from __future__ import annotations

import mmap
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..features import Features

_PAGE = 4096


@dataclass
class Read:
    """What was read of one model.

    Attributes
    ----------
    model : str
    features : array-like (N, D) or None
    there : DeviceArray (N, D) or None
        The features on the GPU that scores, where they have been copied already.
    labels : array-like (N,) or None
    seconds : float
        Wall time of reading, and of looking up what is stored.
    error : Exception or None
        Why it could not be read.
    keys : dict {metric: tuple or None}
        Under what a store keeps the outcomes for other runs, where there is one; None of a metric
        whose further inputs could not be read.
    stored : dict {metric: Outcome}
        What needs no scoring.
    parameters : int or None
        Size of the model, where its file says so.
    """

    model: str
    features: object = None
    there: object = None
    labels: object = None
    seconds: float = 0.0
    error: Exception | None = None
    keys: dict = field(default_factory=dict)
    stored: dict = field(default_factory=dict)
    parameters: int | None = None


def read_model(model, labels=None, only_labels=False, empty=np.empty, touch=True):
    """Features and labels of a model, in memory: :class:`Read`.

    Parameters
    ----------
    model : ModelFiles or ModelArray
    labels : array-like (N,), optional
        Labels for every model, instead of the model's own.
    only_labels : bool
        Whether to leave the features where they are.
    empty : callable
        Makes the array that they are loaded into, where they cannot be mapped.
    touch : bool
        Whether to have the pages of what is mapped read now.
    """
    started = time.perf_counter()
    read = Read(model.name, labels=labels)
    try:
        read.parameters = model.parameters()
        if not only_labels:
            read.features = model.read_features(empty)
            if touch:
                bring_in(read.features)
        if labels is None:
            read.labels = model.read_labels()
    except Exception as error:  # recorded with the model: others go on
        read.error = error
    read.seconds = time.perf_counter() - started
    return read


def read_ahead(items, read):
    """Pairs ``(item, read(item))``, the next item being read while the caller has this one.

    Parameters
    ----------
    items : iterable
    read : callable
        Must not raise what is to be seen with its item; what it does raise ends the iteration.

    Yields
    ------
    item, value
        At most two values exist at a time, if the caller drops one before it asks for the next.

    Notes
    -----
    A thread per item. It is a daemon: a read that hangs keeps nobody from leaving.
    """
    items = iter(items)
    waiting = _Later.start(read, items)
    while waiting is not None:
        item, value = waiting.result()
        waiting = _Later.start(read, items)
        yield item, value
        del item, value


class _Later:
    """One call in a thread of its own."""

    @classmethod
    def start(cls, function, items):
        """Call `function` with the next of the items; None at their end."""
        for item in items:
            return cls(function, item)
        return None

    def __init__(self, function, item):
        self._item, self._value, self._error = item, None, None
        self._thread = threading.Thread(
            target=self._run, args=(function,), name="lead_fast-read", daemon=True
        )
        self._thread.start()

    def _run(self, function):
        try:
            self._value = function(self._item)
        except BaseException as error:
            self._error = error

    def result(self):
        """The item and its value, once; waits for them."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        value, self._value = self._value, None
        return self._item, value


def bring_in(features):
    """Have the pages of a memory map read from disk, by the thread that reads ahead.

    NumPy adds up one byte of every page without holding the interpreter's lock.

    Raises
    ------
    InputError
        As :func:`check_map`.
    """
    check_map(features)
    data = _array_of(features)
    if isinstance(data, np.memmap) and data.size:
        # "A" leaves the order of memory, so that this is a view.
        data.reshape(-1, order="A").view(np.uint8)[::_PAGE].sum()


def check_map(features):
    """Refuse a memory map whose file has become shorter, as reading what is gone kills a process.

    Takes a system call. Nothing helps against a file that is cut while it is being scored.

    Raises
    ------
    InputError
    """
    data = _array_of(features)
    mapped = data._mmap if isinstance(data, np.memmap) else None  # it keeps the file open
    if mapped is None:
        return
    begin = data.offset - data.offset % mmap.ALLOCATIONGRANULARITY
    if mapped.size() < begin + len(mapped):
        raise InputError(f"{data.filename}: has become shorter since it was opened")


def _array_of(features):
    return features.data if isinstance(features, Features) else features
