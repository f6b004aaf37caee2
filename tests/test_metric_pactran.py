"""PACTran against the public code at its optimum, and the pass over the features."""

import golden
import numpy as np
import pytest
from helpers import EPS32, class_labels, relu_features, threads
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

import lead_fast as lf
from lead_fast import backend
from lead_fast import reference_metrics as reference
from lead_fast.errors import ConvergenceWarning, ScoreWarning

PACTran = lf.metrics.get("pactran")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    if "pactran_xent_l1" not in golden.GOLDEN[model]:
        pytest.skip("the public code did not converge")
    features, labels = golden.load(model)
    metric = PACTran(labels, dtype=dtype)
    golden.assert_golden(metric(features), model, "pactran_gauss_l1_s100", dtype)
    without = PACTran(labels, dtype=dtype, flatness=False)
    golden.assert_golden(without(features), model, "pactran_xent_l1", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "counts, d",
    [([40, 50], 8), ([90, 5, 3], 30), ([1, 40, 31], 3), ([10] * 10, 20), ([20, 13], 64)],
)
def test_reference(counts, d, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3)
    x[:, 0] += 100.0
    x[:, -1] = 3.0
    for options in ({}, {"lambda_factor": 0.1}, {"lambda_factor": 10.0, "s2_factor": 3.0}):
        expected = reference.pactran(
            x, labels, options.get("lambda_factor", 1.0),
            options.get("s2_factor", 100.0 * options.get("lambda_factor", 1.0)),
        )  # fmt: skip
        # A ConvergenceWarning is an error in these tests.
        score = lf.score(x, labels, "pactran", dtype=dtype, **options)
        without = lf.score(x, labels, "pactran", dtype=dtype, flatness=False, **options)
        limit = 1e-7 if dtype == "float64" else 1e-4  # the reference stops at a gradient of 1e-10
        assert abs(score - expected[0]) <= limit * abs(expected[0])
        assert abs(without - expected[1]) <= limit * abs(expected[1])


def by_hand(x, labels, weights, bias):
    z = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    scores = z @ weights.T + bias
    p = softmax(scores, axis=1)
    error = p - np.eye(len(bias))[labels]
    loss = -log_softmax(scores, axis=1)[np.arange(len(x)), labels].sum()
    curvature = ((p - p**2).sum(axis=1) * ((z**2).sum(axis=1) + 1)).sum()
    return loss, error.T @ z, error.sum(axis=0), curvature


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("n, d, k", [(1, 1, 2), (31, 5, 3), (97, 33, 7), (1025, 600, 12)])
def test_pass(n, d, k, exact, dtype, rng):
    labels = rng.integers(0, k, n).astype(np.int32)
    x = relu_features(labels, d).astype(dtype)
    weights, bias = rng.standard_normal((k, d)) / d**0.5, rng.standard_normal(k)
    mean = x.mean(axis=0, dtype=np.float64)
    loss, gradient, of_bias, curvature = backend.cpu().softmax_pass(
        x, dtype, labels, mean, np.ones(d), weights, bias, exact, True, 2
    )
    expected = by_hand(x, labels, weights, bias)
    size = np.abs(x.astype(np.float64) - mean).sum(axis=0).max() + n
    limit = (1e-14 if exact else 8 * EPS32) * size * d**0.5
    assert abs(loss - expected[0]) <= limit
    assert np.abs(gradient - expected[1]).max() <= limit
    assert np.abs(of_bias - expected[2]).max() <= limit
    assert abs(curvature - expected[3]) <= limit * d**0.5


