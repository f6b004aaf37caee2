"""Augmented Lagrangian and semismooth Newton on the primal, certified by the multipliers."""

import dataclasses

import numpy as np

from ..svm import relative_gap
from . import native
from .losses import Loss
from .precondition import Directions, Preconditioner, sampling_cost
from .rows import Rows
from .steps import ArraySteps, Search, half_squares

FLOAT64_TOL = 2e-5  # below this gap products are taken in float64
ALL_ROWS = 0.6  # share of the rows above which they are not gathered
# Of the gap wanted, what is aimed at: the last steps gain most, so that this takes 8 % more passes
# than all of it (on examples/zoo/digits), and scores that are close keep their order more often.
AIM = 0.4
LAUNCH_CHECKS = 4  # steps between looks at a residual on a GPU


@dataclasses.dataclass(frozen=True)
class Fit:
    """What :func:`svm_fit_arrays` found; see :class:`lead_fast.svm.SvmReport`.

    Attributes
    ----------
    weights : (K, D) array of xp, float64
        In the mapped space.
    bias : (K,) array of xp, float64
    decision : (N, K) array of xp, float64
        Decision values of the rows.
    primal, dual, gap : float
    passes : float
        Pairs of products with the features, a product with a part of the rows counted as that
        part.
    converged : bool
    newton_steps, cg_steps, rounds : int
        Of the solver: steps of Newton's method, of conjugate gradients, multiplier updates.
    """

    weights: object
    bias: object
    decision: object
    primal: float
    dual: float
    gap: float
    passes: float
    converged: bool
    newton_steps: int
    cg_steps: int
    rounds: int


def svm_fit_arrays(
    xp, features, codes, n_classes, mean, inverse_scale, form, hinge, C=1.0, tol=1e-3,
    max_passes=1000, *, rho=0.3, growth=1.7, ratio=0.4, balance=0.5, check_every=None,
):  # fmt: skip
    r"""Multi-class SVM on arrays of NumPy or CuPy.

    .. math:: \min_v \tfrac12 |v|^2 + C \sum_i \ell(m_i(v))

    over rows z = [(x - mean) * inverse_scale, 1]. The plain hinge and the hinges of ``"cs"`` have
    kinks: multipliers a of the margins are moved by an augmented Lagrangian, whose inner problem is
    solved by a semismooth Newton method with conjugate gradients on the rows that have curvature.
    The multipliers it finds on its way satisfy the dual constraints, so every gradient comes with
    a duality gap,

    .. math:: P(v) - D(a) = \tfrac12 |v - v_a|^2
              + \sum_i \big( C \ell(m_i) + h(a_i) - \langle a_i, m_i \rangle \big),

    whose first part is what the inner problem leaves and whose second part is what the multipliers
    have yet to move; an inner problem ends when the first is below ``balance`` times the second.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    features : (N, D) array of xp
        float16, float32 or float64; for bfloat16 the bits as uint16.
    codes : (N,) array of int
        Class numbers.
    n_classes : int
    mean, inverse_scale : (D,) array
    form : {"ww", "ovr", "cs"}
    hinge : {1, 2}
    C, tol : float
    max_passes : int
        Limit on pairs of products with all rows.
    rho, growth : float
        Step of the multipliers in units of C, and the factor by which it grows when an inner
        problem has been solved in one or two Newton steps.
    ratio : float
        To which the conjugate gradients reduce the residual.
    balance : float
    check_every : int, optional
        Steps between looks at that residual.

    Returns
    -------
    Fit

    Notes
    -----
    Memory beyond the features: some ten arrays of N K numbers, and the gathered rows. The gap is
    certified by one pass in float64 at the end.
    """
    solver = _Solver(
        xp, features, codes, n_classes, mean, inverse_scale, form, hinge, C, tol, max_passes
    )
    solver.ratio, solver.balance = ratio, balance
    if check_every is None:
        check_every = 1 if xp is np else LAUNCH_CHECKS
    solver.check_every = check_every
    return solver.run(rho, growth)


