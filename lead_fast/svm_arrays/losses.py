"""The hinges as one family: margins, multipliers, curvature, and values.

For a sample of class y with decision values f the margins are

    ovr:     m_k = 1 - s_k f_k        (s = 1 for k = y, else -1)
    ww, cs:  m_k = 1 - f_y + f_k      (k != y; a constant -1 stands at k = y)

and the multipliers a_k >= 0 of the loss at m, moved from a by a step of rho, are

    a' = argmax_a'  <a', m> - h(a') - |a' - a|^2 / (2 rho)

with h the conjugate of the loss: clipping to [0, C] for the plain hinge of ovr and ww, projection
on {a >= 0, sum <= C} for that of cs, a shrunk sum for the squared hinge of cs. The squared hinge of
ovr and ww is smooth by itself: it is the case a = 0, rho = 2 C without an upper bound.
"""

import dataclasses
import functools

import numpy as np

from .._fused import fused


def host(xp, array):
    """The array as an ndarray."""
    return np.ascontiguousarray(xp.asnumpy(array) if hasattr(xp, "asnumpy") else array)


@dataclasses.dataclass(frozen=True)
class Advance:
    """Multipliers moved by one step, and what comes with them.

    Attributes
    ----------
    multipliers, coefficients : (N, K) array
        See :meth:`Loss.step` and :meth:`Loss.coefficients`.
    primal, dual : float
        C times the sum of the losses; the linear part of the dual objective.
    curvature : callable
        () -> the rows that have curvature, and :class:`Curvature` of all rows.
    """

    multipliers: object
    coefficients: object
    primal: float
    dual: float
    curvature: object


@functools.cache
def _formulas(xp):
    """See :func:`lead_fast._fused.fused`."""

    def clip_step(multiplier, margin, rho, cap):
        return xp.minimum(xp.maximum(multiplier + rho * margin, 0), cap)

    def slope_term(multiplier, margin, step, t, rho, cap):
        ahead = margin + t * step
        return xp.minimum(xp.maximum(multiplier + rho * ahead, 0), cap) * step

    def between(new, cap):
        return (new > 0) & (new < cap)

    return fused(xp, clip_step, slope_term, between)


