"""What a GPU does with samples, and what hands it the arrays, on the processor."""

import weakref

import numpy as np
import pytest
from helpers import FORMS, bfloat16_bits, class_labels, relu_features
from svm_module import HostKernels

import lead_fast.backend as backend
from lead_fast import reference, svm
from lead_fast.features import Features, as_features
from lead_fast.svm_arrays import native, svm_fit_arrays
from lead_fast.svm_arrays.losses import Loss
from lead_fast.svm_arrays.precondition import Directions, Preconditioner, orthonormal
from lead_fast.svm_arrays.rows import Rows
from lead_fast.svm_arrays.steps import ArraySteps, Search

form = pytest.mark.parametrize(("name", "hinge"), FORMS)


def problem(name, hinge, n, k, seed=0, C=0.7):
    """Loss, step, decision values, multipliers, a direction; float32."""
    rng = np.random.default_rng(seed)
    codes = (np.arange(n) % k).astype(np.int32)
    loss = Loss(np, codes, k, name, hinge, C, np.float32)
    rho = 2 * loss.C if loss.smooth else 0.4
    f, df = rng.normal(size=(2, n, k)).astype(np.float32)
    a = np.zeros((n, k), np.float32)
    if not loss.smooth:
        a = loss.step(a, loss.margins(df), np.float32(0.3))[0]
    return loss, np.float32(rho), f, a, df


