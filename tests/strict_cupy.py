"""Stands in for CuPy where there is no GPU: NumPy's results, CuPy's refusals.

An array wraps an ndarray that nothing can reach but ``get`` and ``asnumpy``. It mixes with Python's
and NumPy's scalars, not with ndarrays; NumPy's functions refuse it; what CuPy lacks is missing.
Only what the package needs is here, so that a new function is looked up in CuPy's list first.
"""

import contextlib
import operator
import sys
import types

import numpy as np
import scipy.linalg

from lead_fast import backend
from lead_fast.svm_arrays import native
from lead_fast.zoo import upload


class Device(contextlib.nullcontext):
    """The only GPU."""

    id = 0


class ndarray:
    """An array that is on a GPU, as far as its users can tell."""

    __cuda_array_interface__ = None  # only asked for
    __array_ufunc__ = None  # NumPy's operators leave the work to ours, its functions refuse
    __hash__ = None
    device = Device()

    def __init__(self, data):
        assert type(data) is np.ndarray, type(data)
        self._data = data

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, func, *_):
        raise TypeError(f"numpy.{func.__name__} of an array on the GPU")

    def get(self):
        """Copy to the host."""
        return self._data.copy()

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._data.ctypes.data)

    @property
    def strides(self):
        return self._data.strides

    @property
    def shape(self):
        return self._data.shape

    @property
    def dtype(self):
        return self._data.dtype

    @property
    def ndim(self):
        return self._data.ndim

    @property
    def size(self):
        return self._data.size

    @property
    def itemsize(self):
        return self._data.itemsize

    @property
    def nbytes(self):
        return self._data.nbytes

    @property
    def flags(self):
        return self._data.flags

    @property
    def T(self):
        return ndarray(self._data.T)

    def __len__(self):
        return len(self._data)

    def __float__(self):
        return float(self._data)

    def __int__(self):
        return int(self._data)

    def __index__(self):
        return operator.index(self._data)

    def __bool__(self):
        return bool(self._data)

    def __iter__(self):
        return (_wrap(part) for part in self._data)

    def __getitem__(self, index):
        return _wrap(self._data[_index(index)])

    def __setitem__(self, index, value):
        if isinstance(value, ndarray):
            value = value._data
        elif isinstance(value, np.ndarray):
            raise TypeError("an ndarray assigned to an array on the GPU")
        self._data[_index(index)] = value


ndarray.__module__ = "cupy"


def _index(index):
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, (np.ndarray, list)):
        raise IndexError(f"Unsupported type {type(index)}")
    return index._data if isinstance(index, ndarray) else index


def _wrap(value):
    """Arrays and NumPy's scalars become arrays: on a GPU a reduction gives one of no dimension."""
    if isinstance(value, tuple):
        return tuple(map(_wrap, value))
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    return value


def _unwrap(value, name="an operator"):
    if isinstance(value, ndarray):
        return value._data
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)} for {name}")
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrap(part, name) for part in value)
    return value


def _call(function, name):
    def wrapped(*args, **kwargs):
        args = [_unwrap(arg, name) for arg in args]
        kwargs = {key: _unwrap(value, name) for key, value in kwargs.items()}
        return _wrap(function(*args, **kwargs))

    wrapped.__name__ = name
    return wrapped


def _operator(name):
    function = getattr(operator, name)

    def forward(self, other):
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError(f"Unsupported type {type(other)} for {name}")
        return _wrap(np.asarray(function(self._data, _unwrap(other))))

    def backward(self, other):
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError(f"Unsupported type {type(other)} for {name}")
        return _wrap(np.asarray(function(_unwrap(other), self._data)))

    def in_place(self, other):
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError(f"Unsupported type {type(other)} for {name}")
        getattr(operator, "i" + name.strip("_"))(self._data, _unwrap(other))
        return self

    return forward, backward, in_place


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_"):
    _forward, _backward, _in_place = _operator(_name)
    _short = _name.strip("_")
    setattr(ndarray, f"__{_short}__", _forward)
    setattr(ndarray, f"__r{_short}__", _backward)
    if _short not in ("matmul", "pow"):
        setattr(ndarray, f"__i{_short}__", _in_place)
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "lshift"):
    setattr(ndarray, f"__{_name}__", _operator(_name)[0])
for _name in ("neg", "invert", "abs"):
    _function = getattr(operator, _name)
    setattr(
        ndarray,
        f"__{_name}__",
        lambda self, f=_function: _wrap(np.asarray(f(self._data))),
    )


def _method(name):
    def call(self, *args, **kwargs):
        return _call(getattr(self._data, name), name)(*args, **kwargs)

    return call