class _Solver:
    def __init__(
        self, xp, features, codes, n_classes, mean, inverse_scale, form, hinge, C, tol, max_passes
    ):
        self.xp, self.tol, self.max_passes = xp, tol, max_passes
        self.dtype = np.dtype(np.float32 if tol >= FLOAT64_TOL else np.float64)
        kernels = native.kernels(xp)
        self.z = Rows(xp, features, mean, inverse_scale, self.dtype, kernels)
        if kernels is None or self.dtype != np.float32:
            self.loss = Loss(xp, codes, n_classes, form, hinge, C, self.dtype)
            self.steps = ArraySteps(xp, self.z, self.loss)
        else:
            self.loss = native.NativeLoss(kernels, codes, n_classes, form, hinge, C)
            self.steps = native.NativeSteps(kernels, self.z, self.loss)
        self.v = xp.zeros((n_classes, features.shape[1] + 1), np.float64)
        self.f = xp.zeros((self.z.n, n_classes), self.dtype)
        self.a = xp.zeros_like(self.f)
        self.directions = None
        self.passes = 0.0
        self.newton_steps = self.cg_steps = self.rounds = 0

    def run(self, rho, growth):
        loss = self.loss
        rho = 2 * loss.C if loss.smooth else rho * loss.C
        best = None
        aim = AIM * self.tol
        while True:
            steps = 0
            while True:
                look = self.steps.look(self.v, self.f, self.a, rho)
                self.passes += 0.5
                inner = look.inner
                primal, dual = look.size + look.primal, look.dual - look.dual_size
                gap = primal - dual
                over = self.passes >= self.max_passes
                if gap <= aim * primal or over:
                    found = self.certify(look.multipliers)
                    best = found if best is None or found.gap < best.gap else best
                    if best.gap <= self.tol or over or aim < 1e-3 * self.tol:
                        return best
                    aim *= 0.5
                if steps and not loss.smooth and inner <= self.balance * (gap - inner):
                    break
                if inner <= 1e-30 * max(primal, 1.0):
                    break
                self.newton(look, rho)
                steps += 1
            self.rounds += 1
            self.a = look.multipliers
            if not loss.smooth and steps <= 2:
                rho *= growth

    def newton(self, look, rho):
        """One step of Newton's method with a search along it."""
        n = self.z.n
        rows, curvature = look.curvature()
        count = len(rows)
        few = 0 < count <= ALL_ROWS * n
        share = count / n if few else 1.0
        part = self.steps.gathered(rows) if few else None  # a GPU copies while the host goes on
        precondition = self.preconditioner(curvature) if count else None
        most = min(max(4, int((self.max_passes - self.passes) / share) + 1), 500) if count else 0
        steps = self.steps.newton(
            self.v, self.f, self.a, rho, look.gradient, part, curvature,
            Search(self.ratio, most, self.check_every), precondition,
        )  # fmt: skip
        self.cg_steps += steps
        self.passes += steps * share + 0.5
        self.newton_steps += 1

    def preconditioner(self, curvature):
        """Of the curvature's sum over rows; None where it would take much of the passes left."""
        if len(self.v) > self.steps.most_classes:
            return None
        if self.directions is None:
            cost = sampling_cost(self.z) / len(self.v)
            if cost > 0.25 * (self.max_passes - self.passes):
                return None
            self.directions = Directions(self.xp, self.z)
            self.passes += cost
        between = curvature.between_classes()
        return Preconditioner(self.xp, between, self.directions, self.dtype, self.loss.independent)

    def certify(self, a):
        """The gap of weights and multipliers, products and sums in float64 throughout."""
        loss, xp = self.loss, self.xp
        exact = Loss(xp, loss.codes, len(self.v), loss.form, loss.hinge, loss.C, np.float64)
        a = exact.feasible(a)
        f, of_dual = self.z.at(np.float64).both(self.v, exact.coefficients(a))
        self.passes += 1.0
        size, dual_size = half_squares(xp, self.v, of_dual)
        primal = size + exact.primal(exact.margins(f))
        dual = exact.dual(a) - dual_size
        dual = max(0.0, dual)  # multipliers of zero are feasible, too
        gap = relative_gap(primal, dual)
        self.f = xp.ascontiguousarray(f.astype(self.dtype))
        v = self.v.copy()
        return Fit(
            v[:, :-1], v[:, -1], f, primal, dual, gap, self.passes, gap <= self.tol,
            self.newton_steps, self.cg_steps, self.rounds,
        )  # fmt: skip
