"""Kernels and rates on a GPU, against the float64 reference."""

import numpy as np
import pytest
from gpu import LIBRARIES, Poison, belongs_to, get, library, put
from helpers import (
    assert_close,
    bfloat16_bits,
    class_labels,
    plain_kernel,
    relu_features,
    tolerance,
)
from test_ntk import case, kernel_limit

import lead_fast as lf
from lead_fast import reference
from lead_fast.ntk import kernels_and_rates

pytestmark = pytest.mark.gpu

RATE = 1e-5  # relative; the promise of the package


def check(features, labels, head, values, name, **sampling):
    """class_kernels and class_rates of `features` on the GPU, whose float64 values are `values`."""
    exact = reference.class_kernels(values, labels, head, **sampling)
    limits = kernel_limit(values, labels, head, exact, **sampling)
    Poison(name)
    kernels, rates = kernels_and_rates(features, labels, head, **sampling)
    assert list(kernels) == list(exact)
    for c, kernel in kernels.items():
        assert belongs_to(kernel, name)
        found = get(kernel)
        assert found.dtype == np.float64 and np.array_equal(found, found.T)
        assert_close(found, exact[c], limits[c], f"kernel of class {c}")
    alone = lf.class_rates(features, labels, head, **sampling)
    assert isinstance(alone, np.ndarray) and alone.dtype == np.float64
    exact_rates = reference.class_rates(values, labels, head, **sampling)
    for found in (rates, alone):
        assert_close(found, exact_rates, RATE * exact_rates, "rates")


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("hidden", [(), (33,), (31, 17), (16, 33, 9), (1, 1)])
def test_hidden_layers(hidden, biased):
    features, labels, head = case(13, hidden, (5, 9, 7), biased=biased)
    check(put("torch", features), labels, head, features, "torch")


@pytest.mark.parametrize("n_features", [1, 2, 31, 33, 97, 1025])
def test_feature_widths(n_features):
    features, labels, head = case(n_features, (33, 12), (4, 6), seed=2)
    check(put("torch", features), labels, head, features, "torch")


@pytest.mark.parametrize("counts", [(1, 1), (1, 31), (33, 2, 1), (97, 64, 65), (3,) * 33, (2, 193)])
def test_unequal_classes(counts):
    features, labels, head = case(9, (17, 11), counts, seed=3)
    check(put("torch", features), labels, head, features, "torch", n_samples=1000)


def test_the_default_head():
    features, labels, head = case(24, (1024, 2048), (3, 2), seed=1, biased=False)
    check(put("torch", features), labels, head, features, "torch")


