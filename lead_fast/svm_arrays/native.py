"""The kernels of csrc/cuda/svm*.cu on arrays of CuPy, where :mod:`.losses` has formulas."""

import numpy as np

from .. import backend
from ..svm import FORMS
from .losses import Advance, Curvature, Loss

MOST_CLASSES = 4096  # of the preconditioner's kernel, which keeps two columns in shared memory


def kernels(xp, dtype):
    """:class:`Kernels` for float32 arithmetic on CuPy's current device and stream, else None."""
    if xp is np or dtype != np.float32:
        return None
    return Kernels(
        xp, backend.cuda(), (xp.cuda.Device().id, xp.cuda.get_current_stream().ptr)
    )  # fmt: skip


class Kernels:
    """The native module, and how to hand it arrays.

    Parameters
    ----------
    xp : module
    module : module
        ``lead_fast._cuda``, or what has its functions.
    where : tuple of int
        Device and stream.
    """

    def __init__(self, xp, module, where):
        self.xp, self.module, self.where = xp, module, where

    def memory(self, array):
        """What the native code is told of a C-contiguous array; None stays None.

        The array must outlive the call: a temporary's memory could be given away before it.
        """
        if array is None:
            return None
        name = "bfloat16" if array.dtype == np.uint16 else array.dtype.name
        row_bytes = array.strides[0] if array.ndim > 1 else 0
        return array.data.ptr, name, array.shape, row_bytes

    def column_sums(self, g):
        """Sums (K,) in float64 of the columns of g (n, K) float32."""
        sums = self.xp.empty(g.shape[1], np.float64)
        g = self.xp.ascontiguousarray(g)
        self.module.column_sums(self.memory(g), self.memory(sums), *self.where)
        return sums

    def narrow(self, columns, data, factor):
        """``factor.T @ data`` if `columns`, else ``data @ factor.T``; None where no kernel suits.

        Kernels are for few classes and float32 rows that start on 16 bytes.
        """
        factor = self.xp.ascontiguousarray(factor)
        shape = (factor.shape[1], data.shape[1]) if columns else (len(data), len(factor))
        out = self.xp.empty(shape, np.float32)
        done = self.module.narrow_product(
            columns, self.memory(data), self.memory(factor), self.memory(out), *self.where
        )
        return out if done else None

    def mapped(self, data, rows, centre, scale):
        """The rows (x - centre) * scale in float32; ``rows`` (n,) int64."""
        out = self.xp.empty((len(rows), data.shape[1]), np.float32)
        centre, scale = centre.astype(np.float32), scale.astype(np.float32)  # kept until the call
        self.module.gather_mapped(
            self.memory(data), self.memory(rows), self.memory(centre), self.memory(scale),
            self.memory(out), *self.where,
        )  # fmt: skip
        return out

    def moments(self, data):
        """Mean and biased variance (D,) of the columns, NaN where one is not finite."""
        mean = self.xp.empty(data.shape[1], np.float64)
        variance = self.xp.empty_like(mean)
        self.module.column_moments(
            self.memory(data), self.memory(mean), self.memory(variance), *self.where
        )
        return mean, variance

    def direction(
        self, loss, z, rows, curvature, gradient, ratio, most, check_every, precondition, gathered
    ):
        """As :func:`.newton.direction`, on the named rows if ``gathered``, else on all of ``z``."""
        data, convert, centre, scale = z.data, False, z.centre, z.scale
        if gathered:
            data, centre, scale = self.mapped(data, rows, centre, scale), None, None
        else:
            rows = None
            convert = not (z.direct and data.flags.c_contiguous)
        system = (
            self.memory(data), convert, self.memory(centre), self.memory(scale), self.memory(rows),
            self.memory(curvature.mask), self.memory(curvature.coupling), float(curvature.rho),
            not loss.independent,
        )  # fmt: skip
        dense = None if precondition is None else precondition.dense(np.float32)
        parts = None if dense is None else tuple(map(self.memory, dense))
        p = self.xp.empty_like(gradient)
        steps = self.module.svm_direction(
            *loss.problem(), system, parts, (float(ratio), int(most), int(check_every)),
            self.memory(gradient), self.memory(p), *self.where,
        )  # fmt: skip
        return p, steps


class NativeLoss(Loss):
    """:class:`Loss` whose passes over the samples are one kernel each."""

    def __init__(self, kernels, codes, n_classes, form, hinge, C):
        super().__init__(kernels.xp, codes, n_classes, form, hinge, C, np.float32)
        self.kernels = kernels
        self.labels = kernels.xp.asarray(codes, dtype=np.int32)
        self.n_classes = n_classes

    def problem(self):
        """What every native call on samples starts with."""
        return (
            FORMS.index(self.form), int(self.hinge), self.C, self.kernels.memory(self.labels),
            self.n_classes,
        )  # fmt: skip

    def advance(self, f, a, rho):
        """As :meth:`Loss.advance`."""
        xp, memory = self.xp, self.kernels.memory
        f = xp.ascontiguousarray(f)
        new, coefficients = xp.empty(f.shape, np.float32), xp.empty(f.shape, np.float32)
        mask = xp.empty(f.shape, np.uint8)
        coupling, curved = xp.empty(len(f), np.float32), xp.empty(len(f), np.uint8)
        loss, linear, quadratic = self.kernels.module.svm_advance(
            *self.problem(), memory(f), memory(a), float(rho), memory(new), memory(coefficients),
            memory(mask), memory(coupling), memory(curved), *self.kernels.where,
        )  # fmt: skip

        def curvature():
            rows = xp.flatnonzero(curved)
            return rows, NativeCurvature(self, mask, coupling, rho, rows)

        dual = linear - (quadratic / (4 * self.C) if self.hinge == 2 else 0.0)
        return Advance(new, coefficients, self.C * loss, dual, curvature)

    def slope_along(self, f, a, df, rho):
        """As :meth:`Loss.slope_along`."""
        memory = self.kernels.memory
        f, df = self.xp.ascontiguousarray(f), self.xp.ascontiguousarray(df)

        def slope(t):
            found = self.kernels.module.svm_slope(
                *self.problem(), memory(f), memory(a), memory(df),
                np.ascontiguousarray(t, dtype=np.float32).ravel(), float(rho), *self.kernels.where,
            )  # fmt: skip
            return found[None]

        return slope


class NativeCurvature:
    """What the kernels need of :class:`.losses.Curvature`.

    Attributes
    ----------
    mask : (N, K) uint8
        Free classes, of all samples.
    coupling : (N,) float32
    """

    def __init__(self, loss, mask, coupling, rho, rows):
        self.loss, self.mask, self.coupling, self.rho, self.rows = loss, mask, coupling, rho, rows

    def between_classes(self):
        """As :meth:`.losses.Curvature.between_classes`."""
        loss = self.loss
        if loss.form == "ovr":
            sums = loss.kernels.column_sums(self.mask.astype(np.float32))
            return float(self.rho) * loss.xp.asnumpy(sums)
        weight = self.coupling[:, None] if loss.form == "cs" else None
        return Curvature(loss, self.mask, weight, self.rho).take(self.rows).between_classes()