@form
@pytest.mark.parametrize("k", [2, 3, 10, 101])
def test_samples_by_the_formulas(name, hinge, k):
    loss, rho, f, a, df = problem(name, hinge, 300, k)
    start = native.FORMS.index(name), hinge, loss.C, loss.codes
    new, coefficients, mask, weight, curved, totals = backend.cpu().svm_rows_advance(
        *start, f, a, rho
    )
    expected = loss.advance(f, a, rho)
    np.testing.assert_allclose(new, expected.multipliers, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(coefficients, expected.coefficients, rtol=1e-6, atol=1e-5)
    total, linear, quadratic = totals
    assert abs(loss.C * total - expected.primal) <= 1e-5 * expected.primal
    dual = linear - (quadratic / (4 * loss.C) if hinge == 2 else 0)
    assert abs(dual - expected.dual) <= 1e-5 * abs(linear)
    # Roundings may differ about what is free only where a multiplier is at its bound.
    _, curvature = expected.curvature()
    free = curvature.free > 0
    near = (np.abs(new) < 1e-5) | (np.abs(new - loss.cap) < 1e-5)
    if name == "cs" and hinge == 1:
        near |= near.any(axis=1, keepdims=True)
    assert (near | (free == (mask > 0))).all()
    assert not mask[curved == 0].any()
    same = ((mask > 0) == free).all(axis=1)
    assert same.mean() > 0.9
    shift = np.linspace(-1, 1, k).astype(np.float32)
    g = backend.cpu().svm_rows_curve(*start, df, shift, mask, weight, rho)
    size = np.abs(df).max() * rho * k
    np.testing.assert_allclose(g[same], curvature(df + shift)[same], atol=1e-6 * size)
    slope = loss.slope_along(f, a, df, rho)
    t = np.full(k if name == "ovr" else 1, 0.37, np.float32)
    found = backend.cpu().svm_rows_slope(*start, f, a, df, t, rho)
    terms = np.abs(expected.multipliers * df).sum() + 1
    np.testing.assert_allclose(found, slope(t), atol=1e-5 * terms)


@pytest.mark.parametrize("hinge", [1, 2])
def test_threshold_by_bisection(hinge):
    loss, rho, f, a, _ = problem("cs", hinge, 200, 7, C=0.3)
    new = backend.cpu().svm_rows_advance(2, hinge, loss.C, loss.codes, f, a, rho)[0]
    v = a + rho * loss.margins(f).astype(np.float64)
    low, high = np.zeros(len(v)), v.max(axis=1).clip(0)
    for _ in range(80):
        t = (low + high) / 2
        total = np.maximum(v - t[:, None], 0).sum(axis=1)
        above = total > loss.C if hinge == 1 else rho * total / (2 * loss.C) > t
        low, high = np.where(above, t, low), np.where(above, high, t)
    t = low if hinge == 2 else np.where(np.maximum(v, 0).sum(axis=1) <= loss.C, 0, low)
    np.testing.assert_allclose(new, np.maximum(v - t[:, None], 0), atol=3e-6)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_dense_form_of_the_preconditioner(diagonal, rng):
    x = rng.normal(size=(60, 9))
    directions = Directions(np, Rows(np, x, np.zeros(9), np.ones(9), np.float64), rank=4)
    between = rng.normal(size=(5, 5))
    between = np.diag(between @ between.T) if diagonal else between @ between.T
    kind = Preconditioner(np, between, directions, np.float64, diagonal)
    basis, inside, turn, mixed = kind.dense()
    r = rng.normal(size=(5, 10))
    seen = r @ basis
    seen = inside * seen if turn is None else turn @ (inside * (turn.T @ seen))
    np.testing.assert_allclose(mixed @ r + seen @ basis.T, kind(r), atol=1e-12)


@form
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_solver_with_kernels(monkeypatch, name, hinge, dtype):
    codes = class_labels((150, 130, 20), 0)
    features = relu_features(codes, 24, seed=0)
    raw, values, columns = features, features, svm.column_map(as_features(features), "unit")
    if dtype == "bfloat16":
        raw, values = bfloat16_bits(features)
        columns = svm.column_map(Features(raw, "bfloat16"), "unit")
    kernels = HostKernels()
    monkeypatch.setattr(native, "kernels", lambda xp: kernels)
    found = svm_fit_arrays(
        kernels.xp, raw, codes, 3, columns.centre, columns.inverse_scale, name, hinge
    )
    assert found.converged
    assert kernels.called >= {"look", "gather float32", "gather float64"}
    assert kernels.called & {"direct", "converted", "gathered"}
    z = (np.asarray(values, np.float64) - columns.centre) * columns.inverse_scale
    value = reference.primal(found.weights, found.bias, z, codes, name, hinge, 1.0)
    assert abs(found.primal - value) <= 1e-10 * value
    monkeypatch.undo()
    plain = svm_fit_arrays(np, raw, codes, 3, columns.centre, columns.inverse_scale, name, hinge)
    assert found.dual <= plain.primal * (1 + 1e-9)
    assert plain.dual <= found.primal * (1 + 1e-9)
    assert found.passes <= 2 * plain.passes + 10


@pytest.mark.parametrize("name", ["ww", "ovr", "cs"])
def test_the_solver_with_kernels_and_many_classes(monkeypatch, name):
    codes = class_labels((6,) * (native.FEW_CLASSES + 6), 0)
    features = relu_features(codes, 40, seed=0)
    columns = svm.column_map(as_features(features), "unit")
    arguments = features, codes, codes.max() + 1, columns.centre, columns.inverse_scale, name, 1
    plain = svm_fit_arrays(np, *arguments)
    kernels = HostKernels()
    monkeypatch.setattr(native, "kernels", lambda xp: kernels)
    found = svm_fit_arrays(kernels.xp, *arguments)
    assert found.converged
    assert found.dual <= plain.primal * (1 + 1e-9)
    assert plain.dual <= found.primal * (1 + 1e-9)
    assert found.passes <= 1.5 * plain.passes + 10


@form
@pytest.mark.parametrize("k", [2, 10, native.FEW_CLASSES, native.FEW_CLASSES + 6])
@pytest.mark.parametrize("start", [False, True], ids=["on the way", "start"])
def test_a_look_is_that_of_array_operations(name, hinge, k, start):
    """At the start most classes are free; for cs a kernel must not go through all their pairs."""
    plain, rho, f, a, _ = problem(name, hinge, 4 * k, k)
    rng = np.random.default_rng(1)
    x, v = rng.normal(size=(len(f), 7)).astype(np.float32), rng.normal(size=(k, 8))
    if start:
        f, a, v = np.zeros_like(f), np.zeros_like(a), np.zeros_like(v)
    kernels = HostKernels()
    loss = native.NativeLoss(kernels, plain.codes, k, name, hinge, plain.C)
    z = Rows(kernels.xp, x, np.full(7, 0.1), np.full(7, 0.5), np.float32, kernels)
    told = []
    look_of_module = kernels.module.svm_look
    kernels.module.svm_look = lambda *given: told.append(look_of_module(*given)) or told[0]
    found = native.NativeSteps(kernels, z, loss).look(v, f, a, rho)
    expected = ArraySteps(np, Rows(np, x, z.centre, z.scale, np.float32), plain).look(v, f, a, rho)
    np.testing.assert_allclose(found.multipliers, expected.multipliers, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-4 * k)
    for part in ("size", "dual_size", "inner", "primal", "dual"):
        assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=1e-4, abs=1e-4)
    rows, curvature = found.curvature()
    np.testing.assert_array_equal(rows, np.flatnonzero(curvature.mask.any(axis=1)))
    # What unit vectors become, summed over the samples.
    bent = [
        backend.cpu().svm_rows_curve(
            *loss.problem[:3], plain.codes, np.zeros_like(f), unit, curvature.mask,
            curvature.coupling, rho,
        ).sum(axis=0, dtype=np.float64)
        for unit in np.eye(k, dtype=np.float32)
    ]  # fmt: skip
    between = -np.diag(bent) if name == "ovr" else -np.array(bent)
    scale = max(1e-6, np.abs(between).max())
    np.testing.assert_allclose(curvature.between_classes(), between, atol=1e-5 * scale)
    *_, pairs, fans = told[0]
    assert (pairs is None) == (name == "cs" and k > native.FEW_CLASSES)
    assert (fans is None) == (name != "cs" or k > native.FEW_CLASSES)


