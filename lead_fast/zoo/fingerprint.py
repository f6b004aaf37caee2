"""Fingerprints of features, labels and options: equal ones give equal scores."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import numbers
import os
import time
from dataclasses import dataclass, field

import numpy as np

from .. import metrics
from ..device import to_host
from ..errors import InputTypeError
from ..features import Features, as_features
from ..head import Head
from ..metrics._base import MultiLabels, encode_targets

_BLOCK = 1 << 24  # bytes that are made contiguous at a time


def of_features(features):
    """Fingerprint of features (N, D): their dtype, shape and numbers, in whatever layout.

    Reading is all it costs beside SHA-256, about 1 ns per byte.
    """
    features = as_features(to_host(features, "features"))
    return _of_array(features.data, features.dtype)


def of_labels(labels):
    """Fingerprint of labels (N,) or (N, K), as the metrics see them.

    Integers of any width count as the same. Integers and the same digits as strings do not: 10 is
    after 9 and "10" before it, and scores depend on the order of the classes.

    Raises
    ------
    InputError, InputTypeError
        For labels that no metric takes.
    """
    encoded = encode_targets(labels, "the store", multi_label=True)
    if isinstance(encoded, MultiLabels):
        return _of_array(encoded.matrix, "label matrix")
    kind = encoded.classes.dtype.kind
    names = [str(name) for name in encoded.classes.tolist()]
    codes = _of_array(encoded.codes, "codes")
    return _digest(json.dumps(["i" if kind == "u" else kind, names, codes]))


def of_options(name, options):
    """Options of a metric, its defaults filled in, as canonical JSON.

    Raises
    ------
    InputTypeError
        For a value of which no two can be told to be the same.
    """
    parameters = inspect.signature(metrics.get(name)).parameters
    full = {
        option: parameter.default
        for option, parameter in parameters.items()
        if option not in ("labels", "device") and parameter.default is not parameter.empty
    }
    full.update(options)
    plain = {option: _plain(option, value) for option, value in full.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def of_inputs(inputs):
    """Fingerprint of what a metric takes beside features, ``{option: array}``; "" of nothing."""
    if not inputs:
        return ""
    plain = {option: _plain(option, inputs[option]) for option in sorted(inputs)}
    return _digest(json.dumps(plain))


def with_inputs(options, inputs):
    """Options as :func:`of_options` gives them, and the fingerprint of a model's further inputs."""
    digest = of_inputs(inputs)
    return f'{options[:-1]},"inputs":"{digest}"}}' if digest else options


@dataclass(frozen=True)
class FileState:
    """What changes with a file, unless it is written to through a map that stays open.

    Attributes
    ----------
    path : str
        Without symbolic links.
    bytes, mtime, ctime, inode : int
    seen : int
        When it was looked at; times are ns since 1970. States are equal whenever that was.
    """

    path: str
    bytes: int
    mtime: int
    ctime: int
    inode: int
    seen: int = field(compare=False)


def file_state(path):
    """The :class:`FileState` of a file."""
    path, seen = os.path.realpath(path), time.time_ns()  # what is written from now on is newer
    found = os.stat(path)
    return FileState(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, seen)


def _plain(option, value):
    """A value of an option as JSON has it; arrays and heads by their fingerprint."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Features):
        return of_features(value)
    if isinstance(value, Head) or (hasattr(value, "weights") and hasattr(value, "biases")):
        layers = [*value.weights, *value.biases]
        return _digest("".join(_plain(option, layer) for layer in layers))
    if isinstance(value, list | tuple):
        return [_plain(option, item) for item in value]
    if isinstance(value, np.ndarray) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        array = np.asarray(to_host(value, option))
        if array.dtype.kind in "fiubc":
            return _of_array(array, array.dtype.name)
    raise InputTypeError(
        f"{option}: a {type(value).__name__} has no fingerprint, so its scores cannot be stored"
    )


def _of_array(array, dtype):
    """SHA-256 of dtype, shape and the numbers, little-endian and in C order."""
    found = hashlib.sha256(f"{dtype} {array.shape} ".encode())
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.flags.c_contiguous:
        found.update(memoryview(array.reshape(-1).view(np.uint8)))  # without the interpreter's lock
        return found.hexdigest()
    rows = max(1, _BLOCK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        block = np.ascontiguousarray(array[start : start + rows])
        found.update(memoryview(block.reshape(-1).view(np.uint8)))
    return found.hexdigest()


def _digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
