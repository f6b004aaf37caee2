"""k-means against scikit-learn's, and what its bounds must not change."""

import numpy as np
import pytest
from helpers import threads
from sklearn.cluster import KMeans

from lead_fast import backend
from lead_fast.metrics._kmeans import lloyd


def blobs(n, d, k, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    centres = spread * rng.standard_normal((k, d))
    return centres[np.arange(n) % k] + rng.standard_normal((n, d)), rng


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "d", "k", "spread"),
    [(3000, 40, 7, 0.3), (500, 3, 20, 1.0), (1100, 130, 50, 0.1), (65, 1, 2, 3.0), (40, 17, 1, 1)],
)
def test_clusters_of_scikit_learn(n, d, k, spread, dtype):
    z, rng = blobs(n, d, k, spread=spread)
    z = z.astype(dtype)
    first = z[rng.choice(n, k, replace=False)]
    # Of the float32 numbers in float64: rounding must not decide which of two paths is taken.
    exact = KMeans(k, init=first.astype(np.float64), n_init=1).fit(z.astype(np.float64))
    found = lloyd(z, first)
    assert found.dtype == np.int32
    assert np.mean(found == exact.labels_) >= (1 if dtype == np.float64 else 0.99)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_spare_no_sample_that_would_move(dtype, rng):
    """Every round's labels are those of all distances."""
    z, _ = blobs(2000, 32, 9, spread=0.2)
    z = z.astype(dtype)
    k, centre, label = 9, z[:9].copy(), np.full(len(z), -1, np.int32)
    upper, lower = np.empty((2, len(z)), dtype)
    total, count, moved = np.zeros(centre.shape), np.zeros(k, np.int64), np.zeros(k, dtype)
    for _ in range(30):
        before = label.copy()
        changed = backend.cpu().kmeans_round(z, centre, moved, label, upper, lower, total, count, 2)
        assert changed == (before != label).sum()
        distance = np.linalg.norm(z[:, None].astype(np.float64) - centre, axis=2)
        own = distance[np.arange(len(z)), label]
        assert (own <= distance.min(axis=1) * (1 + 1e-5)).all()
        distance[np.arange(len(z)), label] = np.inf
        assert (own <= upper * (1 + 1e-4)).all()
        assert (distance.min(axis=1) >= lower * (1 - 1e-4)).all()
        assert np.array_equal(count, np.bincount(label, minlength=k))
        for c in range(k):
            np.testing.assert_allclose(total[c], z[label == c].sum(axis=0), atol=1e-3)
        step = rng.standard_normal(centre.shape) * rng.choice([0.0, 0.01, 0.1], (k, 1))
        gone = (centre + step).astype(dtype)
        moved = np.linalg.norm((gone - centre).astype(np.float64), axis=1).astype(dtype) * (
            1 + dtype(1e-6)
        )
        centre = gone


def test_same_bits_for_any_number_of_threads():
    z, rng = blobs(5000, 50, 12, spread=0.2)
    first = z[rng.choice(len(z), 12, replace=False)].astype(np.float32)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(lloyd(z.astype(np.float32), first).tobytes())
    assert found[0] == found[1] == found[2]


def test_a_cluster_that_loses_its_samples_keeps_its_centre():
    z = np.array([[0.0], [0.1], [10.0], [10.1]])
    first = np.array([[0.0], [10.0], [5e3]])
    assert lloyd(z, first).tolist() == [0, 0, 1, 1]
    same = np.ones((70, 5), np.float32)
    assert lloyd(same, same[:6]).tolist() == [0] * 70


def test_bad_arguments_are_refused():
    z, label = np.zeros((4, 16)), np.zeros(4, np.int32)
    good = [z, z[:2], np.zeros(2), label, z[:, 0].copy(), z[:, 1].copy(), np.zeros((2, 16)),
            np.zeros(2, np.int64), 1]  # fmt: skip
    for place, bad in [
        (0, z[:, :15].copy()), (1, np.zeros((2, 15))), (2, np.zeros(3)), (3, label + 2),
        (3, label - 2), (4, np.zeros(3)), (6, np.zeros((2, 16), np.float32)), (8, 0),
    ]:  # fmt: skip
        arguments = list(good)
        arguments[place] = bad
        with pytest.raises((ValueError, TypeError), match="kmeans_round"):
            backend.cpu().kmeans_round(*arguments)
