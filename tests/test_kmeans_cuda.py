"""k-means on a GPU against the same in array operations, by NumPy."""

import numpy as np
import pytest

from lead_fast.metrics import _mixture_arrays, _native
from lead_fast.svm_arrays import native

pytestmark = pytest.mark.gpu

# Samples, coordinates, clusters; the last has more than a chunk of 128 samples for each lane.
SIZES = [(1, 1, 1), (2, 3, 2), (40, 7, 5), (300, 33, 33), (5000, 4, 70)]


@pytest.fixture
def kernels():
    return native.kernels(pytest.importorskip("cupy"))


def blobs(rng, n, c, count, dtype="float64"):
    """Samples about `count` places, centred."""
    z = rng.standard_normal((n, c)) + 3 * rng.standard_normal((count, c))[rng.integers(0, count, n)]
    return (z - z.mean(axis=0)).astype(dtype)


def drawn(kernels, z, count, seed=0):
    """The first centres on the GPU."""
    given = kernels.xp.asarray(z)
    return _mixture_arrays._first_centres(kernels, given, count, np.random.default_rng(seed)).get()


# The last has chunks of more samples than a block has threads.
@pytest.mark.parametrize(("n", "c", "count"), [*SIZES, (270_001, 1, 3)])
def test_first_centres(kernels, rng, n, c, count):
    z = blobs(rng, n, c, count)
    for seed in range(3 if n < 1000 else 1):
        expected = _mixture_arrays._first_centres(None, z, count, np.random.default_rng(seed))
        found = drawn(kernels, z, count, seed)
        assert np.array_equal(found, expected)
        assert np.array_equal(found, drawn(kernels, z, count, seed))


def test_first_centres_in_float32(kernels, rng):
    """Samples that are as far apart as in float64, whichever roundings choose."""
    z = blobs(rng, 3000, 20, 12, "float32")

    def left(chosen):
        wide = z.astype(np.float64)
        return ((wide[:, None] - wide[chosen]) ** 2).sum(axis=2).min(axis=1).sum()

    expected = _mixture_arrays._first_centres(None, z, 12, np.random.default_rng(0))
    assert left(drawn(kernels, z, 12)) <= 1.1 * left(expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_first_centres_of_few_distinct_samples(kernels, dtype):
    """A sample that is a centre already is drawn again only where there is no other."""
    z = np.repeat(np.eye(3, 5, dtype=dtype), 50, axis=0)
    z -= z.mean(axis=0)
    for seed in range(5):
        found = drawn(kernels, z, 3, seed)
        assert sorted(found // 50) == [0, 1, 2]
    assert len(drawn(kernels, z, 7)) == 7
    assert np.isin(drawn(kernels, np.zeros((200, 2), dtype), 4), np.arange(200)).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n", "c", "count"), SIZES)
def test_rounds(kernels, rng, n, c, count, dtype):
    z = blobs(rng, n, c, count, dtype)
    ones = np.ones((n, 1), dtype)
    with_ones = np.concatenate([z, ones], axis=1)
    first = rng.choice(n, count, replace=False)
    centres = _mixture_arrays._with_norms(with_ones[first])
    start = np.full(n, -1)
    tried, labels, ends = _mixture_arrays._rounds(with_ones, centres, start, 3)
    put = kernels.xp.asarray
    moved, found, seen = _native.rounds(kernels, put(with_ones), put(centres), put(start), 3)
    limit = 1e-12 if dtype == "float64" else 1e-4
    # In float32 a sample between two centres may be either's, and a centre then moves.
    few = 0.0 if dtype == "float64" else 2e-3
    assert (found.get() != labels).mean() <= few
    np.testing.assert_allclose(seen[:, 0], ends[:, 0], atol=max(few * n, 1e-9))
    if dtype == "float64":
        np.testing.assert_allclose(moved.get(), tried, rtol=limit, atol=limit)
        np.testing.assert_allclose(seen[:, 1], ends[:, 1], rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(moved.get()[1], tried[1], rtol=limit, atol=limit * 10)
    again = _native.rounds(kernels, put(with_ones), put(centres), put(start), 3)
    assert again[0].get().tobytes() == moved.get().tobytes()
    assert again[2].tobytes() == seen.tobytes()


def test_a_centre_without_samples_stays(kernels):
    z = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    centres = np.array([[1.0, -0.5], [50.0, -1250.0]])
    put = kernels.xp.asarray
    moved, labels, ends = _native.rounds(kernels, put(z), put(centres), put(np.full(3, -1)), 2)
    assert np.array_equal(labels.get(), [0, 0, 0])
    assert np.array_equal(moved.get(), [centres] * 3)
    assert np.array_equal(ends, [[3, 0], [0, 0]])


@pytest.mark.parametrize("place", [0, 1, 5, 31])
def test_the_first_of_equal_centres(kernels, rng, place):
    """Whichever lanes have them: 1 and 32, say."""
    put = kernels.xp.asarray
    z = np.c_[np.round(rng.standard_normal((70, 2))), np.ones(70)]
    for count in (place + 1, place + 2, 75):
        centres = np.full((count, 2), 9.0)
        centres[place::7] = [0.0, 1.0]  # all the same, and nearer than the others
        centres = _mixture_arrays._with_norms(np.c_[centres, np.ones(count)])
        start = np.full(70, -1)
        tried, labels, ends = _mixture_arrays._rounds(z, centres, start, 2)
        moved, found, seen = _native.rounds(kernels, put(z), put(centres), put(start), 2)
        assert np.array_equal(found.get(), labels) and labels[0] == place
        np.testing.assert_allclose(moved.get(), tried, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(seen, ends, rtol=1e-12)


def test_duplicates_far_from_zero(kernels, rng):
    """The distance of a sample from one like it may round below 0, and is none of a draw's."""
    z = np.repeat(rng.standard_normal((40, 30)), 5, axis=0)
    z = ((z - z.mean(axis=0)) * 100).astype(np.float32)
    for seed in range(5):
        assert len(set(drawn(kernels, z, 40, seed) // 5)) == 40


@pytest.mark.parametrize("ahead", [1, 4])
def test_clusters(kernels, rng, ahead, monkeypatch):
    monkeypatch.setattr(_mixture_arrays, "_AHEAD", ahead)
    z = blobs(rng, 700, 6, 9)
    found = _mixture_arrays.clusters(kernels.xp.asarray(z), 12, 1).get()
    assert np.array_equal(found, _mixture_arrays.clusters(z, 12, 1))


def test_arrays_that_do_not_fit_are_refused(kernels):
    put = kernels.xp.asarray
    z = put(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="no such first sample"):
        _native.first_centres(kernels, z, put(np.zeros(5)), 2, 5, put(np.zeros((1, 8))))
    with pytest.raises(ValueError, match="draws has another shape"):
        _native.first_centres(kernels, z, put(np.zeros(5)), 2, 0, put(np.zeros((1, 4))))
    with pytest.raises(ValueError, match="norms must be float64"):
        _native.first_centres(kernels, z, put(np.zeros(5, np.float32)), 1, 0, put(np.zeros((0, 8))))
    labels = put(np.zeros(5, np.int32))
    with pytest.raises(ValueError, match="labels must be int64"):
        _native.rounds(kernels, z, put(np.zeros((2, 3))), labels, 1)
    with pytest.raises(ValueError, match="centres has another shape"):
        _native.rounds(kernels, z, put(np.zeros((2, 4))), put(np.zeros(5, int)), 1)
