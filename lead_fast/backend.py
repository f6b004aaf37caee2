"""Where work runs: native modules, devices, threads. Nothing else imports the native code."""

import atexit
import contextlib
import functools
import os
import threading

from ._text import one_line
from .errors import DeviceError, InputError, InputTypeError

# Turns for which a thread of OpenMP spins before it sleeps: some 0.1 ms. GCC's own 300000 are
# several milliseconds in which, on a machine that is busy elsewhere, it keeps the core from the
# thread that it waits for.
_SPINS = "2000"


@contextlib.contextmanager
def _short_spins():
    """Say so to GCC's OpenMP, which asks as it is loaded, unless the user has said something."""
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


@functools.cache
def cpu():
    """Load the C++ core (and with it SciPy, whose BLAS it uses)."""
    try:
        with _short_spins():
            from . import _cpu
    except ImportError as error:
        if "LEAD_FAST_ISA" in str(error):
            raise InputError(str(error)) from error
        raise
    return _cpu


BYTES_PER_THREAD = 1 << 20  # 50 us of reading; tests set it to 1


def threads(work=None):
    """Threads that native loops may use: OpenMP's setting, 1 in a forked child.

    Where ``work`` is given, the bytes that are gone through, a thread should have its share of
    them: on a machine that is busy elsewhere the others come some 4 ms late, which is more than all
    the work on small features takes.

    Of OpenMP's own choice, all cores that the process may run on, a container's quota may leave
    fewer: threads beyond it are stopped for most of the time, and waited for.
    """
    most = cpu().max_threads()
    if most > 1 and "OMP_NUM_THREADS" not in os.environ:
        cores, quota = _cores()
        most = min(most, quota) if most == cores else most
    return most if work is None else max(1, min(most, work // BYTES_PER_THREAD))


@functools.cache
def _cores():
    """Cores that this process may run on, and as how many of them it may run."""
    import joblib

    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return own, joblib.cpu_count()


def extra():
    """What to install so that the CUDA backend finds all it needs."""
    major = cpu().build_info()["cuda_version"].split(".")[0]
    return f"pip install 'lead-fast[cuda{major or 13}]'"


def _load_libraries():
    """Bring cuBLAS and cuSOLVER in, before the module that is linked to them by name.

    Torch's copy if torch is loaded, else that of the wheels, of conda, or of the system.
    """
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError as error:
        raise DeviceError(
            f"cuda-pathfinder is needed to find cuBLAS and cuSOLVER; {extra()}"
        ) from error
    for library in ("cublas", "cusolver"):
        try:
            load_nvidia_dynamic_lib(library)
        except Exception as error:
            raise DeviceError(f"{library} was not found; {extra()}") from error


@functools.cache
def cuda():
    """Load the CUDA core. Needs its libraries but no GPU and no driver."""
    info = cpu().build_info()
    if not info["cuda"]:
        raise DeviceError(f"this build has no CUDA backend: {info['cuda_reason']}")
    _load_libraries()
    try:
        from . import _cuda
    except ImportError as error:
        raise DeviceError(
            f"the CUDA backend, built with CUDA {info['cuda_version']}, cannot be loaded "
            f"({one_line(error)}); {extra()}"
        ) from error
    atexit.register(_release)
    return _cuda


def _release():
    with contextlib.suppress(DeviceError, MemoryError):  # the driver may be gone already
        cuda().stop_uploads(1.0)  # of threads that nobody waits for
        cuda().release()


def device_number(device):
    """Return the number of the GPU that ``device=`` names, or None for the CPU.

    Raises
    ------
    DeviceError
        For a device that is not there, naming those that are.
    """
    if device is None or device == "cpu":
        return None
    if not isinstance(device, str):
        raise InputTypeError(f"device must be a string or None, not {type(device).__name__}")
    kind, _, number = device.partition(":")
    if kind != "cuda" or (device != "cuda" and not number.isdecimal()):
        raise DeviceError(f"unknown device {device!r}; devices here: {', '.join(devices())}")
    try:
        count = cuda().device_count()
        if device == "cuda" and count > 0:
            return cuda().current_device()
    except DeviceError as error:
        raise DeviceError(
            f"device {device!r} is not available ({one_line(error)}); devices here: cpu"
        ) from error
    if not number or int(number) >= count:
        raise DeviceError(f"device {device!r} does not exist; devices here: {', '.join(devices())}")
    return int(number)


def devices():
    """Names of the devices that can be used here; starts CUDA's driver."""
    try:
        count = cuda().device_count()
    except DeviceError:
        count = 0
    return ["cpu", *(f"cuda:{i}" for i in range(count))]


def check_device(device):
    """Return the full name of the device to use for ``device=``; raises as device_number."""
    number = device_number(device)
    return "cpu" if number is None else f"cuda:{number}"


@functools.cache
def _blas_pools():
    from threadpoolctl import ThreadpoolController

    cpu()  # the BLAS that it brings must be among the libraries found
    return ThreadpoolController().select(user_api="blas")


_guard = threading.Lock()
_inside = 0
_limit = None


def _take_control():
    """Let the calling thread set the size of BLAS's pool, which the whole process shares.

    threadpoolctl from 3.7 on lets one thread do so and ignores the others without a word; here each
    may be the first in or the last out.
    """
    import threadpoolctl

    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@contextlib.contextmanager
def one_blas_thread():
    """Hold BLAS to one thread: our own loops run one product per thread.

    The limit is a setting of the whole process. Calls may overlap in several Python threads: the
    first one in sets it, the last one out restores what was there.
    """
    global _inside, _limit
    with _guard:
        if _inside == 0:
            _take_control()
            _limit = _blas_pools().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if _inside == 0:
                _take_control()
                _limit.restore_original_limits()
                _limit = None
                _take_control()


def build_info():
    """Describe this build and this process, for bug reports and for choosing what to test.

    Returns
    -------
    dict
        ``version``, ``compiler``, ``flags``, ``build_type``, ``instruction_sets_compiled`` (best
        first), ``instruction_set`` (the one in use; the environment variable ``LEAD_FAST_ISA``
        chooses another), ``processor_features``, ``openmp_version`` (date of the specification),
        ``openmp_threads``, ``blas`` (where SciPy's BLAS comes from), ``cuda`` (whether the CUDA
        backend was built; says nothing of a GPU here), ``cuda_reason`` (how, or why not),
        ``cuda_version`` (of the toolkit) and ``cuda_architectures`` (``90-real`` is code for
        compute capability 9.0, ``120-virtual`` what newer ones compile for themselves).

    Notes
    -----
    Does not start CUDA.

    Examples
    --------
    >>> import lead_fast
    >>> lead_fast.build_info()["cuda"] in (True, False)
    True
    """
    import scipy

    info = dict(cpu().build_info())
    found = scipy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    info["blas"] = {
        "provider": "scipy.linalg.cython_blas",
        "scipy": scipy.__version__,
        "name": found.get("name", "unknown"),
        "version": found.get("version", "unknown"),
        "threads": max((pool["num_threads"] for pool in _blas_pools().info()), default=1),
    }
    return info
