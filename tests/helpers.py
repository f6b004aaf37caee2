"""What several test files share: data that looks like features, tolerances, comparators."""

import contextlib
import functools

import numpy as np
import threadpoolctl

import lead_fast
from lead_fast import backend

FORMS = [(svm, hinge) for svm in ("ww", "ovr", "cs") for hinge in (1, 2)]

# Row counts off every block size, and past a thousand.
ROWS = (1, 31, 33, 97, 1025)

EPS32 = float(np.finfo(np.float32).eps)
EPS64 = float(np.finfo(np.float64).eps)


# ------------------------------------------------------------------------------------------- data


def class_labels(counts, seed=0):
    """Shuffled class numbers, `counts[c]` of class c."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


def relu_features(labels, n_features, *, seed=0, spread=1.0, dtype=np.float32):
    """Features as a backbone leaves them behind its last ReLU.

    About 70 % zeros, non-negative, a decaying spectrum, one centre per class; `spread` is the
    distance of the centres in units of the noise.
    """
    rng = np.random.default_rng([seed, n_features])
    labels = np.asarray(labels)
    rank = min(n_features, 256)
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(rank))
    centres = spread * rng.normal(size=(labels.max() + 1, rank))
    latent = (rng.normal(size=(len(labels), rank)) + centres[labels]) * spectrum
    before = latent @ rng.normal(size=(rank, n_features))
    before /= np.sqrt(np.mean(before**2))
    return np.maximum(before - 0.52, 0.0).astype(dtype)  # 0.52: the 70 % quantile of a normal


ZOO_LABELS = np.arange(60) % 3


def zoo_features(seed, width=8):
    """Features for ZOO_LABELS of which a larger seed separates the classes better."""
    return relu_features(ZOO_LABELS, width, seed=seed, spread=0.5 * seed)


def bfloat16_bits(features):
    """The bfloat16 numbers below `features` in magnitude, as uint16, and their float64 values."""
    bits = (np.ascontiguousarray(features, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


# ---------------------------------------------------------------------------------------- threads


@contextlib.contextmanager
def threads(count):
    """Run with this many threads in every OpenMP runtime and BLAS of the process, however little.

    So few bytes as tests have would be left to one thread.
    """
    lead_fast.build_info()  # the extension's OpenMP runtime has to be loaded to be limited
    before, backend.BYTES_PER_THREAD = backend.BYTES_PER_THREAD, 1
    try:
        with threadpoolctl.threadpool_limits(limits=count):
            yield
    finally:
        backend.BYTES_PER_THREAD = before


# ------------------------------------------------------------------------------------- tolerances
#
# A tolerance is FACTOR times the error that a plain float32 NumPy version makes against the
# float64 reference on the same data, with a floor of FLOOR_ULPS float32 roundings of the largest
# number, for the data on which the plain version happens to be exact.

FACTOR = 4.0
FLOOR_ULPS = 16.0


def tolerance(exact, plain):
    """Largest allowed error of fast float32 code, from the error of the plain float32 code."""
    exact, plain = np.asarray(exact, np.float64), np.asarray(plain, np.float64)
    error = np.max(np.abs(plain - exact), initial=0.0)
    size = np.max(np.abs(exact), initial=0.0)
    limit = FACTOR * error + FLOOR_ULPS * EPS32 * size
    assert np.isfinite(limit)
    return limit


def assert_close(actual, exact, limit, what=""):
    """Every |actual - exact| <= limit; NaN, infinity or another shape fails."""
    actual, exact = np.asarray(actual, np.float64), np.asarray(exact, np.float64)
    assert actual.shape == exact.shape, f"{what} shape {actual.shape}, expected {exact.shape}"
    error = np.abs(actual - exact)
    ok = error <= limit  # written so that NaN fails
    assert np.all(ok), (
        f"{what} {np.count_nonzero(~ok)} of {ok.size} off by more than {limit}, "
        f"worst {np.max(error)} at {np.unravel_index(np.argmax(error), error.shape)}"
    )


def plain_kernel(features, weights, biases, dtype=np.float32):
    """Kernel of all rows by the layer-wise contraction, every step in `dtype`."""
    activation = np.asarray(features).astype(dtype)
    activations, gates = [], []
    for weight, bias in zip(weights, biases, strict=True):
        activations.append(activation)
        signal = activation @ np.asarray(weight, dtype) + np.asarray(bias, dtype)
        gates.append(signal > 0)
        activation = np.maximum(signal, dtype(0))
    back = np.ones_like(signal)
    kernel = np.zeros((len(back), len(back)), dtype)
    for layer in reversed(range(len(weights))):
        a = activations[layer]
        kernel += (a @ a.T + dtype(1)) * (back @ back.T)
        if layer:
            back = (back @ np.asarray(weights[layer], dtype).T) * gates[layer - 1]
    return kernel


# --------------------------------------------------------------------------------------------- GPU


@functools.cache
def gpu_missing():
    """Why tests marked gpu cannot run here, or None. Starts CUDA's driver where there is one."""
    try:
        backend.device_number("cuda")
    except lead_fast.errors.DeviceError as error:
        return f"no CUDA: {error}"
    return None


# ------------------------------------------------------------------------------------------ errors


def one_line(error):
    """The message of an error, which must be one line of at least a few words."""
    message = str(error)
    assert "\n" not in message and len(message.split()) >= 3, repr(message)
    return message
