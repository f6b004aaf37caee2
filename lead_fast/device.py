"""Arrays on a GPU: whose they are, where they live, and what the native code is told of them.

Torch's tensors and CuPy's arrays are taken as they are, others through CuPy. Results belong to the
library that the input came from; CuPy is needed only where neither does.
"""

import contextlib
import importlib
import sys

import numpy as np

from . import backend
from .errors import DeviceError, InputError, InputTypeError

NAMES = ("float16", "bfloat16", "float32", "float64")
_CUDA_KINDS = (2, 13)  # kDLCUDA, kDLCUDAManaged
_HOST_KINDS = (1, 3)  # kDLCPU, kDLCUDAHost


class _Torch:
    """How to ask torch."""

    name = "torch"

    def __init__(self):
        self.torch = sys.modules["torch"]

    def index(self, array):
        return array.device.index

    def dtype(self, array):
        return str(array.dtype).removeprefix("torch.")

    def address(self, array):
        return array.data_ptr()

    def strides(self, array):
        return tuple(s * array.element_size() for s in array.stride())

    def stream(self, device):
        return self.torch.cuda.current_stream(device).cuda_stream

    def empty(self, shape, dtype, device):
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device=f"cuda:{device}")

    def upload(self, host, device, dtype=None):
        host = np.ascontiguousarray(host)
        if dtype == "bfloat16":
            return self.upload(host.view(np.int16), device).view(self.torch.bfloat16)
        if not host.flags.writeable:
            host = host.copy()  # torch warns of what it could not write to
        return self.torch.from_numpy(host).to(f"cuda:{device}")

    def host(self, array):
        if array.dtype == self.torch.bfloat16:
            array = array.float()
        return array.detach().resolve_neg().cpu().numpy()

    def total_memory(self, device):
        return self.torch.cuda.mem_get_info(device)[1]

    def side_stream(self, device):
        return self.torch.cuda.Stream(device)

    def on_stream(self, stream, device):
        return self.torch.cuda.stream(stream)

    def free(self, stream, device):
        """Nothing: torch gives all that it keeps back before it says that there is no memory."""

    def bfloat16(self, bits):
        return DeviceArray(bits.view(self.torch.bfloat16), self)

    def cast(self, array, dtype):
        return array.to(getattr(self.torch, dtype))

    def contiguous(self, array):
        return array.contiguous()


class _CuPy:
    """How to ask CuPy."""

    name = "cupy"

    def __init__(self):
        self.cupy = sys.modules["cupy"]

    def index(self, array):
        return array.device.id

    def dtype(self, array):
        return array.dtype.name

    def address(self, array):
        return array.data.ptr

    def strides(self, array):
        return array.strides

    def stream(self, device):
        with self.cupy.cuda.Device(device):
            return self.cupy.cuda.get_current_stream().ptr

    def empty(self, shape, dtype, device):
        with self.cupy.cuda.Device(device):
            return self.cupy.empty(shape, dtype)

    def upload(self, host, device, dtype=None):
        with self.cupy.cuda.Device(device):
            return self.cupy.asarray(np.ascontiguousarray(host))

    def host(self, array):
        return array.get()

    def total_memory(self, device):
        with self.cupy.cuda.Device(device):
            return self.cupy.cuda.runtime.memGetInfo()[1]

    def side_stream(self, device):
        with self.cupy.cuda.Device(device):
            return self.cupy.cuda.Stream(non_blocking=True)

    @contextlib.contextmanager
    def on_stream(self, stream, device):
        with self.cupy.cuda.Device(device), stream:
            yield

    def free(self, stream, device):
        with self.cupy.cuda.Device(device):
            self.cupy.get_default_memory_pool().free_all_blocks(stream=stream)

    def bfloat16(self, bits):
        return DeviceArray(bits.view("uint16"), self, "bfloat16")

    def cast(self, array, dtype):
        with array.device:
            return array.astype(dtype)

    def contiguous(self, array):
        with array.device:
            return self.cupy.ascontiguousarray(array)


