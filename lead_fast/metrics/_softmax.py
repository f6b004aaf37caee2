"""L2-regularised softmax regression to convergence: L-BFGS on a preconditioned problem."""

import dataclasses

import numpy as np

from .. import backend
from ..errors import InputError
from ._fisher import solve_upper
from ._linalg import add_to_diagonal, cholesky, eigh, solve_lower
from ._softmax_pass import Pass

_ARMIJO = 1e-4
_HISTORY_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The optimum: its loss, its curvature, and how it was reached."""

    loss: float
    curvature: float
    gain: float
    passes: int
    converged: bool
    theta: np.ndarray  # see _Problem


class _Problem:
    """Mean cross-entropy plus ``penalty / 2 |W|^2``, in coordinates in which it is well scaled.

    theta is (K, D + 1): ``W L`` and the scaled bias, with ``L L^T = X^T X / (K N) + penalty I``,
    the Hessian at W = 0 but for the coupling of the classes. For N < D the features are replaced by
    N coordinates in the space that they span, in which lengths and products are the same.
    """

    def __init__(self, shared, penalty):
        self.shared, self.xp = shared, shared.xp
        self.n, self.k, self.penalty = shared.n, shared.k, penalty
        self.exact = shared.dtype == np.float64
        level = 1.0 / shared.k
        self.bias_scale = level**-0.5
        xp, self.features = self.xp, None
        if shared.n < shared.d:
            x = shared.x - shared.mean.astype(shared.dtype)
            values, vectors = eigh((x @ x.T).astype(np.float64))
            values = xp.maximum(values, 0.0)
            coordinates = (vectors * xp.sqrt(values)).astype(shared.dtype)
            self.features = xp.ascontiguousarray(coordinates)
            matrix = xp.diag(values * (level / self.n))
        else:
            matrix = shared.total * (level / self.n)
        self.sums, self.width = Pass(shared, self.features), len(matrix)
        # The scatter's rounding must not outweigh the penalty.
        rounding = shared.eps * float(xp.trace(matrix)) / self.width
        add_to_diagonal(matrix, penalty + rounding)
        self.factor = cholesky(matrix, overwrite=True)
        if self.factor is None:
            raise InputError("pactran: the scatter is not positive definite; rescale the features")

    def start(self, prior):
        """Theta for W = 0 and the log-prior as bias."""
        theta = np.zeros((self.k, self.width + 1))
        theta[:, -1] = np.log(prior) / self.bias_scale
        return theta

    def __call__(self, theta):
        """Loss, gradient and curvature; theta and gradient on the host."""
        xp, put = self.xp, self.shared.put
        weights = xp.ascontiguousarray(solve_upper(self.factor, put(theta[:, :-1].T)).T)
        bias = put(theta[:, -1] * self.bias_scale)
        loss, gradient, of_bias, curvature = self.sums(weights, bias)
        slope = np.empty_like(theta)
        gradient /= self.n
        gradient += self.penalty * weights
        slope[:, :-1] = self.shared.host(solve_lower(self.factor, gradient.T).T)
        slope[:, -1] = self.shared.host(of_bias) * (self.bias_scale / self.n)
        square = float(xp.vdot(weights, weights))
        return loss / self.n + 0.5 * self.penalty * square, slope, curvature


def fit(shared, penalty, tol, max_passes):
    """Minimise over W and b.

    Parameters
    ----------
    shared : Shared
    penalty : float
        Of ``|W|^2 / 2`` beside the mean cross-entropy of the centred features.
    tol : float
        Relative gain that the next step must promise for the search to go on.
    max_passes : int
        Limit on evaluations.

    Returns
    -------
    Fitted
    """
    problem = _Problem(shared, penalty)
    with backend.one_blas_thread():  # its threads would wait in a loop, on the passes' cores
        return _minimise(problem, problem.start(shared.counts_on_host / shared.n), tol, max_passes)


def coefficients(shared, penalty, found):
    """Weights (D, K) and biases (K,) of the optimum, for centred features."""
    problem = _Problem(shared, penalty)
    weights = solve_upper(problem.factor, found.theta[:, :-1].T)
    if shared.n < shared.d:
        square = np.einsum("ij,ij->j", problem.features, problem.features, dtype=np.float64)
        kept = square > shared.n * np.finfo(shared.dtype).eps * square.max()
        centred = shared.x - shared.mean.astype(shared.dtype)
        weights = centred.T @ (problem.features[:, kept] @ (weights[kept] / square[kept, None]))
    return weights, found.theta[:, -1] * problem.bias_scale


def _minimise(problem, theta, tol, max_passes):
    loss, slope, curvature = problem(theta)
    passes, pairs, small, gain = 1, [], 0, np.inf
    rounding = 4.0 * np.finfo(np.float64 if problem.exact else np.float32).eps
    memory = max(5, min(20, _HISTORY_BYTES // (16 * theta.size)))
    while passes < max_passes:
        step = _direction(slope, pairs)
        promise = -float(np.vdot(slope, step))
        gain = 0.5 * promise
        small = small + 1 if gain <= tol * loss else 0
        if small == 2 or not promise > 0.0:  # twice: a single direction may be poor
            return Fitted(loss, curvature, gain, passes, True, theta)
        length = 1.0
        while True:
            candidate = theta + length * step
            found = problem(candidate)
            passes += 1
            # Where the change is within rounding, a step is taken for what its slope says.
            if found[0] <= loss - _ARMIJO * length * promise + rounding * loss:
                break
            length *= 0.5
            if length < 1e-6 or passes >= max_passes:
                return Fitted(loss, curvature, gain, passes, gain <= 10.0 * tol * loss, theta)
        change, bend = candidate - theta, found[1] - slope
        product = float(np.vdot(change, bend))
        if product > 0.0:
            pairs.append((change, bend, 1.0 / product))
            del pairs[:-memory]
        theta, (loss, slope, curvature) = candidate, found
    return Fitted(loss, curvature, gain, passes, gain <= tol * loss, theta)


def _direction(slope, pairs):
    """L-BFGS's two loops."""
    q, factors = slope.copy(), []
    for change, bend, weight in reversed(pairs):
        a = weight * float(np.vdot(change, q))
        factors.append(a)
        q -= a * bend
    if pairs:
        _, bend, weight = pairs[-1]
        q *= 1.0 / (weight * float(np.vdot(bend, bend)))
    for (change, bend, weight), a in zip(pairs, reversed(factors), strict=True):
        q += (a - weight * float(np.vdot(bend, q))) * change
    return -q
