"""Features as the native code reads them: the caller's own memory, whatever held it."""

import numpy as np

from . import backend
from .device import on_gpu
from .errors import DeviceError, InputError, InputTypeError

NAMES = ("float16", "bfloat16", "float32", "float64")


class Features:
    """A matrix of features, of one row per sample, without a copy where that is possible.

    Parameters
    ----------
    data : ndarray (N, D)
        float16, float32 or float64; for bfloat16 the bits as uint16.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        What the numbers are.

    Raises
    ------
    InputTypeError
        If ``data`` does not hold numbers of that type.
    """

    def __init__(self, data, dtype):
        expected = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
        if dtype not in NAMES or not isinstance(data, np.ndarray) or data.dtype != expected:
            found = getattr(data, "dtype", type(data).__name__)
            raise InputTypeError(
                f"features: expected an array of {expected} for {dtype}, not {found}"
            )
        self.data = data
        self.dtype = dtype

    @property
    def shape(self):
        """Samples and width, (N, D)."""
        return self.data.shape

    def to_float(self):
        """Values as a float array: the data itself, or a float32 copy of bfloat16."""
        if self.dtype != "bfloat16":
            return self.data
        return (self.data.astype(np.uint32) << 16).view(np.float32)

    def nbytes(self, rows=None):
        """Bytes of all rows, or of those that ``rows`` (M,) lists."""
        n, d = self.shape
        return (n if rows is None else len(rows)) * d * self.data.itemsize

    def column_statistics(self, rows=None):
        """Means and biased variances of the columns, and which rows are not finite.

        Parameters
        ----------
        rows : ndarray (M,) of int64, optional
            By default all.

        Returns
        -------
        dict
            ``mean`` and ``variance`` (D,) float64, ``non_finite`` and ``first_non_finite``.
        """
        # One pass, at the speed of the memory: a fourth of it is little work.
        team = backend.threads(self.nbytes(rows) // 4)
        return backend.cpu().column_statistics(self.data, self.dtype, rows, team)

    def __repr__(self):
        return f"Features(shape={self.shape}, dtype={self.dtype!r})"


def _array(obj, name):
    """The object's own memory as an ndarray, and its dtype's name if NumPy has none for it."""
    if isinstance(obj, np.ndarray):
        return obj, None
    if on_gpu(obj):
        raise DeviceError(
            f"{name}: the array lives on a GPU, but this part runs on the CPU; move it there"
        )
    if type(obj).__module__.split(".")[0] == "torch":
        return _tensor(obj, name)
    if hasattr(obj, "toarray") and hasattr(obj, "nnz"):
        raise InputTypeError(f"{name}: sparse matrices are not supported; pass .toarray()")
    try:
        if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
            return np.from_dlpack(obj), None
        return np.asarray(obj), None
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputTypeError(f"{name}: cannot be read as an array ({reason})") from error


def _tensor(tensor, name):
    import torch

    if tensor.layout != torch.strided:
        raise InputTypeError(f"{name}: {tensor.layout} tensors are not supported; pass .to_dense()")
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16), "bfloat16"
    return tensor.resolve_conj().resolve_neg().numpy(), None


def real_array(obj, name):
    """Read any array-like of real numbers, of any shape, as an ndarray."""
    data, dtype = _array(obj, name)
    if dtype == "bfloat16":
        data = Features(data, dtype).to_float()
    if data.dtype.kind not in "fiub":
        raise InputTypeError(f"{name}: dtype {data.dtype} is not a real number")
    return data


def as_features(obj, name="features"):
    """Read any array-like as :class:`Features`.

    Parameters
    ----------
    obj : array-like (N, D)
        ndarray, memory map, CPU torch tensor, anything with ``__array__`` or DLPack, a nested
        sequence, or :class:`Features`. float16, bfloat16, float32 and float64 are read where they
        are; integers and booleans are converted. Any memory layout is accepted, but columns that
        are not next to each other (Fortran order) cost a copy.
    name : str
        What to call it in messages.

    Returns
    -------
    Features

    Raises
    ------
    InputError, InputTypeError, DeviceError
        Wrong shape or emptiness; a dtype that is no real number; memory of a GPU.
    """
    if isinstance(obj, Features):
        data, dtype = obj.data, obj.dtype
    else:
        data, dtype = _array(obj, name)
    if isinstance(data, np.ma.MaskedArray):
        raise InputTypeError(f"{name}: masked arrays are not supported; fill what is masked")
    dtype = dtype or data.dtype.name
    if dtype == "bfloat16" and data.dtype != np.uint16:  # the dtype of ml_dtypes and JAX
        data = data.view(np.uint16)
    if dtype not in NAMES:
        kind = data.dtype.kind
        if kind in "iub":
            wide = data.dtype.itemsize > 2
            data, dtype = data.astype(np.float64 if wide else np.float32), None
        elif kind == "f":
            data, dtype = data.astype(np.float64), None
        else:
            raise InputTypeError(
                f"{name}: dtype {data.dtype} is not a real number; convert to float32 first"
            )
        dtype = data.dtype.name
    check_shape(data.shape, name)
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if (data.shape[1] > 1 and data.strides[1] != data.itemsize) or not data.flags.aligned:
        data = np.ascontiguousarray(data)
    return Features(np.asarray(data), dtype)


def check_shape(shape, name):
    """Raise unless the shape is that of features: two dimensions, neither of them empty."""
    if len(shape) != 2:
        many, one = "; pool or flatten each sample to one vector", "; one row for each sample"
        hint = many if len(shape) > 2 else one
        raise InputError(
            f"{name}: expected 2 dimensions (samples, width), got {len(shape)}, shape {shape}{hint}"
        )
    if 0 in shape:
        what = "no rows" if shape[0] == 0 else "no columns"
        raise InputError(f"{name}: empty, {what}, shape {shape}")


def check_finite(x, name="features", found=None):
    """Raise if any row holds a NaN or an infinity, with their count and the first.

    ``found`` are the column statistics, if the caller has them already.
    """
    if found is None:
        found = x.column_statistics()
    non_finite, first, n = found["non_finite"], found["first_non_finite"], x.shape[0]
    if non_finite:
        raise InputError(
            f"{name}: NaN or infinity in {non_finite} of {n} rows, first in row {first}; "
            "remove or repair them"
        )
