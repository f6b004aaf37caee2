"""Where work runs: native modules, devices, threads. Nothing else imports the native code."""

import contextlib
import functools
import threading

from .errors import DeviceError, InputError, InputTypeError


@functools.cache
def cpu():
    """Load the C++ core (and with it SciPy, whose BLAS it uses)."""
    try:
        from . import _cpu
    except ImportError as error:
        if "LEAD_FAST_ISA" in str(error):
            raise InputError(str(error)) from error
        raise
    return _cpu


def threads():
    """Threads that native loops may use: OpenMP's setting, 1 in a forked child."""
    return cpu().max_threads()


def check_device(device):
    """Return the name of the device to use for ``device=``.

    Raises
    ------
    DeviceError
        For a device that is not there, naming those that are.
    """
    if device is None or device == "cpu":
        return "cpu"
    if not isinstance(device, str):
        raise InputTypeError(f"device must be a string or None, not {type(device).__name__}")
    if device == "cuda" or device.startswith("cuda:"):
        reason = cpu().build_info()["cuda_reason"]
        raise DeviceError(f"device {device!r} is not available ({reason}); devices here: cpu")
    raise DeviceError(f"unknown device {device!r}; devices here: cpu")


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
        ``openmp_threads``, ``blas`` (where SciPy's BLAS comes from), ``cuda`` (bool) and
        ``cuda_reason``.

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
