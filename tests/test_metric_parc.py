"""PARC against the public code and against SciPy's ranks of all pairs."""

from fractions import Fraction

import golden
import numpy as np
import pytest
import scipy.stats
from helpers import class_labels, relu_features, threads
from sklearn.decomposition import PCA

import lead_fast as lf
from lead_fast import backend
from lead_fast import reference_metrics as reference
from lead_fast.errors import InputError, ScoreWarning
from lead_fast.labels import encode
from lead_fast.metrics import _pairs, parc

PARC = lf.metrics.get("parc")


def dense_features(labels, d):
    """Features without equal rows, whose distances would be tied or not by rounding alone."""
    x = relu_features(labels, d, seed=3)
    return x + np.random.default_rng(0).standard_normal(x.shape, np.float32)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    features, labels = golden.load(model)
    score = lf.score(features, labels, "parc", n_components=None, dtype=dtype)
    golden.assert_golden(score, model, "parc", dtype)


@pytest.mark.parametrize("model", golden.MODELS)
def test_golden_after_randomised_pca(model):
    features, labels = golden.load(model)
    expected = golden.GOLDEN[model]["parc_pca32"]
    score = lf.score(features, labels, "parc", dtype="float64")
    assert abs(score - expected) <= 0.02 * abs(expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n, d, real", [(59, 33, 31), (400, 20, 17), (24, 60, 23)])
def test_components_that_are_rounding_alone_count_as_nothing(rng, n, d, real, dtype):
    """Standardised they would count in full, and by another processor's roundings differ."""
    x = rng.standard_normal((n, d))
    x[:, real:] = 0.0 if n > d else x[:, real:]  # else N samples have N - 1 dimensions
    labels = np.arange(n) % 3
    plain = lf.score(x, labels, "parc", dtype=dtype)
    # Rotations and the order of samples change nothing but roundings.
    turn, order = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.permutation(n)
    for again in (x @ turn, x[order] + 3.0):
        found = reduced(again, dtype)
        assert (found[:, real:] == 0.0).all() and (found[:, :real].std(axis=0) > 0.0).all()
    moved = lf.score(x[order], labels[order], "parc", dtype=dtype)
    assert abs(moved - plain) <= (1e-9 if dtype == "float64" else 1e-2) * abs(plain)


def reduced(x, dtype):
    return parc._reduce(x.astype(dtype), min(32, *x.shape))


@pytest.mark.parametrize("shape", [(200, 40), (60, 90), (500, 20)])
def test_components_are_those_of_the_public_code(rng, shape):
    x = rng.standard_normal(shape)
    pca = PCA(min(32, *shape[1:]), svd_solver="randomized", iterated_power=1, random_state=1919)
    expected = pca.fit_transform(x)
    np.testing.assert_allclose(reduced(x, "float64"), expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "counts, d", [([4, 5], 8), ([90, 5, 3], 30), ([1, 1, 97], 31), ([10] * 33, 64)]
)
def test_reference(counts, d, dtype):
    labels = class_labels(counts)
    x = dense_features(labels, d)
    x[:, 1] = 2.0
    expected = reference.parc(x, labels)
    limit = 1e-9 if dtype == "float64" else 1e-3
    score = lf.score(x, labels, "parc", n_components=None, ties="exact", dtype=dtype)
    assert abs(score - expected) <= limit


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [2, 3, 20, 70, 130])
def test_several_labels(k, dtype, rng):
    targets = (rng.random((150, k)) < 0.3).astype(int)
    targets[:, 0] = 1
    targets[:, -1] = 0
    targets[3, 1] = 1
    x = rng.standard_normal((150, 12)) + targets @ rng.standard_normal((k, 12)) / k**0.5
    if k == 2:
        targets[:75] = [0, 1]
    expected = reference.parc(x, targets)
    score = lf.score(x, targets, "parc", n_components=None, dtype=dtype)
    assert abs(score - expected) <= (1e-9 if dtype == "float64" else 1e-3)


