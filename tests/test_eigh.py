"""Spectra and eigenvectors of batches of symmetric matrices, against LAPACK through NumPy."""

import importlib

import numpy as np
import pytest
from helpers import EPS64, assert_close, one_line, threads

import lead_fast as lf

SIZES = (1, 2, 31, 33, 64, 97)

# A backward stable eigensolver leaves a few n * eps * |A|.
FACTOR = 8.0


def orthogonal(n, rng):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def with_spectrum(values, rng):
    basis = orthogonal(len(values), rng)
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def gram(n, rng):
    rows = rng.normal(size=(n, n + 3))
    return rows @ rows.T


MATRICES = {
    "gram": gram,
    "indefinite": lambda n, rng: with_spectrum(rng.normal(size=n), rng),
    "zero": lambda n, rng: np.zeros((n, n)),
    "identity": lambda n, rng: np.eye(n),
    "ones": lambda n, rng: np.ones((n, n)),
    "diagonal": lambda n, rng: np.diag(rng.normal(size=n)),
    "rank one": lambda n, rng: (lambda v: np.outer(v, v))(rng.normal(size=n)),
    "rank half": lambda n, rng: with_spectrum(np.arange(n) * (np.arange(n) >= n // 2), rng),
    "clustered": lambda n, rng: with_spectrum(1.0 + 1e-13 * np.arange(n), rng),
    "two clusters": lambda n, rng: with_spectrum(np.where(np.arange(n) % 2, 1.0, 1e6), rng),
    "graded": lambda n, rng: with_spectrum(10.0 ** np.linspace(-12, 6, n), rng),
    "graded rows": lambda n, rng: (lambda g, s: g * np.outer(s, s))(
        gram(n, rng), 10.0 ** np.linspace(0, -8, n)
    ),
    "huge": lambda n, rng: 1e150 * gram(n, rng),
    "tiny": lambda n, rng: 1e-150 * gram(n, rng),
    "wilkinson": lambda n, rng: (
        np.diag(np.abs(np.arange(n) - (n - 1) / 2)) + np.eye(n, k=1) + np.eye(n, k=-1)
    ),
}


def batch(kind, seed=0):
    rng = np.random.default_rng(seed)
    return {f"class {n}": MATRICES[kind](n, rng) for n in SIZES}


@pytest.mark.parametrize("kind", MATRICES)
def test_values_against_numpy(kind):
    kernels = batch(kind)
    spectra = lf.spectrum(kernels)
    assert list(spectra) == list(kernels)
    for name, values in spectra.items():
        expected = np.linalg.eigvalsh(kernels[name])
        assert values.dtype == np.float64
        assert np.all(np.diff(values) >= 0)
        limit = FACTOR * len(expected) * EPS64 * np.max(np.abs(expected))
        assert_close(values, expected, limit, name)


@pytest.mark.parametrize("kind", MATRICES)
def test_vectors_by_residual_and_orthogonality(kind):
    kernels = batch(kind, seed=1)
    for name, (values, vectors) in lf.spectrum(kernels, vectors=True).items():
        kernel = kernels[name]
        n = len(kernel)
        size = np.linalg.norm(kernel, 2)
        assert values.shape == (n,) and vectors.shape == (n, n)
        assert np.all(np.diff(values) >= 0)
        identity_error = np.linalg.norm(vectors.T @ vectors - np.eye(n), 2)
        assert identity_error <= FACTOR * n * EPS64
        residual = np.linalg.norm(kernel @ vectors - vectors * values, 2)
        assert residual <= FACTOR * n * EPS64 * size
        rebuilt = np.linalg.norm((vectors * values) @ vectors.T - kernel, 2)
        assert rebuilt <= FACTOR * n * EPS64 * size


def test_values_with_and_without_vectors_agree():
    kernels = batch("gram", seed=2)
    alone, both = lf.spectrum(kernels), lf.spectrum(kernels, vectors=True)
    for name, values in alone.items():
        limit = FACTOR * len(values) * EPS64 * values[-1]
        assert_close(both[name][0], values, limit, name)


def test_a_matrix_does_not_depend_on_its_neighbours(rng):
    kernels = {i: gram(n, rng) for i, n in enumerate([64, 1, 33, 64, 97, 2])}
    together = lf.spectrum(kernels)
    for name, kernel in kernels.items():
        assert lf.spectrum({name: kernel})[name].tobytes() == together[name].tobytes()


def test_many_small_matrices(rng):
    kernels = {i: gram(5, rng) for i in range(1025)}
    spectra = lf.spectrum(kernels)
    expected = np.linalg.eigvalsh(np.array(list(kernels.values())))
    limit = FACTOR * 5 * EPS64 * np.max(expected)
    assert_close(np.array(list(spectra.values())), expected, limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_layouts_and_dtypes(rng, dtype):
    kernel = np.rint(10 * gram(7, rng)).astype(dtype)
    wide = np.zeros((14, 21), dtype)
    wide[::2, ::3] = kernel
    frozen = kernel.copy()
    frozen.flags.writeable = False
    variants = [kernel, np.asfortranarray(kernel), wide[::2, ::3], frozen, kernel.tolist()]
    expected = np.linalg.eigvalsh(kernel.astype(np.float64))
    for variant in variants:
        values = lf.spectrum({"a": variant})["a"]
        assert_close(values, expected, FACTOR * 7 * EPS64 * expected[-1])


@pytest.mark.parametrize("vectors", [False, True])
def test_input_is_left_alone(vectors):
    kernels = batch("gram", seed=3)
    copies = {name: kernel.copy() for name, kernel in kernels.items()}
    lf.spectrum(kernels, vectors=vectors)
    assert all(np.array_equal(kernels[name], copies[name]) for name in kernels)


def test_same_bits_for_any_number_of_threads():
    kernels = batch("gram", seed=4)
    kept = []
    for count in (1, 2, 3):
        with threads(count):
            spectra = lf.spectrum(kernels, vectors=True)
        kept.append([a.tobytes() for pair in spectra.values() for a in pair])
    assert kept[0] == kept[1] == kept[2]


def test_kernels_of_classes_are_positive_semidefinite():
    labels = np.repeat([0, 1], [40, 9])
    features = np.maximum(np.random.default_rng(0).normal(size=(49, 12)), 0).astype(np.float32)
    kernels = lf.class_kernels(features, labels, lf.Head(12, 2, hidden=(30, 20)))
    for values in lf.spectrum(kernels).values():
        # The kernel carries float32 roundings, which move an eigenvalue by at most their norm.
        assert values[0] >= -len(values) * np.finfo(np.float32).eps * values[-1]


def broken(kind):
    kernel = np.eye(4)
    if kind == "not square":
        return kernel[:3]
    if kind == "1-D":
        return kernel[0]
    if kind == "not symmetric":
        kernel[0, 3] = 1e-3
    else:
        kernel[1, 2] = kernel[2, 1] = {"nan": np.nan, "inf": np.inf}[kind]
    return kernel


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("kind", ["not square", "1-D", "not symmetric", "nan", "inf"])
def test_errors_name_the_class(kind, vectors):
    kernels = {"ant": np.eye(3), "bee": broken(kind), "cat": np.eye(2)}
    with pytest.raises(lf.errors.InputError, match="bee") as caught:
        lf.spectrum(kernels, vectors=vectors)
    message = one_line(caught.value)
    assert "ant" not in message and "cat" not in message


@pytest.mark.parametrize("vectors", [False, True])
def test_what_lapack_gives_up_on_is_named(monkeypatch, vectors):
    module = importlib.import_module("lead_fast.eigh")
    monkeypatch.setattr(module, "_check", lambda name, kernel: kernel)  # would find the NaN before
    kernels = {"ant": np.eye(3), "bee": np.full((3, 3), np.nan), "cat": np.eye(2)}
    with pytest.raises(lf.errors.InputError, match="no convergence for class 'bee'"):
        lf.spectrum(kernels, vectors=vectors)


def test_not_a_dictionary():
    with pytest.raises(lf.errors.InputTypeError) as caught:
        lf.spectrum(3)
    one_line(caught.value)


def test_complex_matrix():
    with pytest.raises(lf.errors.InputTypeError, match="bee") as caught:
        lf.spectrum({"bee": np.eye(3) * 1j})
    one_line(caught.value)


def test_no_matrices():
    assert lf.spectrum({}) == {}
