"""Products of a matrix on a GPU with few columns."""

import numpy as np
import pytest

from lead_fast.svm_arrays import native

pytestmark = pytest.mark.gpu
SIZES = [(1, 256, 1), (33, 256, 2), (97, 260, 3), (64, 1024, 4), (129, 1028, 5), (70, 1100, 8),
         (5000, 2048, 10), (300, 2052, 12), (257, 4096, 13), (40, 16384, 16)]  # fmt: skip


@pytest.fixture
def kernels():
    cupy = pytest.importorskip("cupy")
    return native.kernels(cupy)


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(("n", "d", "k"), SIZES)
def test_products(kernels, rng, n, d, k, columns):
    xp = kernels.xp
    x = rng.standard_normal((n, d)).astype(np.float32)
    factor = rng.standard_normal((n, k) if columns else (k, d)).astype(np.float32)
    given, small = xp.asarray(x), xp.asarray(factor)
    found = kernels.narrow(columns, given, small)
    left, right = (factor.T, x) if columns else (x, factor.T)
    exact = left.astype(np.float64) @ right
    size = np.abs(left).astype(np.float64) @ np.abs(right)
    assert (np.abs(found.get() - exact) <= 1e-6 * size).all()
    assert found.get().tobytes() == kernels.narrow(columns, given, small).get().tobytes()
    # Every second row, and rows of a wider matrix that start on 16 bytes.
    wide = xp.zeros((n, d + 4), np.float32)
    wide[:, 4:] = given
    for view in (xp.repeat(given, 2, axis=0)[::2], wide[:, 4:]):
        assert kernels.narrow(columns, view, small).get().tobytes() == found.get().tobytes()


def test_what_does_not_suit_is_left_alone(kernels):
    xp = kernels.xp
    for n, d, k in ((50, 255, 3), (50, 258, 3), (50, 512, 17)):
        assert (
            kernels.narrow(False, xp.ones((n, d), np.float32), xp.ones((k, d), np.float32)) is None
        )
    shifted = xp.ones(50 * 512 + 1, np.float32)[1:].reshape(50, 512)
    assert kernels.narrow(True, shifted, xp.ones((50, 3), np.float32)) is None
    half = xp.ones((50, 512), np.float16)
    assert kernels.narrow(True, half, xp.ones((50, 3), np.float32)) is None


def test_huge_values_stay_in_their_row(kernels, rng):
    """Rows past the end are read as the last one and written nowhere."""
    xp = kernels.xp
    x = rng.standard_normal((37, 256)).astype(np.float32)
    x[-1] = np.inf
    w = np.ones((3, 256), np.float32)
    found = kernels.narrow(False, xp.asarray(x), xp.asarray(w)).get()
    assert np.isfinite(found[:-1]).all() and not np.isfinite(found[-1]).any()