def test_a_step_keeps_its_arrays():
    """Native code is told addresses, which keep no memory."""
    plain, rho, f, a, _ = problem("ww", 1, 20, 3)
    kernels, given = HostKernels(), []
    loss = native.NativeLoss(kernels, plain.codes, 3, "ww", 1, plain.C)
    x, ones = np.ones((20, 4), np.float32), np.ones(4)
    steps = native.NativeSteps(kernels, Rows(kernels.xp, x, 0 * ones, ones, np.float32), loss)
    v = np.zeros((3, 5))
    look = steps.look(v, f, a, rho)
    rows, curvature = look.curvature()
    kind = Preconditioner(
        np, curvature.between_classes(), Directions(np, steps.z), np.float32, False
    )
    part = steps.gathered(rows)
    kernels.memory = weakref.ref

    def called(*all_of_it):
        arrays = [*all_of_it[5:6], *all_of_it[6][1:4], all_of_it[7][0], *all_of_it[9:15]]
        given.extend(a() for a in arrays if isinstance(a, weakref.ref))
        return 1

    kernels.module.svm_newton = called
    steps.newton(
        v, f.copy(), a.copy(), rho, look.gradient, part, curvature, Search(0.4, 3, 1), kind,
    )  # fmt: skip
    assert len(given) == 10 and all(array is not None for array in given)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthonormal_columns(dtype, dependent, rng):
    tall = (rng.normal(size=(90, 8)) * 10.0 ** np.arange(-4, 4)).astype(dtype)
    if dependent:
        tall[:, 3] = 2 * tall[:, 5]
    found = orthonormal(np, orthonormal(np, tall)).astype(np.float64)
    gram = found.T @ found
    # As many directions as there are: projecting on them twice is projecting once.
    values = np.linalg.eigvalsh(gram)[int(dependent) :]
    np.testing.assert_allclose(values, 1, atol=30 * np.finfo(dtype).eps)
    back = found @ (found.T @ tall)
    limit = 3e-3 if dtype == np.float32 else 1e-7
    assert np.abs((back - tall) / np.abs(tall).max(axis=0)).max() <= limit


def test_nearly_dependent_columns_lose_what_is_rounding(rng):
    tall = rng.normal(size=(200, 3)).astype(np.float32)
    tall[:, 2] = tall[:, 0] + np.float32(1e-7) * tall[:, 1]
    found = orthonormal(np, tall)
    assert np.isfinite(found).all()
    # Two directions are there; a third would be noise of the size of the others.
    assert np.sort(np.linalg.svd(found, compute_uv=False))[0] <= 1e-3
    back = found @ (found.T @ tall)
    assert np.abs(back - tall).max() <= 1e-3 * np.abs(tall).max()