_LIBRARIES = {"torch": _Torch, "cupy": _CuPy}


def _library(name):
    return _LIBRARIES[name]()


def _root(obj):
    return type(obj).__module__.split(".")[0]


def on_gpu(obj):
    """Whether an array-like lives in the memory of a GPU."""
    if isinstance(obj, (np.ndarray, DeviceArray)):
        return isinstance(obj, DeviceArray)
    if _root(obj) == "torch" and hasattr(obj, "is_cuda"):
        return obj.is_cuda
    if hasattr(obj, "__cuda_array_interface__"):
        return True
    asked = getattr(obj, "__dlpack_device__", None)
    if asked is None:
        return False
    try:
        return asked()[0] not in _HOST_KINDS
    except Exception:
        return False


class DeviceArray:
    """An array on a GPU together with the library that owns it.

    Parameters
    ----------
    array : torch.Tensor or cupy.ndarray
    library : object
        Of this module's adapters.
    dtype : str, optional
        What the numbers are, where the library has no such type (bfloat16 as uint16).
    """

    def __init__(self, array, library, dtype=None):
        self.array = array
        self.library = library
        self.dtype = dtype or library.dtype(array)
        self.device = library.index(array)

    @property
    def shape(self):
        """Sizes of the dimensions."""
        return tuple(self.array.shape)

    def memory(self):
        """What the native code is told: address, dtype, shape, bytes from row to row."""
        strides = self.library.strides(self.array)
        return self.library.address(self.array), self.dtype, self.shape, strides[0]

    def __repr__(self):
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype!r}, device='cuda:{self.device}')"


def wrap(obj, name):
    """Take an array that lives on a GPU as a :class:`DeviceArray`, without a copy."""
    if isinstance(obj, DeviceArray):
        return obj
    root = _root(obj)
    if root == "torch" and hasattr(obj, "is_cuda"):
        return _wrap_tensor(obj, name)
    if root == "cupy" and hasattr(obj, "data"):
        return DeviceArray(obj, _library("cupy"))
    kind = obj.__dlpack_device__()[0] if hasattr(obj, "__dlpack_device__") else _CUDA_KINDS[0]
    if kind not in _CUDA_KINDS:
        raise DeviceError(f"{name}: the array lives on a device that is no CUDA GPU; move it")
    try:
        if _import_cupy():
            library = _library("cupy")
            if hasattr(obj, "__cuda_array_interface__"):
                return DeviceArray(library.cupy.asarray(obj), library)
            return DeviceArray(library.cupy.from_dlpack(obj), library)
        if "torch" in sys.modules and hasattr(obj, "__dlpack__"):
            return _wrap_tensor(sys.modules["torch"].from_dlpack(obj), name)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputTypeError(f"{name}: cannot be read as an array on a GPU ({reason})") from error
    raise DeviceError(f"{name}: CuPy is needed to read such an array; {backend.extra()}")


def _wrap_tensor(tensor, name):
    torch = sys.modules["torch"]
    if getattr(torch.version, "cuda", None) is None:
        raise DeviceError(f"{name}: lives on a GPU that is not CUDA's; move it to the CPU")
    if tensor.layout != torch.strided:
        raise InputTypeError(f"{name}: {tensor.layout} tensors are not supported; pass .to_dense()")
    return DeviceArray(tensor.detach().resolve_conj().resolve_neg(), _library("torch"))


def _import_cupy():
    try:
        importlib.import_module("cupy")
    except ImportError:
        return False
    return True


def to_host(obj, name):
    """Return the numbers of an array on a GPU as an ndarray, or what else was given as it is."""
    if not on_gpu(obj):
        return obj
    array = wrap(obj, name)
    return array.library.host(array.array)


