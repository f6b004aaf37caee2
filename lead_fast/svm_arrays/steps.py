"""What a step of the solver asks of arrays; :mod:`.native` has the same as a few kernels."""

import dataclasses

import numpy as np

from .losses import host
from .newton import direction, line_search


@dataclasses.dataclass(frozen=True)
class Look:
    """What decides on the next step, at weights v and multipliers moved by one step.

    Attributes
    ----------
    multipliers : (N, K) array
    gradient : (K, D + 1) array
        v - g^T Z.
    size, dual_size, inner : float
        Half the squared lengths of v, of g^T Z and of the gradient.
    primal, dual : float
        See :class:`.losses.Advance`.
    curvature : callable
        () -> the rows that have curvature, and the curvature.
    """

    multipliers: object
    gradient: object
    size: float
    dual_size: float
    inner: float
    primal: float
    dual: float
    curvature: object


@dataclasses.dataclass(frozen=True)
class Search:
    """How far the conjugate gradients go; see :func:`.newton.direction`."""

    ratio: float
    most: int
    check_every: int


class ArraySteps:
    """By array operations.

    Parameters
    ----------
    xp : module
    z : :class:`.rows.Rows`
    loss : :class:`.losses.Loss`

    Attributes
    ----------
    most_classes : float
        With which :meth:`newton` takes a preconditioner.
    """

    most_classes = np.inf

    def __init__(self, xp, z, loss):
        self.xp, self.z, self.loss = xp, z, loss

    def look(self, v, f, a, rho):
        """Move the multipliers a at decision values f = Z v^T: :class:`Look`."""
        state = self.loss.advance(f, a, rho)
        of_dual = self.z.transposed_times(state.coefficients)
        gradient = v - of_dual
        size, dual_size, inner = half_squares(self.xp, v, of_dual, gradient)
        return Look(
            state.multipliers, gradient, size, dual_size, inner, state.primal, state.dual,
            state.curvature,
        )  # fmt: skip

    def gathered(self, rows):
        """These rows (n,) and a mapped copy of them, for products with them alone."""
        return rows, self.z.mapped(rows)

    def newton(self, v, f, a, rho, gradient, part, curvature, search, precondition):
        """Move weights and decision values by a step of Newton's method, in place.

        Parameters
        ----------
        v : (K, D + 1) array
            Weights, moved.
        f : (N, K) array
            Z v^T, moved.
        a : (N, K) array
            The multipliers that :meth:`look` was given.
        rho : float
        gradient : (K, D + 1) array
        part : tuple or None
            The rows with curvature as :meth:`gathered` has them; None for all rows.
        curvature : callable
            As :meth:`Look.curvature` gives it.
        search : Search
            With ``most`` 0 if no row has curvature.
        precondition : :class:`.precondition.Preconditioner` or None

        Returns
        -------
        steps : int
            Of the conjugate gradients.
        """
        xp, z = self.xp, self.z
        p, steps = gradient.astype(z.dtype), 0
        if search.most == 0:
            p = -p
        else:
            active = z
            if part is not None:
                rows, data = part
                curvature.take(rows)
                active = _Gathered(xp, data)
            p, steps = direction(
                xp, active, p, curvature, self._group, search.ratio, search.most,
                search.check_every, precondition,
            )  # fmt: skip
        fp = z.times(p)
        p = p.astype(np.float64)
        vp, pp = host(xp, xp.stack([(v * p).sum(axis=1), (p * p).sum(axis=1)]))
        vp, pp = (self.loss.group(x[None])[0] for x in (vp, pp))
        of_loss = self.loss.slope_along(f, a, fp, rho)

        def slope(t):
            return vp + t * pp + of_loss(t)

        t = xp.asarray(line_search(slope, slope(np.zeros_like(vp))))
        v += t[:, None] * p
        f += t.astype(f.dtype) * fp
        return steps

    def _group(self, per_class):
        """Sums (K,) of each class as (K, 1), or (1, 1) where the classes are coupled."""
        return self.loss.group(per_class[None]).T


def half_squares(xp, *vectors):
    """|v|^2 / 2 of each, floats, in one transfer."""
    return [0.5 * float(x) for x in host(xp, xp.stack([xp.vdot(v, v) for v in vectors]))]


class _Gathered:
    """Rows of Z in an array of their own."""

    def __init__(self, xp, data):
        self.xp, self.data, self.n = xp, data, len(data)

    def times(self, v):
        return self.data @ v[:, :-1].T + v[:, -1]

    def transposed_times(self, g):
        out = self.xp.empty((g.shape[1], self.data.shape[1] + 1), g.dtype)
        out[:, :-1] = g.T @ self.data
        out[:, -1] = g.sum(axis=0)
        return out
