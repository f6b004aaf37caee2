"""LogME against the public implementation, against dense linear algebra, and at the edges."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast.errors import InputError, InputTypeError, ScoreWarning


def reference(x, targets, method):
    """Mean evidence of each column of `targets`, from eigenvectors of X^T X, every D of them."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0)
    evidences = []
    for y in targets.T:
        alpha = beta = 1.0
        for _ in range(11):
            t = alpha / beta
            m = vectors @ ((vectors.T @ (x.T @ y)) / (values + t))
            gamma = (values / (values + t)).sum()
            size, residual = m @ m, ((y - x @ m) ** 2).sum()
            alpha, beta = gamma / (size + 1e-5), (n - gamma) / (residual + 1e-5)
            change = abs(alpha / beta - t) / t
            if (change < 1e-2) if method == "icml" else (change <= 1e-3):
                break
        if method == "icml":
            size, residual = size + 1e-5, residual + 1e-5
        count = d if method == "icml" else min(n, d)
        determinant = np.log(alpha + beta * values[d - count :]).sum()
        evidence = d * np.log(alpha) + n * np.log(beta) - determinant - beta * residual
        evidences.append((evidence - alpha * size - n * np.log(2 * np.pi)) / (2 * n))
    return np.mean(evidences)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    features, labels = golden.load(model)
    golden.assert_golden(lf.score(features, labels, "logme", dtype=dtype), model, "logme", dtype)


@pytest.mark.parametrize("method", ["fixed-point", "icml"])
@pytest.mark.parametrize("shape", [(97, 31), (33, 33), (31, 97), (1025, 16), (4, 3)])
@pytest.mark.filterwarnings("ignore:fewer samples")
def test_reference(shape, method):
    n, d = shape
    labels = np.arange(n) % 3
    x = relu_features(labels, d, seed=1, dtype=np.float64)
    expected = reference(x, np.eye(3)[labels], method)
    # Forming X^T X squares a condition number; 1e-9 leaves room for one of 1e3.
    assert abs(lf.score(x, labels, "logme", method=method, dtype="float64") - expected) <= (
        1e-9 * max(1.0, abs(expected))
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_multi_label(rng, dtype):
    targets = (rng.random((120, 5)) < 0.4).astype(np.int8)
    x = rng.standard_normal((120, 17)) + targets @ rng.standard_normal((5, 17))
    expected = reference(x, targets.astype(float), "fixed-point")
    score = lf.score(x, targets, "logme", dtype=dtype)
    assert abs(score - expected) <= (1e-9 if dtype == "float64" else 1e-5) * abs(expected)


def test_one_hot_labels_are_class_labels(rng):
    labels = class_labels([20, 30, 25])
    x = relu_features(labels, 12)
    score = lf.score(x, labels, "logme", dtype="float64")
    assert abs(lf.score(x, np.eye(3)[labels], "logme", dtype="float64") - score) <= 1e-12


def test_refuses_what_is_no_label_matrix(rng):
    x = rng.standard_normal((6, 3))
    for labels in (np.full((6, 2), 2), np.full((6, 2), np.nan), np.full((6, 2), "a")):
        with pytest.raises(InputTypeError, match="0 and 1"):
            lf.score(x, labels, "logme")
    with pytest.raises(InputError, match="labels"):
        lf.score(x, np.zeros((5, 2)), "logme")


def test_fewer_samples_than_features_warns():
    labels = np.arange(10) % 2
    with pytest.warns(ScoreWarning, match="fewer samples"):
        lf.score(relu_features(labels, 20), labels, "logme")


def test_constant_and_repeated_columns(rng):
    labels = class_labels([30, 40])
    x = rng.standard_normal((70, 6)) + labels[:, None]
    padded = np.column_stack([x, np.zeros(70), np.full(70, 3.0), x[:, :2]])
    expected = reference(padded, np.eye(2)[labels], "fixed-point")
    assert abs(lf.score(padded, labels, "logme", dtype="float64") - expected) <= 1e-9


def test_orders_separable_above_noise(rng):
    labels = class_labels([40, 40, 40])
    noise = rng.standard_normal((120, 10))
    scores = [
        lf.score(noise + shift * np.eye(3, 10)[labels], labels, "logme") for shift in (0, 1, 2, 4)
    ]
    assert scores == sorted(scores)
    assert len(set(scores)) == 4


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_features_of_zeros_say_so(shape):
    with pytest.raises(InputError, match="the features are all 0"):
        lf.score(np.zeros(shape), np.arange(shape[0]) % 2, "logme")


def test_what_fits_exactly_takes_float64(rng):
    """float32 resolves what is left over to 1e-7 of the targets, and here that is the score."""
    labels = np.arange(90) % 3
    x = np.tile(rng.standard_normal((9, 10)), (10, 1))
    expected = lf.score(x, labels, "logme", dtype="float64")
    assert abs(lf.score(x, labels, "logme") - expected) <= 1e-9 * expected