def test_one_hot_targets_are_labels(rng):
    labels = rng.integers(0, 5, 80)
    x = rng.standard_normal((80, 6))
    options = {"n_components": None, "ties": "exact", "dtype": "float64"}
    by_number = lf.score(x, labels, "parc", **options)
    assert abs(lf.score(x, np.eye(5)[labels], "parc", **options) - by_number) <= 1e-10


def test_rounding_of_label_distances():
    for k in (2, 3, 7, 13):
        off, on = -1.0 / k, 1.0 - 1.0 / k
        rows = np.where(np.eye(k) > 0, on, off)
        expected = np.zeros((k, k))
        for i in range(k):
            for j in range(k):
                for c in range(k):  # fused: one rounding of the product and the sum
                    exact = Fraction(rows[i, c]) * Fraction(rows[j, c]) + Fraction(expected[i, j])
                    expected[i, j] = float(exact)
        assert np.array_equal(backend.cpu().one_hot_products(k), expected)


def exact_spearman(z, labels, weights):
    pairs = np.tril_indices(len(z), -1)
    ranks = scipy.stats.rankdata(1.0 - (z @ z.T)[pairs])
    return np.corrcoef(ranks, scipy.stats.rankdata(weights[labels][:, labels][pairs]))[0, 1]


def unit(z):
    return np.ascontiguousarray(z / np.linalg.norm(z, axis=1, keepdims=True))


# Distances that fill few bins, or one: (name, rows of unit length).
def crowded(rng):
    n = 120
    angle = rng.uniform(0, 2 * np.pi, n)
    circle = np.c_[np.cos(angle), np.sin(angle)]
    yield "two values", np.where(rng.random((n, 1)) < 0.5, 1.0, -1.0) * np.ones((n, 2)) / 2**0.5
    yield "nearly equal rows", unit(np.array([1.0, 0, 0]) + 1e-4 * rng.standard_normal((n, 3)))
    yield "equal to rounding", unit(np.array([1.0, 0, 0]) + 1e-7 * rng.standard_normal((n, 3)))
    yield "repeated rows", circle[rng.integers(0, 6, n)]
    yield "circle", circle


@pytest.mark.parametrize("collected", [1 << 24, 500])
def test_crowded_distances(collected, rng, monkeypatch):
    monkeypatch.setattr(_pairs, "_COLLECTED", collected)
    labels = rng.integers(0, 4, 120)
    pairs = _pairs.LabelPairs(encode(labels), "exact")
    # Digits to which distances are equal or not, and what the rounding of products may change.
    known = {"circle": (13, 1e-9), "nearly equal rows": (17, 1e-5)}
    for name, z in crowded(rng):
        digits, limit = known.get(name, (13, 2e-3))
        grid = np.round(1.0 - z @ z.T, digits)
        lower = np.tril_indices(120, -1)
        expected = np.corrcoef(
            scipy.stats.rankdata(grid[lower]),
            scipy.stats.rankdata((labels[:, None] != labels)[lower]),
        )[0, 1]
        found = _pairs.spearman(z, pairs, 1e-12)
        if name == "equal to rounding":  # their order says nothing
            assert abs(found) < 0.1
        else:
            assert abs(found - expected) <= limit, (name, found, expected)


def test_bins_bound_the_error(rng, monkeypatch):
    labels = rng.integers(0, 3, 300)
    z = unit(rng.standard_normal((300, 5)))
    pairs = _pairs.LabelPairs(encode(labels), "exact")
    exact = exact_spearman(z, labels, 1.0 - np.eye(3))
    monkeypatch.setattr(_pairs, "_BINS", 64)
    for tol in (1e-1, 1e-2, 1e-4, 1e-12):
        assert abs(_pairs.spearman(z, pairs, tol) - exact) <= tol + 1e-12


