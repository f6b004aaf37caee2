"""Arrays on a GPU for the tests of the CUDA backend, by either library."""

import numpy as np
import pytest

LIBRARIES = ("cupy", "torch")
instead = {}  # of a library that is not there: the one whose arrays serve as well


def library(name):
    """The library, or a skip where it is not installed or has no CUDA."""
    module = pytest.importorskip(name)
    if name == "torch" and not module.cuda.is_available():
        pytest.skip("torch without CUDA")
    return module


def put(name, array, dtype=None):
    """Copy an ndarray to the GPU; `dtype` may be "bfloat16", whose bits are then cut off."""
    name = instead.get(name, name)
    module = library(name)
    if name == "torch":
        tensor = module.from_numpy(np.ascontiguousarray(array)).cuda()
        return tensor.to(getattr(module, dtype)) if dtype else tensor
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        try:
            return module.asarray(np.asarray(array).astype(ml_dtypes.bfloat16))
        except (TypeError, ValueError):
            pytest.skip("this CuPy has no bfloat16")
    return module.asarray(array if dtype is None else np.asarray(array).astype(dtype))


def get(array):
    """Copy an array from the GPU; bfloat16 becomes float32."""
    if type(array).__module__.startswith("torch"):
        array = array.float() if "bfloat16" in str(array.dtype) else array
        return array.cpu().numpy()
    found = array.get()
    return found.astype(np.float32) if found.dtype.name == "bfloat16" else found


def belongs_to(array, name):
    """Whether an array lives on a GPU and is of this library."""
    name = instead.get(name, name)
    if type(array).__module__.split(".")[0] != name:
        return False
    return array.is_cuda if name == "torch" else array.device.id >= 0


class Poison:
    """Fills recycled memory of a library's pool with NaN, so that unwritten results show."""

    def __init__(self, name, count=1 << 20):
        name = instead.get(name, name)
        module = library(name)
        if name == "torch":
            module.full((count,), float("nan"), dtype=module.float64, device="cuda")
        else:
            module.full((count,), np.nan)
