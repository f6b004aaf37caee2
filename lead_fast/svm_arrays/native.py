"""The kernels of csrc/cuda/svm*.cu on arrays of CuPy, where :mod:`.steps` has array operations."""

import functools

import numpy as np

from .. import backend
from ..svm import FORMS
from .losses import Curvature, Loss, between_classes
from .steps import Look

FEW_CLASSES = 64  # up to which a kernel finds the curvature between classes, whatever the form


@functools.cache  # NumPy makes a name anew each time, in 2 us, and a score asks 600 times
def _name(dtype):
    return "bfloat16" if dtype == np.uint16 else dtype.name


def kernels(xp):
    """:class:`Kernels` for CuPy's current device and stream, None for NumPy."""
    if xp is np:
        return None
    return Kernels(xp, backend.cuda(), (xp.cuda.Device().id, xp.cuda.get_current_stream().ptr))


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
        name = _name(array.dtype)
        row_bytes = array.strides[0] if array.ndim > 1 else 0
        return array.data.ptr, name, array.shape, row_bytes

    @staticmethod
    def take(data):
        """Whether features can be read: numbers of a row side by side, of a dtype with a kernel."""
        beside = data.strides[1] == data.itemsize or data.shape[1] == 1
        return beside and _name(data.dtype) in ("float16", "bfloat16", "float32", "float64")

    def narrow(self, columns, data, factor):
        """``factor.T @ data`` if `columns`, else ``data @ factor.T``; None where no kernel suits.

        Kernels are for few classes and float32 rows that start on 16 bytes. The steps' native code
        takes them by itself: this is for their tests and benchmarks.
        """
        factor = self.xp.ascontiguousarray(factor)
        shape = (factor.shape[1], data.shape[1]) if columns else (len(data), len(factor))
        out = self.xp.empty(shape, np.float32)
        done = self.module.narrow_product(
            columns, self.memory(data), self.memory(factor), self.memory(out), *self.where
        )
        return out if done else None

    def mapped(self, data, rows, centre, scale, dtype):
        """The rows (x - centre) * scale in float32 or float64; ``rows`` (n,) int64 or None."""
        out = self.xp.empty((len(data) if rows is None else len(rows), data.shape[1]), dtype)
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


class NativeLoss(Loss):
    """:class:`Loss` on class numbers that the native code can read."""

    def __init__(self, kernels, codes, n_classes, form, hinge, C):
        super().__init__(kernels.xp, codes, n_classes, form, hinge, C, np.float32)
        self.kernels, self.n_classes = kernels, n_classes
        self.labels = kernels.xp.asarray(codes, dtype=np.int32)
        # What every native call on samples starts with.
        self.problem = (
            FORMS.index(form), int(hinge), self.C, kernels.memory(self.labels), n_classes
        )  # fmt: skip


class NativeSteps:
    """As :class:`.steps.ArraySteps`, in float32 but for weights and sums.

    Parameters
    ----------
    kernels : Kernels
    z : :class:`.rows.Rows`
    loss : NativeLoss
    """

    most_classes = 4096  # of the preconditioner's kernel, which keeps two columns in shared memory

    def __init__(self, kernels, z, loss):
        self.kernels, self.z, self.loss = kernels, z, loss
        convert = not (z.direct and z.data.flags.c_contiguous)
        self._matrix = (
            kernels.memory(z.data), convert, kernels.memory(z.centre), kernels.memory(z.scale)
        )  # fmt: skip
        self._groups = loss.n_classes if loss.n_classes <= self.most_classes else 0
        if loss.n_classes > FEW_CLASSES and loss.form != "ww":
            # For ovr one sum of each class is enough. For cs a sample has as many pairs as the
            # square of its free classes, which are all but one at first: products take these.
            self._groups = min(1, self._groups) if loss.independent else 0

    def look(self, v, f, a, rho):
        """As :meth:`.steps.ArraySteps.look`."""
        loss, memory, empty = self.loss, self.kernels.memory, self.kernels.xp.empty
        new, gradient = empty(f.shape, np.float32), empty(v.shape, np.float32)
        mask, coupling = empty(f.shape, np.uint8), empty(len(f), np.float32)
        rows = empty(len(f), np.int64)
        totals, squares, count, pairs, fans = self.kernels.module.svm_look(
            *loss.problem, self._matrix, memory(f), memory(a), float(rho), memory(v), memory(new),
            memory(mask), memory(coupling), memory(rows), memory(gradient), self._groups,
            *self.kernels.where,
        )  # fmt: skip
        losses, linear, quadratic = totals
        dual = linear - (quadratic / (4 * loss.C) if loss.hinge == 2 else 0.0)
        rows = rows[:count]
        curvature = NativeCurvature(loss, rows, mask, coupling, rho, pairs, fans)
        return Look(new, gradient, *squares, loss.C * losses, dual, lambda: (rows, curvature))

    def gathered(self, rows):
        """As :meth:`.steps.ArraySteps.gathered`."""
        z = self.z
        return rows, self.kernels.mapped(z.data, rows, z.centre, z.scale, np.float32)

    def newton(self, v, f, a, rho, gradient, part, curvature, search, precondition):
        """As :meth:`.steps.ArraySteps.newton`."""
        kernels, loss, memory = self.kernels, self.loss, self.kernels.memory
        rows, matrix = None, self._matrix
        if part is not None:
            rows, data = part
            matrix = memory(data), False, None, None
        system = (
            matrix, memory(rows), memory(curvature.mask), memory(curvature.coupling), float(rho),
        )  # fmt: skip
        parts = None
        if precondition is not None:
            basis, *rest = precondition.dense()
            parts = memory(basis), *rest
        p = kernels.xp.empty_like(gradient)
        fp = kernels.xp.empty(f.shape, np.float32)
        return kernels.module.svm_newton(
            *loss.problem, self._matrix, system, parts,
            (float(search.ratio), int(search.most), int(search.check_every)), memory(gradient),
            memory(a), memory(v), memory(f), memory(p), memory(fp), *kernels.where,
        )  # fmt: skip


class NativeCurvature:
    """What the kernels need of :class:`.losses.Curvature`.

    Attributes
    ----------
    rows : (n,) int64
        The samples that have any.
    mask : (N, K) uint8
        Free classes, of all samples.
    coupling : (N,) float32
    rho : float
    """

    def __init__(self, loss, rows, mask, coupling, rho, pairs, fans):
        self.loss, self.rows, self.mask, self.coupling, self.rho = loss, rows, mask, coupling, rho
        self._pairs, self._fans = pairs, fans

    def between_classes(self):
        """As :meth:`.losses.Curvature.between_classes`."""
        if self.loss.form == "ovr":
            return float(self.rho) * self._pairs.sum(axis=0)
        if self._pairs is None:  # cs with many classes
            all_rows = Curvature(self.loss, self.mask, self.coupling[:, None], self.rho)
            return all_rows.take(self.rows).between_classes()
        return float(self.rho) * between_classes(self._pairs.astype(np.float64), self._fans)
