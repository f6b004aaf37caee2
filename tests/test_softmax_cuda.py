"""A pass of softmax regression on a GPU against the processor's."""

import numpy as np
import pytest

from lead_fast import backend
from lead_fast.metrics import _native
from lead_fast.svm_arrays import native

pytestmark = pytest.mark.gpu

# The second has kernels of its own for the products with up to 16 classes.
SIZES = [
    (1, 1, 2),
    (97, 33, 3),
    (130, 256, 10),
    (300, 19, 32),
    (41, 260, 33),
    (75, 5, 301),
    (20_000, 2, 3),
]  # the last goes more than once over any GPU
LIMIT = {"float32": 1e-6, "float64": 1e-13}


@pytest.fixture
def kernels():
    return native.kernels(pytest.importorskip("cupy"))


def problem(rng, n, d, k, dtype, far=1.0):
    x = rng.standard_normal((n, d)).astype(dtype)
    codes = rng.integers(0, k, n)
    return x, codes, far * rng.standard_normal((k, d)), rng.standard_normal(k)


def on_the_gpu(kernels, x, codes, weights, bias):
    put = kernels.xp.asarray
    weight = 1.0 + (x.astype(np.float64) ** 2).sum(axis=1)
    given = [put(a) for a in (x, codes, weight, weights, bias)]
    return [a.get() for a in _native.softmax_pass(kernels, *given)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "k"), SIZES)
def test_as_on_the_cpu(kernels, rng, n, d, k, dtype):
    x, codes, weights, bias = problem(rng, n, d, k, dtype)
    totals, gradient, of_bias = on_the_gpu(kernels, x, codes, weights, bias)
    loss, exact, exact_of_bias, curvature = backend.cpu().softmax_pass(
        x, dtype, codes.astype(np.int32), np.zeros(d), np.ones(d), weights, bias, True, True, 1
    )
    limit = LIMIT[dtype]
    np.testing.assert_allclose(totals, [loss, curvature], rtol=30 * limit, atol=limit)
    # By the sizes of what is added up, and by roundings of the logits.
    size = np.abs(x).sum(axis=0) * (1 + np.sqrt(d))
    assert (np.abs(gradient - exact) <= 3 * limit * size).all()
    assert (np.abs(of_bias - exact_of_bias) <= 3 * limit * n * (1 + np.sqrt(d))).all()
    again = on_the_gpu(kernels, x, codes, weights, bias)
    for one, other in zip((totals, gradient, of_bias), again, strict=True):
        assert one.tobytes() == other.tobytes()


def test_far_from_the_other_classes(kernels, rng):
    """Logits of thousands: 1 - p of a sample that is sure keeps its digits."""
    n, d, k = 50, 6, 4
    x, codes, weights, bias = problem(rng, n, d, k, "float64", far=500.0)
    totals, gradient, of_bias = on_the_gpu(kernels, x, codes, weights, bias)
    loss, exact, exact_of_bias, curvature = backend.cpu().softmax_pass(
        x, "float64", codes.astype(np.int32), np.zeros(d), np.ones(d), weights, bias, True, True, 1
    )
    np.testing.assert_allclose(totals, [loss, curvature], rtol=1e-9)
    np.testing.assert_allclose(gradient, exact, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(of_bias, exact_of_bias, rtol=1e-9, atol=1e-12)


def test_slopes_of_samples_that_are_sure_keep_their_digits(kernels, rng):
    n, d, k = 50, 6, 4
    x, codes, weights, bias = problem(rng, n, d, k, "float64", far=15.0)
    logits = x @ weights.T + bias
    first, second = np.sort(logits, axis=1)[:, -1:-3:-1].T
    sure = (first - second > 30) & (first - second < 100)
    x, codes = x[sure], logits[sure].argmax(axis=1)
    assert len(x) > 5
    found = on_the_gpu(kernels, x, codes, weights, bias)
    loss, *exact, curvature = backend.cpu().softmax_pass(
        x, "float64", codes.astype(np.int32), np.zeros(d), np.ones(d), weights, bias, True, True, 1
    )
    assert 0 < abs(exact[1]).max() < 1e-10
    # The processor's loss has the logarithm of 1 + others, in which they are rounding.
    np.testing.assert_allclose(found[0], [loss, curvature], rtol=1e-9, atol=1e-14)
    for one, other in zip(found[1:], exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_numbers_that_are_none_are_seen(kernels, rng):
    x, codes, weights, bias = problem(rng, 40, 256, 3, "float32")
    weights[1, 7] = np.inf
    totals, *_ = on_the_gpu(kernels, x, codes, weights, bias)
    assert np.isnan(totals[0])


def test_arrays_that_do_not_fit_are_refused(kernels, rng):
    x, codes, weights, bias = problem(rng, 40, 5, 3, "float32")
    with pytest.raises(ValueError, match="weights has another shape"):
        on_the_gpu(kernels, x, codes, weights[:, :4], bias)
    with pytest.raises(ValueError, match="labels must be int64"):
        on_the_gpu(kernels, x, codes.astype(np.int32), weights, bias)
    with pytest.raises(ValueError, match="float32 or float64"):
        on_the_gpu(kernels, x.astype(np.float16), codes, weights, bias)
