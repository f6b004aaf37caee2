"""Spectra on a GPU, by the package's kernel and by cuSOLVER: residuals, never elementwise."""

import numpy as np
import pytest
from gpu import LIBRARIES, Poison, belongs_to, get, put
from helpers import EPS64, assert_close
from test_eigh import FACTOR, MATRICES, broken, gram

import lead_fast as lf
from lead_fast import device
from lead_fast.eigh import _spectrum_on

pytestmark = pytest.mark.gpu

# cuSOLVER's batched solver may use Jacobi rotations, whose vectors are less exact than LAPACK's.
VECTORS = 4 * FACTOR

SIZES = (1, 2, 3, 31, 32, 33, 64, 65, 97, 128, 129, 200)


def batch(kind, name, seed=0):
    rng = np.random.default_rng(seed)
    here = {f"class {n}": MATRICES[kind](n, rng) for n in rng.permutation(SIZES)}
    return here, {c: put(name, matrix) for c, matrix in here.items()}


def solve(there, own, vectors=False):
    place = device.resolve(None, *there.values())
    return _spectrum_on(place, list(there), list(there.values()), vectors, own)


@pytest.mark.parametrize("own", [True, False], ids=["own", "cusolver"])
@pytest.mark.parametrize("kind", MATRICES)
def test_values(kind, own):
    here, there = batch(kind, "torch")
    Poison("torch")
    spectra = solve(there, own)
    assert list(spectra) == list(here)
    for name, found in spectra.items():
        expected = np.linalg.eigvalsh(here[name])
        values = get(found)
        assert values.dtype == np.float64 and np.all(np.diff(values) >= 0)
        limit = FACTOR * len(expected) * EPS64 * np.max(np.abs(expected))
        assert_close(values, expected, limit, name)


@pytest.mark.parametrize("kind", MATRICES)
def test_vectors_by_residual_and_orthogonality(kind):
    here, there = batch(kind, "torch", seed=1)
    Poison("torch")
    for name, (values, vectors) in lf.spectrum(there, vectors=True).items():
        kernel, values, vectors = here[name], get(values), get(vectors)
        n, size = len(kernel), np.linalg.norm(kernel, 2)
        assert values.shape == (n,) and vectors.shape == (n, n)
        skewness = np.linalg.norm(vectors.T @ vectors - np.eye(n), 2)
        assert skewness <= VECTORS * n * EPS64
        residual = np.linalg.norm(kernel @ vectors - vectors * values, 2)
        assert residual <= VECTORS * n * EPS64 * size


@pytest.mark.parametrize("vectors", [False, True])
def test_repeats_to_the_bit(vectors):
    _, there = batch("gram", "torch")
    runs = []
    for _ in range(3):
        found = lf.spectrum(there, vectors=vectors)
        parts = [part for v in found.values() for part in (v if vectors else (v,))]
        runs.append([get(part).tobytes() for part in parts])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_matrix_does_not_depend_on_its_neighbours(name, rng):
    there = {i: put(name, gram(n, rng)) for i, n in enumerate([64, 1, 33, 64, 97, 2])}
    together = lf.spectrum(there)
    for i, matrix in there.items():
        assert belongs_to(together[i], name)
        assert get(lf.spectrum({i: matrix})[i]).tobytes() == get(together[i]).tobytes()


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("n", [5, 64, 150])
def test_stacks(name, n, rng):
    stack = np.array([gram(n, rng) for _ in range(65)])
    values = get(lf.spectrum(put(name, stack)))
    expected = np.linalg.eigvalsh(stack)
    assert_close(values, expected, FACTOR * n * EPS64 * np.max(expected))
    values, vectors = map(get, lf.spectrum(put(name, stack), vectors=True))
    assert_close(values, expected, FACTOR * n * EPS64 * np.max(expected))
    residual = stack @ vectors - vectors * values[:, None, :]
    assert np.max(np.linalg.norm(residual, 2, (1, 2))) <= VECTORS * n * EPS64 * np.max(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_layouts_and_dtypes(rng, dtype):
    kernel = np.rint(10 * gram(7, rng)).astype(dtype)
    wide = np.zeros((14, 21), dtype)
    wide[::2, ::3] = kernel
    expected = np.linalg.eigvalsh(kernel.astype(np.float64))
    for variant in (put("torch", kernel), put("torch", kernel).T, put("torch", wide)[::2, ::3]):
        values = get(lf.spectrum({"a": variant})["a"])
        assert_close(values, expected, FACTOR * 7 * EPS64 * expected[-1])


def test_numpy_matrices_are_moved(rng):
    kernels = {i: gram(n, rng) for i, n in enumerate([3, 64])}
    for i, found in lf.spectrum(kernels, device="cuda").items():
        expected = np.linalg.eigvalsh(kernels[i])
        assert_close(get(found), expected, FACTOR * len(expected) * EPS64 * expected[-1])
    assert lf.spectrum({}, device="cuda") == {}


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("kind", ["not square", "1-D", "not symmetric", "nan", "inf"])
def test_errors_name_the_class(kind, vectors):
    kernels = {"ant": np.eye(3), "bee": broken(kind), "cat": np.eye(2)}
    with pytest.raises(lf.errors.InputError, match="bee"):
        lf.spectrum({c: put("torch", k) for c, k in kernels.items()}, vectors=vectors)


def test_kernels_stay_on_the_gpu():
    labels = np.repeat([0, 1], [40, 9])
    features = np.maximum(np.random.default_rng(0).normal(size=(49, 12)), 0).astype(np.float32)
    kernels = lf.class_kernels(put("torch", features), labels, lf.Head(12, 2, hidden=(30, 20)))
    for c, values in lf.spectrum(kernels).items():
        assert belongs_to(values, "torch")
        expected = np.linalg.eigvalsh(get(kernels[c]))
        assert_close(get(values), expected, FACTOR * len(expected) * EPS64 * expected[-1])
