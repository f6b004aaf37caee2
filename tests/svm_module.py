"""What lead_fast._cuda does for the SVM, on ndarrays, so that tests of its callers need no GPU.

What is done to each sample runs natively, the rest is NumPy's.
"""

import numpy as np

import lead_fast.backend as backend
from lead_fast.svm_arrays.native import Kernels
from lead_fast.svm_arrays.newton import direction
from lead_fast.svm_arrays.rows import numbers


class HostKernels(Kernels):
    """Kernels that hand over the arrays themselves."""

    def __init__(self):
        super().__init__(_Namespace(), _Module(), (0, 0))
        self.called = set()
        self.module.called = self.called

    def memory(self, array):
        assert array is None or array.flags.c_contiguous
        return array


class _Namespace:
    """NumPy with CuPy's way to the host."""

    asnumpy = staticmethod(np.asarray)

    def __getattr__(self, name):
        return getattr(np, name)


class _Rows:
    """The rows of a system, as :func:`lead_fast.svm_arrays.newton.direction` takes them."""

    def __init__(self, data, centre, scale):
        self.data = numbers(np, data).astype(np.float64)
        if centre is not None:
            self.data = (self.data - centre) * scale
        self.data = self.data.astype(np.float32)
        self.n = len(data)

    def times(self, v):
        return self.data @ v[:, :-1].T + v[:, -1]

    def transposed_times(self, g):
        return np.c_[g.T @ self.data, g.sum(axis=0)]


class _Module:
    def svm_advance(
        self, form, hinge, cost, labels, classes, f, a, rho, new, coefficients, mask, weight,
        curved, device, stream,
    ):  # fmt: skip
        self.called.add("advance")
        assert f.shape == a.shape == new.shape == coefficients.shape == (len(labels), classes)
        *parts, totals = backend.cpu().svm_rows_advance(form, hinge, cost, labels, f, a, rho)
        for out, part in zip((new, coefficients, mask, weight, curved), parts, strict=True):
            assert out.dtype == part.dtype
            out[...] = part
        return totals

    def svm_slope(
        self, form, hinge, cost, labels, classes, f, a, df, t, rho, device, stream
    ):  # fmt: skip
        self.called.add("slope")
        assert t.dtype == np.float32 and df.dtype == np.float32
        return backend.cpu().svm_rows_slope(form, hinge, cost, labels, f, a, df, t, rho)

    def column_sums(self, g, sums, device, stream):
        self.called.add("sums")
        assert g.dtype == np.float32
        sums[...] = g.sum(axis=0, dtype=np.float64)

    def narrow_product(self, columns, x, factor, out, device, stream):
        assert x.dtype == factor.dtype == out.dtype == np.float32
        if factor.shape[1 if columns else 0] > 16:
            return False
        self.called.add("narrow columns" if columns else "narrow rows")
        out[...] = factor.T @ x if columns else x @ factor.T
        return True

    def gather_mapped(self, x, rows, centre, scale, out, device, stream):
        self.called.add("gather")
        assert centre.dtype == scale.dtype == out.dtype == np.float32 and rows.dtype == np.int64
        out[...] = (numbers(np, x)[rows] - centre) * scale

    def svm_direction(
        self, form, hinge, cost, labels, classes, system, parts, search, gradient, p, device, stream
    ):
        data, convert, centre, scale, rows, mask, weight, rho, coupled = system
        self.called.add("converted" if convert else "direct" if rows is None else "gathered")
        assert convert or (data.dtype == np.float32 and data.flags.c_contiguous)
        assert (rows is None) == (len(data) == len(labels)) or rows is not None
        names = slice(None) if rows is None else rows
        shift = np.zeros(classes, np.float32)

        def curvature(df):
            return backend.cpu().svm_rows_curve(
                form, hinge, cost, labels[names], df.astype(np.float32), shift, mask[names],
                weight[names], rho,
            )  # fmt: skip

        def group(sums):
            return sums.sum(keepdims=True)[:, None] if coupled else sums[:, None]

        def precondition(r):
            basis, inside, turn, mixed = parts
            seen = r @ basis
            seen = inside * seen if turn is None else turn @ (inside * (turn.T @ seen))
            return mixed @ r + seen @ basis.T

        found, steps = direction(
            np, _Rows(data, centre, scale), gradient, curvature, group, *search,
            None if parts is None else precondition,
        )  # fmt: skip
        p[...] = found
        return steps
