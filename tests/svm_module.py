"""What lead_fast._cuda does for the SVM, on ndarrays, so that tests of its callers need no GPU.

What is done to each sample runs natively, the rest is NumPy's.
"""

import numpy as np

import lead_fast.backend as backend
from lead_fast.svm_arrays.native import Kernels
from lead_fast.svm_arrays.newton import direction, line_search
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
    """The rows of a matrix, as :func:`lead_fast.svm_arrays.newton.direction` takes them."""

    def __init__(self, data, convert, centre, scale, rounded=None):
        self.rounded = rounded or (lambda x: x)
        assert convert or (data.dtype == np.float32 and data.flags.c_contiguous)
        self.data = numbers(np, data).astype(np.float64)
        if centre is not None:
            self.data = (self.data - centre) * scale
        self.data = self.rounded(self.data.astype(np.float32))
        self.n = len(data)

    def times(self, v):
        return self.data @ self.rounded(v[:, :-1]).T + v[:, -1]

    def transposed_times(self, g):
        return np.c_[self.rounded(g).T @ self.data, g.sum(axis=0)]


def tf32(x):
    """Rounded to the eleven bits that a GPU's TF32 products see of float32."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


class _Module:
    def svm_look(
        self, form, hinge, cost, labels, classes, matrix, f, a, rho, v, new, mask, weight, rows,
        gradient, groups, device, stream,
    ):  # fmt: skip
        self.called.add("look")
        assert f.shape == a.shape == new.shape == (len(labels), classes)
        assert v.dtype == np.float64 and gradient.dtype == np.float32
        assert rows.shape == labels.shape and rows.dtype == np.int64
        *parts, curved, totals = backend.cpu().svm_rows_advance(
            form, hinge, cost, labels, f, a, rho
        )
        for out, part in zip((new, mask, weight), (parts[0], *parts[2:]), strict=True):
            assert out.dtype == part.dtype
            out[...] = part
        dual = _Rows(*matrix).transposed_times(parts[1]).astype(np.float64)
        gradient[...] = v - dual
        squares = tuple(0.5 * float((x * x).sum()) for x in (v, dual, v - dual))
        found = np.flatnonzero(curved)
        rows[:] = -1  # what is not said is not used
        rows[: len(found)] = found
        if groups == 0:
            return totals, squares, len(found), None, None
        pairs = np.zeros((groups, classes), np.int64)
        np.add.at(pairs, labels if groups > 1 else 0 * labels, mask)
        fans = None
        if form == 2:
            u = -mask.astype(np.float64)
            u[np.arange(len(u)), labels] += mask.sum(axis=1)
            fans = u.T @ (weight[:, None] * u)
        return totals, squares, len(found), pairs, fans

    def gather_mapped(self, x, rows, centre, scale, out, device, stream):
        self.called.add(f"gather {out.dtype}")
        assert centre.dtype == scale.dtype == np.float64 and (
            rows is None or rows.dtype == np.int64
        )
        part = numbers(np, x)[slice(None) if rows is None else rows].astype(out.dtype)
        out[...] = (part - centre.astype(out.dtype)) * scale.astype(out.dtype)

    def svm_newton(
        self, form, hinge, cost, labels, classes, matrix, system, parts, search, gradient, a, v, f,
        p, values, device, stream,
    ):  # fmt: skip
        curved, rows, mask, weight, rho = system
        ratio, most, check_every = search
        convert = curved[1]
        self.called.add("converted" if convert else "direct" if rows is None else "gathered")
        names = slice(None) if rows is None else rows
        shift = np.zeros(classes, np.float32)

        def curvature(df):
            return backend.cpu().svm_rows_curve(
                form, hinge, cost, labels[names], df.astype(np.float32), shift, mask[names],
                weight[names], rho,
            )  # fmt: skip

        def group(sums):
            return sums[:, None] if form == 1 else sums.sum(keepdims=True)[:, None]

        def precondition(r):
            basis, inside, turn, mixed = parts
            seen = r @ basis
            seen = inside * seen if turn is None else turn @ (inside * (turn.T @ seen))
            return mixed @ r + seen @ basis.T

        found, steps = -gradient, 0
        if most > 0:
            found, steps = direction(
                np, _Rows(*curved, tf32), gradient, curvature, group, ratio, most, check_every,
                None if parts is None else precondition,
            )  # fmt: skip
        p[...] = found
        assert values.dtype == f.dtype == a.dtype == np.float32 and v.dtype == np.float64
        assert values.shape == f.shape == a.shape == (len(labels), classes)
        values[...] = _Rows(*matrix).times(p)
        wide = p.astype(np.float64)
        vp, pp = (group((x * wide).sum(axis=1))[:, 0] for x in (v, wide))

        def slope(t):
            return (
                vp
                + t * pp
                + backend.cpu().svm_rows_slope(
                    form, hinge, cost, labels, f, a, values, t.astype(np.float32), rho
                )
            )

        t = line_search(slope, slope(np.zeros_like(vp)))
        v += t[:, None] * p
        f += t.astype(np.float32) * values
        return steps
