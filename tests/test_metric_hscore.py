"""H-score and its regularised form against the public code, dense algebra, and their bounds."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features
from sklearn.covariance import LedoitWolf

import lead_fast as lf
from lead_fast.errors import SaturationWarning


def reference(x, targets):
    """Trace of cov(f)^+ cov(projection on the targets), the projection by least squares."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0)
    y = targets - targets.mean(axis=0)
    projected = y @ np.linalg.lstsq(y, x, rcond=None)[0]
    return np.trace(np.linalg.pinv(x.T @ x, rcond=1e-12, hermitian=True) @ projected.T @ projected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["hscore", "hscore_regularized"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, name, dtype):
    features, labels = golden.load(model)
    golden.assert_golden(lf.score(features, labels, name, dtype=dtype), model, name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(97, 31), (1025, 16), (60, 59), (33, 2)])
def test_reference(shape, dtype):
    n, d = shape
    labels = np.arange(n) % 5
    x = relu_features(labels, d, seed=2, dtype=np.float32)
    expected = reference(x, np.eye(5)[labels])
    limit = 1e-8 if dtype == "float64" else 1e-4
    assert abs(lf.score(x, labels, "hscore", dtype=dtype) - expected) <= limit * expected


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_singular_covariance(rng, dtype):
    labels = class_labels([40, 50, 60])
    x = rng.standard_normal((150, 6)) + labels[:, None]
    expected = reference(x, np.eye(3)[labels])
    repeated = np.column_stack([x, x[:, :3] @ rng.standard_normal((3, 4)), np.full(150, 7.5)])
    # The dependent columns are rounded to float64, so they depend to 1e-16 only.
    assert abs(lf.score(repeated, labels, "hscore", dtype=dtype) - expected) <= 1e-6 * expected


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ill_conditioned_covariance(rng, dtype):
    labels = class_labels([80, 80])
    x = rng.standard_normal((160, 5))
    x[:, 0] += 1e-4 * rng.standard_normal(160) + 1e-3 * labels  # beside a copy of what it was
    x = np.column_stack([x, x[:, 0] - 1e-3 * labels + 1e-4 * rng.standard_normal(160)])
    expected = reference(x, np.eye(2)[labels])
    assert 0.2 < expected < 1  # the difference of two columns tells the classes apart
    assert abs(lf.score(x, labels, "hscore", dtype=dtype) - expected) <= 1e-6 * expected


@pytest.mark.parametrize("shape", [(20, 20), (20, 21), (20, 90)])
def test_bound_with_few_samples(shape, rng):
    labels = np.arange(20) % 4
    x = rng.standard_normal(shape)
    with pytest.warns(SaturationWarning, match="more samples"):
        score = lf.score(x, labels, "hscore", dtype="float64")
    assert abs(score - 3) <= 1e-9
    assert lf.Scorer(labels, "hscore")._metric.upper_bound == 3


def test_few_samples_of_low_rank(rng):
    labels = np.arange(30) % 3
    x = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 60))
    expected = reference(x, np.eye(3)[labels])
    assert expected < 1.5
    assert abs(lf.score(x, labels, "hscore", dtype="float64") - expected) <= 1e-9


def test_multi_label(rng):
    targets = (rng.random((200, 4)) < 0.5).astype(float)
    x = rng.standard_normal((200, 9)) + targets @ rng.standard_normal((4, 9))
    expected = reference(x, targets)
    assert abs(lf.score(x, targets, "hscore", dtype="float64") - expected) <= 1e-9 * expected
    wide = rng.standard_normal((50, 80))
    with pytest.warns(SaturationWarning):
        assert abs(lf.score(wide, targets[:50], "hscore", dtype="float64") - 4) <= 1e-8


def test_multi_label_with_repeated_columns(rng):
    targets = (rng.random((100, 2)) < 0.5).astype(int)
    x = rng.standard_normal((100, 5))
    score = lf.score(x, targets, "hscore", dtype="float64")
    repeated = np.column_stack([targets, targets[:, 0], 1 - targets[:, 1], np.ones(100, int)])
    assert abs(lf.score(x, repeated, "hscore", dtype="float64") - score) <= 1e-9


@pytest.mark.parametrize("shape", [(97, 31), (31, 97)])
def test_regularized_reference(shape, rng):
    labels = np.arange(shape[0]) % 4
    x = rng.standard_normal(shape) * np.geomspace(1, 5, shape[1])
    centred = x - x.mean(axis=0)
    found = LedoitWolf().fit(centred)
    means = np.stack([centred[labels == c].mean(axis=0) for c in range(4)])[labels]
    inverse = np.linalg.inv(found.covariance_)
    expected = np.trace(inverse @ ((1 - found.shrinkage_) * np.cov(means, rowvar=False)))
    score = lf.score(x, labels, "hscore_regularized", dtype="float64")
    assert abs(score - expected) <= 1e-10 * expected


def test_constant_features_score_nothing():
    labels = np.arange(12) % 3
    for name in ("hscore", "hscore_regularized"):
        assert lf.score(np.full((12, 4), 2.5), labels, name) == 0.0


def test_the_rank_of_the_features_is_a_bound_too(rng):
    x = rng.standard_normal((30, 5))
    x = np.column_stack([x, x[:, 0] + x[:, 1], np.ones(30)])
    with pytest.warns(SaturationWarning, match="5, the most is 5"):
        assert abs(lf.score(x, np.arange(30), "hscore") - 5) <= 1e-9
