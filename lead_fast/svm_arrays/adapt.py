"""What :mod:`lead_fast.svm` asks of its solver, on arrays of NumPy or CuPy."""

import contextlib
import sys

import numpy as np

from .. import backend
from ..errors import DeviceError, DeviceMemoryError
from . import native
from .losses import host
from .rows import Rows, column_statistics
from .solve import svm_fit_arrays


@contextlib.contextmanager
def on_device(x):
    """CuPy and its view of a :class:`lead_fast.device.DeviceArray`, on the owner's stream.

    Raises
    ------
    DeviceError
        Without CuPy.
    DeviceMemoryError
        Where memory for what is done inside cannot be had, with the bytes wanted and free.
    """
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(f"CuPy is needed for this on the GPU; {backend.extra()}") from error
    with memory_errors(), cupy.cuda.Device(x.device), _stream(cupy, x):
        array = x.array
        if x.dtype == "bfloat16" and x.library.name == "torch":
            array = array.view(sys.modules["torch"].int16)
        array = cupy.asarray(array)
        yield cupy, array.view(np.uint16) if x.dtype == "bfloat16" else array


def _stream(cupy, x):
    """The owner's stream for CuPy; the device is current."""
    handle = x.library.stream(x.device)
    if hasattr(cupy.cuda.Stream, "from_external"):  # CuPy 14
        return cupy.cuda.Stream.from_external(_ByProtocol(handle))
    return cupy.cuda.ExternalStream(handle, x.device)


class _ByProtocol:
    """A stream for those who take it by the CUDA stream protocol, version 0."""

    def __init__(self, handle):
        self.handle = handle

    def __cuda_stream__(self):
        return 0, self.handle


@contextlib.contextmanager
def memory_errors():
    """Turn what native code, CuPy and torch say where a GPU's memory ends into one error."""
    try:
        yield
    except DeviceMemoryError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise DeviceMemoryError(wanted_and_free(error)) from error


def out_of_memory(error):
    """Whether an exception says that a GPU's memory is full."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def wanted_and_free(error):
    """One line on the bytes wanted, as far as the error tells, and free on its device."""
    wanted = getattr(error, "_size", None)
    text = " ".join(str(error).split()) if wanted is None else f"{wanted} bytes wanted"
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        with contextlib.suppress(Exception):
            pool = cupy.get_default_memory_pool().free_bytes()
            text += f", {cupy.cuda.runtime.memGetInfo()[0] + pool} bytes free"
    return f"out of memory on the GPU: {text}; use fewer samples, float16 features, or device='cpu'"


def statistics(xp, data, rows=None):
    """:func:`device_statistics` of the given rows, as ndarrays."""
    if rows is not None:
        data = data[xp.asarray(rows)]
    found = device_statistics(xp, data)
    return {**found, "mean": host(xp, found["mean"]), "variance": host(xp, found["variance"])}


def device_statistics(xp, data):
    """:func:`column_statistics`, by a kernel where there is one."""
    kernels = native.kernels(xp)
    if kernels is not None and kernels.take(data):
        mean, variance = kernels.moments(data)
        if bool(xp.isfinite(mean).all()):
            return {"mean": mean, "variance": variance, "non_finite": 0, "first_non_finite": 0}
    return column_statistics(xp, data)  # which counts the rows that are not finite


def fit(xp, data, codes, n_classes, options, mapping, rows=None, log_probability=False):
    """As the native ``svm_fit``: a dict of ndarrays and floats. ``rows`` are copied."""
    if rows is not None:
        data = data[xp.asarray(rows)]
    found = svm_fit_arrays(
        xp, data, codes, n_classes, mapping.centre, mapping.inverse_scale, options.svm,
        options.hinge, options.C, options.tol, options.max_passes,
    )  # fmt: skip
    label = _label_log_softmax(xp, found.decision, codes) if log_probability else None
    return {
        "weights": host(xp, found.weights),
        "bias": host(xp, found.bias),
        "log_probability": None if label is None else host(xp, label),
        "primal": found.primal,
        "dual": found.dual,
        "gap": found.gap,
        "passes": found.passes,
        "converged": found.converged,
    }


def label_log_probability(xp, data, codes, mapping, weights, bias, rows=None):
    """Log soft-max(W z + b)[label] of the given rows, (n,) ndarray of float64."""
    if rows is not None:
        data = data[xp.asarray(rows)]
    z = Rows(xp, data, mapping.centre, mapping.inverse_scale, np.float64)
    v = xp.concatenate([xp.asarray(weights), xp.asarray(bias)[:, None]], axis=1)
    return host(xp, _label_log_softmax(xp, z.times(v), codes))


def _label_log_softmax(xp, f, codes):
    f = f - f.max(axis=1, keepdims=True)
    own = xp.take_along_axis(f, xp.asarray(codes)[:, None].astype(np.int64), axis=1)[:, 0]
    return own - xp.log(xp.exp(f).sum(axis=1))