class Place:
    """A GPU, and the library whose arrays results are there and whose current stream is used."""

    def __init__(self, library, device):
        self.library = library
        self.device = device

    def where(self):
        """Return what every native call ends with: device number and stream."""
        return self.device, self.library.stream(self.device)

    def empty(self, shape, dtype="float64"):
        """Return a new array, not yet filled, as :class:`DeviceArray`."""
        return DeviceArray(self.library.empty(shape, dtype, self.device), self.library)

    def upload(self, host, dtype=None):
        """Copy an ndarray to the GPU; ``dtype="bfloat16"`` for its bits as uint16."""
        if dtype == "bfloat16":
            host = np.ascontiguousarray(host).view(np.uint16)
        return DeviceArray(self.library.upload(host, self.device, dtype), self.library, dtype)

    def bring(self, obj, name):
        """Wrap what lives on this GPU; refuse what lives on another; upload what is on the host."""
        if not on_gpu(obj):
            return self.upload(np.asarray(obj))
        array = wrap(obj, name)
        if array.device != self.device:
            raise DeviceError(
                f"{name}: lives on cuda:{array.device}, the other arrays or device= say "
                f"cuda:{self.device}; bring them together"
            )
        return array

    def features(self, obj, name="features"):
        """Features (N, D) on this GPU, each row contiguous, in one of the dtypes of NAMES."""
        from .features import Features, as_features, check_shape

        if not on_gpu(obj):
            x = obj if isinstance(obj, Features) else as_features(obj, name)
            return self.upload(x.data, x.dtype)
        array = self.bring(obj, name)
        check_shape(array.shape, name)
        library = array.library
        if array.dtype not in NAMES:
            if array.dtype == "bool" or array.dtype.startswith(("int", "uint")):
                wide = array.dtype.endswith(("32", "64"))
                cast = library.cast(array.array, "float64" if wide else "float32")
                array = DeviceArray(cast, library)
            else:
                raise InputTypeError(
                    f"{name}: dtype {array.dtype} is not a real number; convert to float32 first"
                )
        size = 2 if array.dtype.endswith("float16") else 4 if array.dtype == "float32" else 8
        if array.shape[1] > 1 and library.strides(array.array)[1] != size:
            array = DeviceArray(library.contiguous(array.array), library, array.dtype)
        return array


def resolve(device, *arrays):
    """Where to compute: None for the CPU, else a :class:`Place`.

    Parameters
    ----------
    device : {None, "cpu", "cuda", "cuda:N"}
        None: where the first array that lives on a GPU lives, else the CPU.
    *arrays : array-like
        The arguments that decide.

    Raises
    ------
    DeviceError
        If the device is not there, or nothing can hold results on it.
    """
    if device is None and not any(map(on_gpu, arrays)):
        return None
    number = None if device is None else backend.device_number(device)
    if device is not None and number is None:
        return None
    for array in arrays:
        if on_gpu(array):
            wrapped = wrap(array, "array")
            backend.cuda()
            named = device is not None and device != "cuda"
            return Place(wrapped.library, number if named else wrapped.device)
    if _import_cupy():
        return Place(_library("cupy"), number)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return Place(_library("torch"), number)
    raise DeviceError(
        f"device {device!r}: CuPy is needed to hold arrays on the GPU; {backend.extra()}"
    )


def split(flat, sizes, square):
    """Views of a flat array: one (n,) or, if ``square``, (n, n) for each of ``sizes``."""
    views, at = [], 0
    for n in sizes:
        count = n * n if square else n
        part = flat[at : at + count]
        views.append(part.reshape(n, n) if square else part)
        at += count
    return views


def check_findings(found, name, n, array=None, codes=None):
    """Raise what the CPU raises for the same input, from what a kernel saw on its way."""
    non_finite, first, outside, first_outside = found
    if non_finite:
        raise InputError(
            f"{name}: NaN or infinity in {non_finite} of {n} rows, first in row {first}; "
            "remove or repair them"
        )
    if outside:
        value = float(array.array[first_outside, int(codes[first_outside])])
        raise InputError(
            f"{name}: {value:.3g} in row {first_outside} is no probability; "
            "use cross_entropy='logits' for states that are not distributions"
        )