for _name in (
    "sum", "mean", "min", "max", "all", "any", "argmax", "argmin", "astype", "copy", "diagonal",
    "reshape", "trace", "view", "var", "std", "ravel", "cumsum", "swapaxes",
):  # fmt: skip
    setattr(ndarray, _name, _method(_name))

# Functions that CuPy has under the same name and with these arguments.
_FUNCTIONS = (
    "abs append arange argsort around array ascontiguousarray asfortranarray bincount "
    "broadcast_to clip concatenate cumsum diag diagonal diff einsum empty empty_like exp eye "
    "flatnonzero isfinite full log matmul maximum minimum ones outer partition repeat rint "
    "searchsorted sign sort sqrt stack subtract swapaxes take_along_axis trace tril triu "
    "triu_indices vdot where zeros zeros_like"
).split()
_LINALG = ("cholesky", "eigh", "inv", "norm", "qr", "svd")
_CREATE = {"array", "arange", "empty", "eye", "ones", "zeros", "triu_indices"}


def _asarray(array, dtype=None):
    return array if isinstance(array, ndarray) else ndarray(np.array(array, dtype))


def _symmetric(function, name):
    """Refuses what a solver on a GPU would read otherwise: a matrix that is not symmetric."""

    def checked(a):
        matrix = a._data
        size = np.abs(matrix).max(initial=0.0)
        np.testing.assert_allclose(matrix, np.swapaxes(matrix, -1, -2), atol=1e-5 * size)
        return _wrap(tuple(function(matrix))) if name == "eigh" else _wrap(function(matrix))

    return checked


class Stream:
    """A stream, which counts how often it was waited for."""

    def __init__(self, non_blocking):
        assert non_blocking
        self.waited = 0

    @staticmethod
    def from_external(owner):
        assert owner.__cuda_stream__() == (0, 7)
        return contextlib.nullcontext()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        """Nothing else: all is done at once."""
        self.waited += 1


def modules():
    """The stand-in and what is imported from below it, by name."""
    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.asarray = ndarray, _asarray
    cupy.float32, cupy.float64 = np.float32, np.float64
    cupy.asnumpy = lambda a: a.get()
    for name in _FUNCTIONS:
        setattr(cupy, name, _call(getattr(np, name), name))
    cupy.array = lambda a, **kwargs: ndarray(np.array(a._data, **kwargs))
    cupy.linalg = types.ModuleType("cupy.linalg")
    for name in _LINALG:
        setattr(cupy.linalg, name, _call(getattr(np.linalg, name), name))
    cupy.linalg.qr = lambda a: _wrap(tuple(np.linalg.qr(a._data)))
    cupy.linalg.svd = lambda a, full_matrices: _wrap(tuple(np.linalg.svd(a._data, full_matrices)))
    for name in ("cholesky", "eigh"):
        setattr(cupy.linalg, name, _symmetric(getattr(np.linalg, name), name))
    cupyx = types.ModuleType("cupyx")
    cupyx.errstate = lambda linalg: contextlib.nullcontext()
    cupyx.scipy = types.ModuleType("cupyx.scipy")
    cupyx.scipy.linalg = types.ModuleType("cupyx.scipy.linalg")
    cupyx.scipy.linalg.solve_triangular = _call(scipy.linalg.solve_triangular, "solve_triangular")
    cupy.cuda = types.ModuleType("cupy.cuda")
    cupy.cuda.Device = Device
    cupy.cuda.get_current_stream = lambda: types.SimpleNamespace(ptr=7)
    cupy.cuda.Stream = Stream
    freed = []  # streams of which free memory was given back
    pool = types.SimpleNamespace(free_all_blocks=lambda stream: freed.append(stream), freed=freed)
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda.runtime = types.SimpleNamespace(memGetInfo=lambda: (1 << 30, 1 << 30))
    found = (cupy, cupy.cuda, cupy.linalg, cupyx, cupyx.scipy, cupyx.scipy.linalg)
    return {module.__name__: module for module in found}


@contextlib.contextmanager
def installed():
    """The stand-in under the name of cupy, and out of the way afterwards.

    What uploads natively is replaced as well, by the processor's own; kernels by array code.
    """
    stand_ins = modules()
    before = {name: sys.modules.get(name) for name in stand_ins}
    uploader, upload.native_uploader = upload.native_uploader, backend.cpu().HostUploader
    kernels, native.kernels = native.kernels, lambda xp: None
    sys.modules.update(stand_ins)
    try:
        yield stand_ins["cupy"]
    finally:
        upload.native_uploader, native.kernels = uploader, kernels
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
