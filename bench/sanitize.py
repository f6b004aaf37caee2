"""Every kernel on small awkward sizes, for compute-sanitizer; fails if a result is wrong.

compute-sanitizer --tool memcheck python bench/sanitize.py
"""

import sys

import numpy as np

import lead_fast as lf
from lead_fast import backend, device
from lead_fast.eigh import _spectrum_on
from lead_fast.ntk import kernels_and_rates
from lead_fast.svm_arrays import native
from lead_fast.svm_arrays.rows import Rows


def library():
    """CuPy's way onto the GPU, which starts faster than torch's under the tool."""
    try:
        import cupy

        return cupy.asarray, cupy.asnumpy
    except ImportError:
        import torch

        return (lambda a: torch.from_numpy(a).cuda()), (lambda a: a.cpu().numpy())


def main():
    put, get = library()
    rng = np.random.default_rng(0)
    for counts, width, hidden in (
        ((1, 1), 1, ()), ((3, 70), 33, (17,)), ((65, 2), 97, (31, 66)), ((5,) * 9, 8, (4, 12, 5)),
    ):  # fmt: skip
        labels = np.repeat(np.arange(len(counts)), counts)
        features = rng.normal(size=(len(labels), width)).astype(np.float32)
        for dtype in (np.float32, np.float16):
            here = lf.Head(width, len(counts), hidden, 1)
            there = lf.Head(width, len(counts), hidden, 1, device="cuda")
            exact = lf.class_rates(features.astype(dtype), labels, here, n_samples=1000)
            given = put(features.astype(dtype))
            kernels, rates = kernels_and_rates(given, labels, there, n_samples=1000)
            np.testing.assert_allclose(rates, exact, rtol=1e-5)
            np.testing.assert_allclose(
                [np.trace(get(k)) / len(get(k)) for k in kernels.values()], exact, rtol=1e-5
            )
            alone = lf.class_rates(given, labels, there, n_samples=1000)
            np.testing.assert_array_equal(alone, rates)

    matrices = {}
    for n in (1, 2, 31, 33, 64, 97, 128):
        factor = rng.normal(size=(n, n))
        matrices[n] = factor @ factor.T
    stack = {n: put(m) for n, m in matrices.items()}
    place = device.resolve(None, *stack.values())
    for own, vectors in ((True, False), (False, False), (False, True)):
        found = _spectrum_on(place, list(stack), list(stack.values()), vectors, own)
        for n, values in found.items():
            values = get(values[0] if vectors else values)
            expected = np.linalg.eigvalsh(matrices[n])
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * n * expected[-1])

    for n_classes in (2, 5, 16, 31, 33, 128, 250, 256, 500, 1000, 1023, 1025):
        labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 37)])
        rates = rng.uniform(1e5, 1e6, n_classes)
        for dtype in (np.float32, np.float16, np.float64):
            initial = rng.uniform(0.1, 0.9, (len(labels), n_classes)).astype(dtype)
            given = put(initial)
            for mode in ("distribution", "logits"):
                arguments = labels, rates, np.linspace(0, 2, 3)
                exact = lf.evolved_score(initial, *arguments, cross_entropy=mode)
                found = lf.evolved_score(given, *arguments, cross_entropy=mode)
                np.testing.assert_allclose(found, exact, rtol=1e-6)
            exact = lf.evolve(initial, labels, rates)
            np.testing.assert_allclose(get(lf.evolve(given, labels, rates)), exact, atol=1e-12)
    svm_kernels(rng, put, get)
    print("every kernel: results agree with the CPU")


def svm_kernels(rng, put, get):
    """The kernels of the SVM, each alone, as far as CuPy is there to hold their arrays."""
    try:
        import cupy
    except ImportError:
        return
    kernels = native.kernels(cupy, np.dtype(np.float32))
    for n, d, k in ((1, 256, 2), (97, 260, 9), (70, 1100, 4), (300, 2052, 16), (40, 8192, 12)):
        x = rng.normal(size=(n, d)).astype(np.float32)
        for columns, factor in ((False, (k, d)), (True, (n, k))):
            factor = rng.normal(size=factor).astype(np.float32)
            exact = factor.T @ np.float64(x) if columns else np.float64(x) @ factor.T
            found = get(kernels.narrow(columns, put(x), put(factor)))
            np.testing.assert_allclose(found, exact, atol=1e-3)
    for n, d, k in ((1, 1, 2), (97, 33, 3), (300, 64, 10), (60, 5, 301)):
        codes = rng.integers(0, k, n).astype(np.int32)
        x = rng.normal(size=(n, d)).astype(np.float32)
        mean, variance = (get(part) for part in kernels.moments(put(x)))
        np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64), atol=1e-12)
        np.testing.assert_allclose(variance, x.var(axis=0, dtype=np.float64), atol=1e-12)
        f, a, df = rng.normal(size=(3, n, k)).astype(np.float32)
        np.testing.assert_allclose(
            get(kernels.column_sums(put(f))), f.sum(axis=0, dtype=np.float64), atol=1e-9
        )
        for number, form in enumerate(native.FORMS):
            loss = native.NativeLoss(kernels, put(codes), k, form, 1, 0.7)
            start = number, 1, 0.7, codes
            a = np.maximum(a, 0) * (np.arange(k) != codes[:, None])
            new, g, mask, weight, _, totals = backend.cpu().svm_rows_advance(*start, f, a, 0.4)
            found = loss.advance(put(f), put(a), 0.4)
            np.testing.assert_allclose(get(found.multipliers), new, atol=1e-5)
            np.testing.assert_allclose(get(found.coefficients), g, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.primal, 0.7 * totals[0], rtol=1e-6)
            t = np.full((1, k if form == "ovr" else 1), 0.5, np.float32)
            slope = backend.cpu().svm_rows_slope(*start, f, a, df, t.ravel(), 0.4)
            np.testing.assert_allclose(
                loss.slope_along(put(f), put(a), put(df), 0.4)(t)[0], slope, rtol=1e-4, atol=1e-3
            )
            rows, curvature = found.curvature()
            if len(rows) == 0:
                continue
            z = Rows(cupy, put(x), np.zeros(d), np.ones(d), np.dtype(np.float32), kernels)
            gradient = put(rng.normal(size=(k, d + 1)).astype(np.float32))
            for gathered in (False, True):
                p, steps = kernels.direction(
                    loss, z, rows, curvature, gradient, 1e-4, 60, 4, None, gathered
                )
                shift = np.ascontiguousarray(get(p)[:, -1])
                values = x @ get(p)[:, :-1].T
                bent = backend.cpu().svm_rows_curve(*start, values, shift, mask, weight, 0.4)
                left = get(p) - np.c_[bent.T @ x, bent.sum(axis=0)] + get(gradient)
                assert steps == 60 or np.abs(left).max() <= 1e-2, (n, d, k, form, gathered)


if __name__ == "__main__":
    sys.exit(main())