@pytest.mark.parametrize("n_samples", [1, 5, 64])
@pytest.mark.parametrize("name", LIBRARIES)
def test_n_samples(n_samples, name):
    features, labels, head = case(8, (12, 7), (33, 5, 64), seed=4)
    check(put(name, features), labels, head, features, name, n_samples=n_samples, seed=6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_dtypes(name, dtype):
    features, labels, head = case(33, (20, 15), (12, 9, 1), seed=10, dtype=np.float16)
    features = bfloat16_bits(features.astype(np.float32))[1]
    given = put(name, features.astype(np.float32), dtype)
    check(given, labels, head, features, name)


LAYOUTS = {
    "rows apart": lambda a: a[::2],
    "columns apart": lambda a: a[:, ::2],
    "Fortran": lambda a: a.T,
    "offset by one": lambda a: a[:, 1:],
}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(layout, name):
    labels = class_labels((12, 20))
    wide = relu_features(np.zeros(64, int), 64, seed=5)
    view = LAYOUTS[layout]
    values = view(wide)[: len(labels)]
    head = lf.Head(values.shape[1], 2, (20, 15), 1)
    given = view(put(name, wide))[: len(labels)]
    rates = lf.class_rates(given, labels, head)
    exact = reference.class_rates(values, labels, head)
    assert_close(rates, exact, RATE * exact)


@pytest.mark.parametrize("name", LIBRARIES)
def test_input_is_left_alone_and_repeats_to_the_bit(name):
    labels = class_labels((70, 64, 33, 1, 5))
    features = relu_features(labels, 129)
    given = put(name, features)
    head = lf.Head(129, 5, (130, 65), device="cuda")
    runs = []
    for _ in range(3):
        kernels, rates = kernels_and_rates(given, labels, head)
        runs.append([rates.tobytes(), *(get(k).tobytes() for k in kernels.values())])
        assert lf.class_rates(given, labels, head).tobytes() == rates.tobytes()
    assert runs[0] == runs[1] == runs[2]
    assert np.array_equal(get(given), features)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_numpy_features_are_moved(dtype):
    labels = class_labels((40, 9))
    features = relu_features(labels, 33).astype(np.float16)
    values = features.astype(np.float64)
    given = features.astype(dtype) if dtype != "bfloat16" else None
    if given is None:
        bits, values = bfloat16_bits(features.astype(np.float32))
        given = lf.features.Features(bits, "bfloat16")
    head = lf.Head(33, 2, (20, 15))
    exact = reference.class_rates(values, labels, head)
    assert_close(lf.class_rates(given, labels, head, device="cuda"), exact, RATE * exact)
    kernels = lf.class_kernels(given, labels, head, device="cuda")
    exact = reference.class_kernels(values, labels, head)
    for c, kernel in kernels.items():
        rows = reference.sample_rows(labels)[c]
        limit = tolerance(exact[c], plain_kernel(values[rows], head.weights, head.biases))
        assert_close(get(kernel), exact[c], limit)


@pytest.mark.parametrize("name", LIBRARIES)
def test_device_cpu_moves_back(name):
    labels = class_labels((12, 9))
    features = relu_features(labels, 17)
    head = lf.Head(17, 2, (9,))
    expected = lf.class_rates(features, labels, head)
    found = lf.class_rates(put(name, features), labels, head, device="cpu")
    assert found.tobytes() == expected.tobytes()


def test_labels_on_the_gpu():
    labels = class_labels((12, 9))
    features = relu_features(labels, 17)
    head = lf.Head(17, 2, (9,))
    for name in LIBRARIES:
        given = put(name, features)
        expected = lf.class_rates(given, labels, head)
        assert lf.class_rates(given, put(name, labels), head).tobytes() == expected.tobytes()


def test_the_callers_stream_is_used():
    """The features are still being written on a side stream when the call is made."""
    torch = library("torch")
    labels = class_labels((64, 64))
    features = relu_features(labels, 512)
    head = lf.Head(512, 2, device="cuda")
    expected = lf.class_rates(put("torch", features), labels, head)
    source, target = put("torch", features), put("torch", np.zeros_like(features))
    ballast = torch.ones((4096, 4096), device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            ballast = ballast @ ballast * 1e-4
        target.copy_(source)
        found = lf.class_rates(target, labels, head)
    assert found.tobytes() == expected.tobytes()


def test_tf32_is_off_unless_asked_for():
    labels = class_labels((64, 64))
    features = relu_features(labels, 2048)
    head = lf.Head(2048, 2)
    exact = reference.class_rates(features, labels, head)
    given = put("torch", features)
    assert_close(lf.class_rates(given, labels, head), exact, RATE * exact)
    allowed = lf.class_rates(given, labels, head, allow_tf32=True)
    assert_close(allowed, exact, 1e-2 * exact)


def test_more_rows_than_one_group():
    """400 classes of 64 do not fit into the scratch memory at once."""
    labels = np.repeat(np.arange(400), 64)
    features = relu_features(labels, 64)
    head = lf.Head(64, 400)
    given = put("torch", features)
    kernels, rates = kernels_and_rates(given, labels, head)
    expected = lf.class_rates(features, labels, head)
    assert_close(rates, expected, RATE * expected)
    assert_close(lf.class_rates(given, labels, head), expected, RATE * expected)
    for c in (0, 199, 399):
        assert_close(np.trace(get(kernels[c])) / 64, expected[c], RATE * expected[c])


def test_rows_past_two_to_the_31_numbers():
    torch = library("torch")
    n_features = 2048
    n_rows = 2**31 // n_features + 40
    features = torch.zeros((n_rows, n_features), dtype=torch.float16, device="cuda")
    labels = np.zeros(n_rows, np.int8)
    labels[-20:] = 1
    tail = relu_features(np.ones(20, int), n_features, dtype=np.float16)
    features[-20:] = put("torch", tail)
    head = lf.Head(n_features, 2, hidden=(9,), seed=1)
    rates = lf.class_rates(features, labels, head)
    assert rates[0] == 2.0  # zero rows: K
    exact = reference.class_rates(tail, np.ones(20), head)
    assert_close(rates[1:], exact, RATE * exact)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(name, value):
    features = relu_features(class_labels((6, 6)), 8)
    features[3, 2] = features[7, 0] = value
    head = lf.Head(8, 2, (5,))
    for call in (lf.class_rates, lf.class_kernels):
        with pytest.raises(lf.errors.InputError, match="2 of 12 rows, first in row 3"):
            call(put(name, features), np.arange(12) % 2, head)


def test_overflow_is_said_to_be_one():
    """Of the kernel's float32 products; the squares behind the rates are summed in float64."""
    features, labels, head = np.full((4, 8), 1e30, np.float32), [0, 0, 1, 1], lf.Head(8, 2, (5,))
    with pytest.raises(lf.errors.InputError, match="overflow"):
        lf.class_kernels(put("torch", features), labels, head)
    exact = reference.class_rates(features, labels, head)
    assert_close(lf.class_rates(put("torch", features), labels, head), exact, RATE * exact)
    with pytest.raises(lf.errors.InputError, match="overflow"):
        lf.class_rates(put("torch", np.full_like(features, 3e38)), labels, head)


def test_wrong_shapes():
    head = lf.Head(8, 2, (5,))
    for shape in ((4,), (4, 8, 1), (0, 8), (4, 0), (4, 7)):
        with pytest.raises(lf.errors.InputError):
            lf.class_rates(put("torch", np.ones(shape, np.float32)), [0, 0, 1, 1], head)
    with pytest.raises(lf.errors.InputTypeError, match="complex"):
        lf.class_rates(put("torch", np.ones((4, 8), np.complex64)), [0, 0, 1, 1], head)