def test_threads_do_not_matter():
    labels = class_labels([200, 150, 3])
    x = relu_features(labels, 20)
    scores = []
    for count in (1, 2, 3):
        with threads(count):
            scores.append(lf.score(x, labels, "parc", n_components=None, dtype="float64"))
    assert max(scores) - min(scores) <= 1e-10


def test_thinning_out():
    labels = class_labels([300, 200, 2])
    x = dense_features(labels, 10)
    metric = PARC(labels, max_samples=100, n_components=None, ties="exact", dtype="float64")
    assert np.bincount(labels[metric.rows]).tolist() == [59, 39, 1]
    assert abs(metric(x) - reference.parc(x[metric.rows], labels[metric.rows])) <= 1e-9
    other = PARC(labels, max_samples=100, seed=1)
    assert not np.array_equal(other.rows, metric.rows)
    assert PARC(labels, max_samples=502).rows is None
    targets = np.eye(3, dtype=int)[labels]
    assert len(PARC(targets, max_samples=100).rows) == 100


def test_errors_and_warnings(rng):
    x = rng.standard_normal((20, 5))
    with pytest.raises(InputError, match="equally far"):
        lf.score(x, np.arange(20), "parc")
    for n_components in (None, 3):
        with pytest.raises(InputError, match="equally far apart"):
            lf.score(np.ones((20, 5)), np.arange(20) % 2, "parc", n_components=n_components)
    metric = PARC(np.arange(20) % 2, max_samples=12, n_components=3)
    alike = x.copy()
    alike[metric.rows] = x[0]
    with pytest.raises(InputError, match="equally far apart"):
        metric(alike)
    constant = x.copy()
    constant[4] = x.mean(axis=0)
    with pytest.warns(ScoreWarning):
        labels = np.arange(20) % 2
        constant = np.vstack([constant, constant.mean(axis=0)])
        lf.score(constant, np.r_[labels, 0], "parc", n_components=None)
    targets = np.eye(4, dtype=int)[np.arange(20) % 4]
    targets[7] = 0
    with pytest.warns(ScoreWarning, match="1 samples have none or all"):
        lf.score(x, targets, "parc")


@pytest.mark.parametrize("max_samples", [15000, 60])
@pytest.mark.parametrize("n_components", [None, 5])
def test_tiny_numbers_end(rng, n_components, max_samples):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 10)) + 2 * np.eye(3, 10)[labels]
    options = {"n_components": n_components, "max_samples": max_samples}
    expected = lf.score(x, labels, "parc", dtype="float64", **options)
    column = x.astype(np.float32)
    column[:, 3] *= np.float32(1e-42)
    assert np.isfinite(lf.score(column, labels, "parc", **options))
    if n_components is None:
        assert abs(lf.score(column, labels, "parc", **options) - expected) <= 0.1
    tiny = (x * 1e-40).astype(np.float32)
    assert abs(lf.score(tiny, labels, "parc", **options) - expected) <= 0.1


def test_a_column_that_is_tiny_in_the_samples_that_are_kept(rng):
    labels = np.arange(90) % 3
    metric = PARC(labels, n_components=None, max_samples=60)
    x = rng.standard_normal((90, 10)).astype(np.float32)
    column = x.copy()
    x[metric.rows, 3] = 0.0
    column[metric.rows, 3] *= np.float32(1e-42)
    assert abs(metric(column) - metric(x)) <= 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_native_loops_end_whatever_comes(value):
    distance = np.array([0.5, value, 0.25, value, 0.5])
    found = backend.cpu().pair_ranks(
        np.array([0, 5]), np.array([0]), distance, np.arange(5.0), backend.threads()
    )
    assert np.isfinite(found).all() and found[1] == 12.0  # two ties of two
    labels = encode(np.arange(90) % 3)
    for dtype in (np.float32, np.float64):
        z = np.full((90, 4), 0.5, dtype)
        z[10:, 0] = value
        z[::7, 1] = np.nan
        with np.errstate(invalid="ignore"):
            _pairs.spearman(z, _pairs.LabelPairs(labels, "exact"), 1e-12)  # returns