class Loss:
    """One of the six problems on given class numbers; arrays (N, K) of ``dtype``."""

    def __init__(self, xp, codes, n_classes, form, hinge, C, dtype):
        self.xp, self.form, self.hinge, self.C = xp, form, hinge, float(C)
        self.dtype = np.dtype(dtype)
        self.formulas = _formulas(xp)
        self.codes = xp.asarray(codes)
        self.index = self.codes[:, None].astype(np.int64)
        self.own = self.index == xp.arange(n_classes)
        self.smooth = hinge == 2 and form != "cs"
        self.independent = form == "ovr"  # the classes are problems of their own
        self.cap = self.dtype.type(self.C if hinge == 1 and form != "cs" else np.inf)

    def _scalar(self, value):
        return self.dtype.type(value)

    def differences(self, f, index=None, own=None):
        """The linear part of the margins."""
        own = self.own if own is None else own
        if self.form == "ovr":
            return self.xp.where(own, -f, f)
        index = self.index if index is None else index
        return f - self.xp.take_along_axis(f, index, axis=1)

    def margins(self, f):
        """Margins m (N, K) of decision values f."""
        m = self.differences(f) + self._scalar(1)
        return m if self.form == "ovr" else self.xp.where(self.own, self._scalar(-1), m)

    def coefficients(self, a, own=None):
        """Coefficients g (N, K) such that the weights of the multipliers are g^T Z."""
        own = self.own if own is None else own
        top = a if self.form == "ovr" else a.sum(axis=1, keepdims=True)
        return self.xp.where(own, top, -a)

    def step(self, a, m, rho):
        """The multipliers a' and, for cs, the threshold (N, 1) that was subtracted."""
        if self.form != "cs":
            step = self.formulas.clip_step(a, m, self._scalar(rho), self.cap)
            return step, None
        v = a + self._scalar(rho) * m
        threshold = self._threshold(v, rho)
        return self.xp.maximum(v - threshold, 0), threshold

    def advance(self, f, a, rho):
        """Move the multipliers ``a`` at decision values ``f``; :class:`Advance`."""
        m = self.margins(f)
        new, threshold = self.step(a, m, rho)
        return Advance(
            new, self.coefficients(new), self.primal(m), self.dual(new),
            lambda: self.curvature(new, threshold, rho),
        )  # fmt: skip

    def slope_along(self, f, a, df, rho):
        """The slope of the smoothed loss at f + t df: t (G,) -> (G,), ndarrays of float64."""
        m, dm = self.margins(f), self.differences(df)
        return lambda t: host(self.xp, self.slope(a, m, dm, t, rho))[0]

    def _threshold(self, v, rho):
        """Threshold t with a = max(v - t, 0): of the sum at most C, or of t = rho * sum / (2 C)."""
        xp = self.xp
        u = -xp.sort(-v, axis=1)
        total = xp.cumsum(u, axis=1)
        count = xp.arange(1, v.shape[1] + 1, dtype=self.dtype)
        if self.hinge == 1:
            level = (total - self._scalar(self.C)) / count
        else:
            r = self._scalar(rho / (2 * self.C))
            level = r * total / (1 + r * count)
        inside = (u > level).sum(axis=1, keepdims=True)
        found = xp.take_along_axis(level, xp.maximum(inside - 1, 0), axis=1)
        return xp.where(inside > 0, xp.maximum(found, 0), 0).astype(self.dtype)

    def slope(self, a, m, dm, t, rho):
        """d/dt of the smoothed loss at m + t dm, t (K,) for ovr, else (1,): (1, G), float64."""
        t = self.xp.asarray(t, dtype=self.dtype)
        if self.form == "cs":
            term = self.step(a, m + t * dm, rho)[0] * dm
        else:
            kernel = self.formulas.slope_term
            term = kernel(a, m, dm, t, self._scalar(rho), self.cap)
        return self.group(term.sum(axis=0, dtype=np.float64)[None])

    def group(self, per_class):
        """Sums (1, K) over the classes, unless these are problems of their own."""
        return per_class if self.independent else per_class.sum(axis=1, keepdims=True)

    def curvature(self, new, threshold, rho):
        """The rows of the generalised Hessian that are not zero, and :class:`Curvature`."""
        xp = self.xp
        free = self.formulas.between(new, self.cap)
        weight = None
        if self.form == "cs":
            count = free.sum(axis=1, keepdims=True).astype(self.dtype)
            if self.hinge == 1:
                weight = xp.where(threshold > 0, 1 / xp.maximum(count, 1), 0)
                free &= (count > 1) | (threshold <= 0)
            else:
                r = rho / (2 * self.C)
                weight = self._scalar(r) / (1 + self._scalar(r) * count)
            weight = weight.astype(self.dtype)
        rows = xp.flatnonzero(free.any(axis=1))
        return rows, Curvature(self, free, weight, rho)

    def primal(self, m):
        """C times the sum of the losses, float."""
        worst = self.xp.maximum(m.max(axis=1) if self.form == "cs" else m, 0)
        if self.hinge == 2:
            worst = worst * worst
        return self.C * float(worst.sum(dtype=np.float64))

    def dual(self, a):
        """The linear part of the dual objective, float."""
        total = float(a.sum(dtype=np.float64))
        if self.hinge == 1:
            return total
        s = a.sum(axis=1) if self.form == "cs" else a
        return total - float((s * s).sum(dtype=np.float64)) / (4 * self.C)

    def feasible(self, a):
        """The nearest multipliers in float64 that satisfy the constraints exactly."""
        a = a.astype(np.float64)
        if self.hinge == 2:
            return a
        if self.form != "cs":
            return self.xp.minimum(a, self.C)
        return a * self.xp.minimum(1.0, self.C / self.xp.maximum(a.sum(axis=1), 1e-300))[:, None]


def between_classes(pairs, fans=None):
    """The curvature of ww or cs between classes, summed over samples: (K, K) ndarray.

    Parameters
    ----------
    pairs : (K, K) ndarray
        Of label and class, what the class's own term has: it pulls at both.
    fans : (K, K) ndarray, optional
        Of cs, what the coupling of a sample's classes takes away.
    """
    total = -(pairs + pairs.T)
    np.fill_diagonal(total, 0)
    if fans is not None:
        total -= fans
    total[np.diag_indices(len(total))] += pairs.sum(axis=0) + pairs.sum(axis=1)
    return total


class Curvature:
    """Generalised derivative of the coefficients with respect to the decision values."""

    def __init__(self, loss, free, weight, rho):
        self.loss, self.weight = loss, weight
        self.free = free.astype(loss.dtype) * loss._scalar(rho)
        self.rho = loss._scalar(rho)
        self.index, self.own = loss.index, loss.own

    def take(self, rows):
        """Keep these rows only."""
        self.free, self.index, self.own = self.free[rows], self.index[rows], self.own[rows]
        if self.weight is not None:
            self.weight = self.weight[rows]
        return self

    def between_classes(self):
        """Sum over the rows of the curvature: (K, K), or its diagonal (K,) for ovr; ndarray."""
        xp, free = self.loss.xp, self.free
        if self.loss.form == "ovr":
            return host(xp, free.sum(axis=0, dtype=np.float64))
        pairs = host(xp, self.own.astype(free.dtype).T @ free).astype(np.float64)
        fans = None
        if self.weight is not None:
            fan = self.loss.coefficients(free, self.own)
            fans = host(xp, fan.T @ (fan * (self.weight / self.rho)))
        return between_classes(pairs, fans)

    def __call__(self, df):
        """Apply to decision values (n, K) of a direction."""
        moved = self.free * self.loss.differences(df, self.index, self.own)
        if self.weight is not None:
            total = moved.sum(axis=1, keepdims=True) / self.rho
            moved -= self.free * (self.weight * total)
        return self.loss.coefficients(moved, self.own)
