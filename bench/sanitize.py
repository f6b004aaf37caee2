"""Every kernel on small awkward sizes, for compute-sanitizer; fails if a result is wrong.

compute-sanitizer --tool memcheck python bench/sanitize.py [few]

`few` leaves out sizes of the evolved scores, for a tool that takes long.
"""

import sys

import numpy as np

import lead_fast as lf
from lead_fast import backend, device
from lead_fast.eigh import _spectrum_on
from lead_fast.metrics import _mixture_arrays, _native
from lead_fast.ntk import kernels_and_rates
from lead_fast.svm_arrays import native
from lead_fast.svm_arrays.rows import Rows
from lead_fast.svm_arrays.steps import Search


def library():
    """CuPy's way onto the GPU, which starts faster than torch's under the tool."""
    try:
        import cupy

        return cupy.asarray, cupy.asnumpy
    except ImportError:
        import torch

        return (lambda a: torch.from_numpy(a).cuda()), (lambda a: a.cpu().numpy())


def main(few):
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

    widths = [(37, k) for k in (2, 5, 16, 31, 33, 36, 128, 250, 256, 500, 1000, 1023, 1024, 1025)]
    widths.append((150_001, 40))  # several units for every warp
    if few:
        widths = [(37, k) for k in (5, 33, 128, 1000, 1025)]
    for more, n_classes in widths:
        labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, more)])
        rates = rng.uniform(1e5, 1e6, n_classes)
        for dtype in (np.float32, np.float16, np.float64):
            initial = rng.uniform(0.1, 0.9, (len(labels), n_classes)).astype(dtype)
            given = put(initial)
            for mode, count in [("distribution", 3)] + [("logits", t) for t in (1, 2, 3, 8)]:
                arguments = labels, rates, np.linspace(0, 2, count)
                exact = lf.evolved_score(initial, *arguments, cross_entropy=mode)
                found = lf.evolved_score(given, *arguments, cross_entropy=mode)
                np.testing.assert_allclose(found, exact, rtol=1e-6)
            exact = lf.evolve(initial, labels, rates)
            np.testing.assert_allclose(get(lf.evolve(given, labels, rates)), exact, atol=1e-12)
    try:
        import cupy
    except ImportError:  # which holds the arrays of the others
        pass
    else:
        svm_kernels(cupy, rng, put, get)
        metric_kernels(native.kernels(cupy), rng, put, get)
    print("every kernel: results agree with the CPU")


class _Watched(native.Kernels):
    """Keeps the arrays that are handed over."""

    def __init__(self, kernels):
        super().__init__(kernels.xp, kernels.module, kernels.where)
        self.seen = []

    def memory(self, array):
        self.seen.append(array)
        return super().memory(array)


def svm_kernels(cupy, rng, put, get):
    """The kernels of the SVM, each alone."""
    kernels = _Watched(native.kernels(cupy))
    for n, d, k in ((1, 256, 2), (97, 260, 9), (70, 1100, 4), (300, 2052, 16), (40, 8192, 12)):
        x = rng.normal(size=(n, d)).astype(np.float32)
        for columns, factor in ((False, (k, d)), (True, (n, k))):
            factor = rng.normal(size=factor).astype(np.float32)
            exact = factor.T @ np.float64(x) if columns else np.float64(x) @ factor.T
            found = get(kernels.narrow(columns, put(x), put(factor)))
            np.testing.assert_allclose(found, exact, atol=1e-3)
    for n, d, k in ((1, 1, 2), (97, 33, 3), (300, 64, 10), (60, 5, 301), (150, 36, 101)):
        codes = rng.integers(0, k, n).astype(np.int32)
        x = rng.normal(size=(n, d)).astype(np.float32)
        centre, scale = rng.normal(size=d), rng.uniform(0.5, 1, d)
        mean, variance = (get(part) for part in kernels.moments(put(x)))
        np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64), atol=1e-12)
        np.testing.assert_allclose(variance, x.var(axis=0, dtype=np.float64), atol=1e-12)
        z = Rows(cupy, put(x), centre, scale, np.dtype(np.float32), kernels)
        exact = (x - centre) * scale
        rows = np.flatnonzero(rng.random(n) < 0.7)
        np.testing.assert_allclose(get(z.mapped(put(rows))), exact[rows], atol=1e-5)
        np.testing.assert_allclose(get(z.at(np.float64).mapped(slice(0, n))), exact, atol=1e-12)
        full = np.c_[exact, np.ones(n)]
        v = rng.normal(size=(k, d + 1))
        f = rng.normal(size=(n, k)).astype(np.float32)
        for number, form in enumerate(native.FORMS):
            loss = native.NativeLoss(kernels, codes, k, form, 1, 0.7)
            steps = native.NativeSteps(kernels, z, loss)
            start = number, 1, 0.7, codes
            a = rng.uniform(0, 0.3, (n, k)).astype(np.float32)
            a *= np.arange(k) != codes[:, None]
            new, g, mask, weight, curved, totals = backend.cpu().svm_rows_advance(*start, f, a, 0.4)
            look = steps.look(put(v), put(f), put(a), 0.4)
            np.testing.assert_allclose(get(look.multipliers), new, atol=1e-5)
            np.testing.assert_allclose(look.primal, 0.7 * totals[0], rtol=1e-6)
            gradient = v - g.T.astype(np.float64) @ full
            np.testing.assert_allclose(get(look.gradient), gradient, atol=1e-3)
            np.testing.assert_allclose(look.inner, 0.5 * (gradient**2).sum(), rtol=1e-4)
            rows, curvature = look.curvature()
            np.testing.assert_array_equal(get(rows), np.flatnonzero(curved))
            total = curvature.between_classes()
            bent = backend.cpu().svm_rows_curve(
                *start, np.eye(k, dtype=np.float32)[np.zeros(n, int)], np.zeros(k, np.float32),
                mask, weight, 0.4,
            )  # fmt: skip
            column = total[0] if form == "ovr" else total[:, 0]
            np.testing.assert_allclose(column, -bent.sum(axis=0)[0 if form == "ovr" else ...],
                                       atol=1e-3)  # fmt: skip
            for names in (rows, None):
                part = None if names is None or len(rows) == 0 else steps.gathered(rows)
                search = Search(1e-3, 60 if len(rows) else 0, 4)
                new_v, new_f = put(v), put(f)
                steps_taken = steps.newton(
                    new_v, new_f, put(a), 0.4, look.gradient, part, curvature, search, None
                )
                p, fp = (get(array) for array in kernels.seen[-2:])
                values = p[:, :-1] @ exact.T + p[:, -1:]
                np.testing.assert_allclose(fp, values.T, atol=1e-2)
                bent = backend.cpu().svm_rows_curve(
                    *start, np.ascontiguousarray(values.T, dtype=np.float32),
                    np.zeros(k, np.float32), mask, weight, 0.4,
                )  # fmt: skip
                curved = bent.T.astype(np.float64) @ full
                left = np.linalg.norm(p - curved + gradient)
                # TF32 keeps eleven bits of each factor, and may cut off the rest.
                limit = 4e-3 * (np.linalg.norm(gradient) + 2 * np.linalg.norm(curved))
                assert steps_taken == 60 or left <= limit, (n, d, k, form, names is None)
                searched(form, start, v, f, a, p, fp, get(new_v), get(new_f))


