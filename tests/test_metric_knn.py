"""Nearest neighbours against all distances, over tiles, ties and votes."""

import numpy as np
import pytest
from helpers import relu_features

import lead_fast as lf
from lead_fast.errors import InputError, InputTypeError, SaturationWarning
from lead_fast.metrics import knn


def reference(x, y, k=1, distance="euclidean"):
    x = np.asarray(x, np.float64)
    if distance == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
        d = 1 - x @ x.T
    else:
        d = ((x[:, None] - x) ** 2).sum(axis=2)
    np.fill_diagonal(d, np.inf)
    right = 0
    for i in range(len(x)):
        near = y[np.argsort(d[i], kind="stable")[:k]]
        counts = {c: (near == c).sum() for c in near}
        best = max(counts.values())
        right += next(c for c in near if counts[c] == best) == y[i]
    return right / len(x)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n", [31, 33, 97])
def test_reference(n, k, distance, monkeypatch):
    labels = np.arange(n) % 3
    x = relu_features(labels, 7, seed=4, dtype=np.float64)
    expected = reference(x, labels, k, distance)
    assert 0 < expected < 1
    for tile in (8, 32, 2048):
        monkeypatch.setattr(knn, "_TILE", tile)
        options = dict(k=k, distance=distance, dtype="float64")
        assert lf.score(x, labels, "knn", **options) == expected


def test_float32_and_a_far_origin(rng):
    labels = np.arange(400) % 4
    x = rng.standard_normal((400, 20)) + 1.5 * np.eye(4, 20)[labels]
    expected = reference(x, labels)
    assert lf.score(x, labels, "knn") == expected
    # Far from the origin norms cancel; the mean is taken out first. One in 400 may flip by the
    # rounding of x itself, which is 1e-5 here.
    assert abs(lf.score(np.float32(x + 100), labels, "knn") - expected) <= 1.5 / 400


def test_ties_go_to_the_first(monkeypatch):
    x = np.zeros((6, 2))
    labels = np.array([0, 1, 1, 0, 1, 0])
    for tile in (2, 3, 2048):
        monkeypatch.setattr(knn, "_TILE", tile)
        # everybody's nearest is sample 0, whose own nearest is sample 1
        assert lf.score(x, labels, "knn") == np.mean([False, False, False, True, False, True])


def test_classes_of_one_sample_are_wrong(rng):
    assert lf.score(rng.standard_normal((5, 2)), np.arange(5), "knn") == 0.0


def test_saturation_and_options():
    x = np.array([[0.0], [0.1], [5.0], [5.1]])
    with pytest.warns(SaturationWarning, match="every sample"):
        assert lf.score(x, [0, 0, 1, 1], "knn") == 1.0
    with pytest.raises(InputError, match="k"):
        lf.score(x, [0, 0, 1, 1], "knn", k=4)
    with pytest.raises(InputTypeError, match="k"):
        lf.score(x, [0, 0, 1, 1], "knn", k=1.0)
    with pytest.raises(InputError, match="cosine"):
        lf.score(x, [0, 0, 1, 1], "knn", distance="l3")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ties_of_exact_numbers_are_ties(rng, dtype):
    """The mean of integers is none: what is taken off must leave equal distances equal."""
    x, labels = np.array([[3], [2], [2], [1], [3], [0]]), np.array([1, 1, 1, 1, 0, 0])
    assert lf.score(x, labels, "knn", dtype=dtype) == reference(x, labels) == 0.5
    labels = np.arange(90) % 3
    for x in (
        rng.standard_normal((90, 10)) > 0,
        rng.random((90, 10)) < np.linspace(0.02, 0.9, 10),
        rng.integers(-3, 9, (90, 4)) + 1000,
        rng.integers(0, 5, (90, 3)) / 8,
    ):
        for k in (1, 3):
            assert lf.score(x, labels, "knn", k=k, dtype=dtype) == reference(x, labels, k)
