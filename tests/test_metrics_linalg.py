"""Tridiagonal form of a symmetric matrix, and principal components from it."""

import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import metrics
from lead_fast.metrics._linalg import Tridiagonal
from lead_fast.metrics._pca import spectrum


def matrix(values, rng):
    q, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return (q * values) @ q.T


SPECTRA = {
    "spread": lambda n: np.linspace(0.1, 5.0, n),
    "rank half": lambda n: np.arange(n) * (np.arange(n) >= n // 2),
    "equal": lambda n: np.full(n, 3.0),
    "two clusters": lambda n: np.where(np.arange(n) % 2, 1.0, 1e3),
    "graded": lambda n: 10.0 ** np.linspace(-9, 3, n),
    "zero": lambda n: np.zeros(n),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 130])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenpairs(rng, name, n, dtype):
    values = np.sort(SPECTRA[name](n))
    a = matrix(values, rng).astype(dtype)
    kept = a.copy()
    form = Tridiagonal(a.copy(order="F"))
    eps = np.finfo(dtype).eps
    scale = max(values[-1], 1e-30)
    np.testing.assert_allclose(form.eigenvalues, values, atol=30 * n * eps * scale)
    for count in {1, (n + 1) // 2, n}:
        vectors = form.leading_vectors(count)
        assert vectors.shape == (n, count)
        wide = np.asarray(vectors, np.float64)
        np.testing.assert_allclose(wide.T @ wide, np.eye(count), atol=30 * n * eps)
        residual = kept @ wide - wide * values[::-1][:count]
        assert np.abs(residual).max() <= 30 * n * eps * scale
    b = rng.standard_normal((n, 3))
    back = form.rotate(form.rotate(b), back=True)
    np.testing.assert_allclose(back, b, atol=1e2 * n * eps)
    assert np.array_equal(a, kept)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("counts", "d"), [([60, 50], 24), ([9, 8], 30)])
def test_directions(counts, d, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3, dtype=np.float64)
    shared = metrics.get("gbc")(labels, dtype=dtype).share(x)
    found = spectrum(shared)
    assert spectrum(shared) is found
    left = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    limit = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(
        found.variances, left[1] ** 2 / len(x), atol=limit * left[1][0] ** 2 / len(x)
    )
    for count in (1, 5, 10**6):
        basis = found.directions(shared, count)
        count = min(count, *x.shape)
        assert basis.shape == (d, count) and basis.dtype == np.float64
        used = min(count, np.linalg.matrix_rank(x - x.mean(axis=0)))
        overlap = np.abs(np.sum(basis[:, :used] * left[2][:used].T, axis=0))
        np.testing.assert_allclose(overlap, 1.0, atol=1e3 * limit)
        if used < count:
            assert np.abs(basis[:, used:]).max() == 0.0


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_no_variance():
    labels = class_labels([6, 6])
    with pytest.raises(lf.errors.InputError, match="constant"):
        lf.score(np.ones((12, 4)), labels, "nleep", n_per_class=1)
