"""A step of Newton's method on a GPU: where it goes, and where the search along it ends."""

import numpy as np
import pytest
from helpers import FORMS
from svm_module import HostKernels

from lead_fast import backend
from lead_fast.svm_arrays import native
from lead_fast.svm_arrays.precondition import Directions, Preconditioner
from lead_fast.svm_arrays.rows import Rows
from lead_fast.svm_arrays.steps import Search

pytestmark = pytest.mark.gpu

C = 0.7


def arrays(n, width, k, smooth):
    """Features, class numbers, weights, multipliers."""
    rng = np.random.default_rng(0)
    codes = (np.arange(n) % k).astype(np.int32)
    x = rng.normal(size=(n, width)).astype(np.float32)
    v = 0.3 * rng.normal(size=(k, width + 1))
    a = np.zeros((n, k), np.float32)
    if not smooth:
        a = rng.uniform(0, C / k, (n, k)).astype(np.float32) * (np.arange(k) != codes[:, None])
    return x, codes, v, a


@pytest.mark.parametrize(("name", "hinge"), FORMS)
@pytest.mark.parametrize("few", [False, True], ids=["all rows", "gathered"])
@pytest.mark.parametrize(("n", "width", "k"), [(60, 9, 3), (150, 260, 5), (90, 7, 41)], ids=str)
def test_a_step(name, hinge, few, n, width, k):
    on_gpu = native.kernels(pytest.importorskip("cupy"))
    x, codes, v, a = arrays(n, width, k, hinge == 2 and name != "cs")
    centre, scale = np.full(width, 0.1), np.full(width, 0.8)
    z = np.c_[(x.astype(np.float64) - centre) * scale, np.ones(n)]
    f = (z @ v.T).astype(np.float32)
    rho = 2 * C if hinge == 2 and name != "cs" else 0.4
    moved = []
    for kernels in (on_gpu, HostKernels()):
        put = kernels.xp.asarray
        loss = native.NativeLoss(kernels, codes, k, name, hinge, C)
        rows = Rows(kernels.xp, put(x), centre, scale, np.float32, kernels)
        steps = native.NativeSteps(kernels, rows, loss)
        now = put(v.copy()), put(f.copy()), put(a.copy())
        look = steps.look(*now, rho)
        curved, curvature = look.curvature()
        assert len(curved) > 0
        precondition = None
        between = curvature.between_classes() if width < 100 else None  # with and without
        if between is not None:
            precondition = Preconditioner(
                kernels.xp, between, Directions(kernels.xp, rows), np.float32, loss.independent
            )
        part = steps.gathered(curved) if few else None
        taken = steps.newton(
            *now, rho, look.gradient, part, curvature, Search(0.3, 3, 2), precondition
        )
        assert taken in (2, 3)
        moved.append([kernels.xp.asnumpy(array) for array in now])
    (new_v, new_f, new_a), (host_v, host_f, _) = moved
    np.testing.assert_array_equal(new_a, a)
    ahead, values = new_v - v, (new_f - f).astype(np.float64)
    exact = z @ ahead.T
    assert np.abs(values - exact).max() <= 2e-5 * np.abs(exact).max()
    # Products in TF32 choose the direction, and the GPU may cut off where the host rounds.
    size = np.linalg.norm(host_v - v)
    assert np.linalg.norm(new_v - host_v) <= 3e-2 * size
    assert np.linalg.norm(new_f - host_f) <= 3e-2 * np.linalg.norm(host_f - f)
    # Downhill, and to where little of the slope along the way is left.
    together = np.asarray if name == "ovr" else (lambda x: x.sum(keepdims=True))
    problem = native.FORMS.index(name), hinge, C, codes

    def slope(t):
        at = np.full(k if name == "ovr" else 1, t, np.float32)
        of_loss = backend.cpu().svm_rows_slope(
            *problem, f, a, exact.astype(np.float32), at, np.float32(rho)
        )
        return together(((v + t * ahead) * ahead).sum(axis=1)) + of_loss

    start, end = slope(0), slope(1)
    assert (start < 0).all()
    assert (np.abs(end) <= 0.101 * np.abs(start)).all()