def searched(form, start, v, f, a, p, fp, new_v, new_f):
    """Whether a step ends where the search along it should."""
    wide = p.astype(np.float64)
    sums = (lambda x: x) if form == "ovr" else (lambda x: x.sum(keepdims=True))

    def slope(t):
        of_loss = backend.cpu().svm_rows_slope(*start, f, a, fp, t.astype(np.float32), 0.4)
        return sums((v * wide).sum(axis=1)) + t * sums((wide * wide).sum(axis=1)) + of_loss

    t = sums(((new_v - v) * wide).sum(axis=1)) / sums((wide * wide).sum(axis=1))
    left, start_slope = abs(slope(t)), slope(np.zeros_like(t))
    assert ((left <= 0.11 * abs(start_slope)) | (t == 0)).all()
    np.testing.assert_allclose(new_v, v + t[:, None] * p, atol=1e-6)
    np.testing.assert_allclose(new_f, f + t * fp, atol=1e-4)


def metric_kernels(kernels, rng, put, get):
    """The kernels of pactran and nleep, likewise."""
    for n, d, k in ((1, 1, 2), (97, 33, 3), (130, 256, 10), (41, 260, 33), (75, 5, 301)):
        for dtype in (np.float32, np.float64):
            x = rng.normal(size=(n, d)).astype(dtype)
            codes = rng.integers(0, k, n)
            weights, bias = rng.normal(size=(k, d)), rng.normal(size=k)
            given = x, codes, 1.0 + (x.astype(np.float64) ** 2).sum(axis=1), weights, bias
            found = [get(a) for a in _native.softmax_pass(kernels, *map(put, given))]
            loss, gradient, of_bias, curvature = backend.cpu().softmax_pass(
                x, x.dtype.name, codes.astype(np.int32), np.zeros(d), np.ones(d), weights, bias,
                True, True, 1,
            )  # fmt: skip
            np.testing.assert_allclose(found[0], [loss, curvature], rtol=1e-4)
            np.testing.assert_allclose(found[1], gradient, atol=1e-4 * n)
            np.testing.assert_allclose(found[2], of_bias, atol=1e-4 * n)
    for n, c, count in ((1, 1, 1), (40, 7, 5), (300, 33, 33), (1500, 4, 70)):
        z = rng.normal(size=(n, c))
        z -= z.mean(axis=0)
        z = np.c_[z, np.ones(n)]
        for dtype in (np.float64, np.float32):
            some = np.ascontiguousarray(z[:, :-1].astype(dtype))
            draws = np.random.default_rng(1)
            chosen = get(_mixture_arrays._first_centres(kernels, put(some), count, draws))
            assert chosen.min() >= 0 and chosen.max() < n
            centres = _mixture_arrays._with_norms(z[chosen])
            start = np.full(n, -1)
            tried, labels, ends = _mixture_arrays._rounds(z, centres, start, 3)
            found = _native.rounds(kernels, *map(put, (z, centres, start)), 3)
            np.testing.assert_allclose(get(found[0]), tried, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(get(found[1]), labels)
            np.testing.assert_allclose(found[2], ends, rtol=1e-9, atol=1e-9)
            narrow = z.astype(dtype), centres.astype(dtype), start
            assert np.isfinite(_native.rounds(kernels, *map(put, narrow), 3)[2]).all()


if __name__ == "__main__":
    sys.exit(main("few" in sys.argv[1:]))