def test_slopes_of_samples_that_are_sure_keep_their_digits(rng):
    x, weights = rng.standard_normal((40, 6)), 15.0 * rng.standard_normal((4, 6))
    logits = x @ weights.T
    first, second = np.sort(logits, axis=1)[:, -1:-3:-1].T
    x, logits = (part[first - second > 38] for part in (x, logits))
    labels = logits.argmax(axis=1).astype(np.int32)
    assert len(x) > 5
    _, _, of_bias, _ = backend.cpu().softmax_pass(
        x, "float64", labels, np.zeros(6), np.ones(6), weights, np.zeros(4), True, True, 1
    )
    p = softmax(logits, axis=1)
    p[np.arange(len(x)), labels] = 0.0
    p[np.arange(len(x)), labels] = -p.sum(axis=1)
    np.testing.assert_allclose(of_bias, p.sum(axis=0), rtol=1e-9)


def test_threads_give_the_same_bits():
    labels = class_labels([200, 150, 3])
    x = relu_features(labels, 20)
    scores = set()
    for count in (1, 2, 3):
        with threads(count):
            scores.add(lf.score(x, labels, "pactran"))
    assert len(scores) == 1


def test_stopping_short_warns():
    labels = class_labels([50, 50])
    with pytest.warns(ConvergenceWarning, match="3 passes left a gain"):
        lf.score(relu_features(labels, 20, spread=0.2), labels, "pactran", max_passes=3)


def test_fewer_samples_than_features_warn():
    labels = class_labels([15, 15])
    with pytest.warns(ScoreWarning, match="fewer samples"):
        lf.score(relu_features(labels, 64), labels, "pactran")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("flatness", [True, False])
def test_the_public_codes_steps(dtype, flatness):
    labels = class_labels([90, 50, 70])
    x = relu_features(labels, 24, spread=0.5)
    found = lf.score(x, labels, "pactran", steps=10, flatness=flatness, dtype=dtype)
    expected = by_steps(x.astype(np.float64), labels, 10, flatness)
    assert abs(found - expected) <= (1e-7 if dtype == "float64" else 1e-4) * abs(expected)
    # Enough steps reach the optimum from any start; the objective alone is unique there.
    for seed in (0, 1):
        far = lf.score(x, labels, "pactran", steps=2000, seed=seed, flatness=False)
        assert abs(far - lf.score(x, labels, "pactran", flatness=False)) <= 1e-3 * abs(far)
    assert found != lf.score(x, labels, "pactran", steps=10, seed=1, flatness=flatness, dtype=dtype)


def by_steps(x, labels, steps, flatness):
    """L-BFGS-B on weights (D, K) and biases from the same draws, and the bound."""
    (n, d), k = x.shape, labels.max() + 1
    x = x - x.mean(axis=0)
    hot = np.eye(k)[labels]

    def loss(theta):
        weights = theta.reshape(d + 1, k)
        log_p = log_softmax(x @ weights[:d] + weights[d], axis=1)
        error = (np.exp(log_p) - hot) / n
        slope = np.vstack([x.T @ error + weights[:d] / n, error.sum(axis=0)])
        return -(hot * log_p).sum() / n + 0.5 * (weights[:d] ** 2).sum() / n, slope.ravel()

    start = np.zeros((d + 1, k))
    start[:d] = 0.03 * np.random.default_rng(0).standard_normal((d, k))
    found = minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B", tol=1e-6, options={"maxiter": steps}
    )
    weights = found.x.reshape(d + 1, k)
    p = softmax(x @ weights[:d] + weights[d], axis=1)
    curvature = ((p - p**2).sum(axis=1) * ((x**2).sum(axis=1) + 1)).sum() + d * k / n
    term = 0.5 * k * d / n * (100.0 / d) * np.log(curvature * n / (k * d)) if flatness else 0.0
    return -(found.fun + term)


@pytest.mark.parametrize("size", [10.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", [0, 3, 5])
def test_rounding_of_a_small_loss_is_no_failure(seed, dtype, size):
    """Separable classes: the loss goes to 0, its rounding does not. A warning is an error here."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    x = size * (rng.standard_normal((90, 10)) + 2 * np.eye(3, 10)[labels])
    assert np.isfinite(lf.score(x, labels, "pactran", dtype=dtype))
