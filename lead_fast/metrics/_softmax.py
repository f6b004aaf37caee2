"""L2-regularised softmax regression to convergence: L-BFGS on a preconditioned problem."""

import dataclasses

import numpy as np
from scipy.linalg import lapack

from .. import backend
from ..errors import InputError
from ._fisher import solve_upper
from ._linalg import add_to_diagonal, cholesky, eigh, solve_lower, to_numpy
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
    theta: np.ndarray  # see _Problem; an array of the features' namespace


class _Problem:
    """Mean cross-entropy plus ``penalty / 2 |W|^2``, in coordinates in which it is well scaled.

    theta is (K, D + 1): ``W L`` and the scaled bias, with ``L L^T = X^T X / (K N) + penalty I``,
    the Hessian at W = 0 but for the coupling of the classes. For N < D the features are replaced by
    N coordinates in the space that they span, in which lengths and products are the same.
    """

    def __init__(self, shared, penalty):
        self.shared, self.xp = shared, shared.xp
        self.n, self.k, self.penalty = shared.n, shared.k, penalty
        self.dtype = shared.dtype
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
        if not shared.native:
            # A GPU takes far longer to solve for a few columns than to multiply them. Any matrix
            # near to the inverse is as good a change of coordinates.
            self.inverse = solve_lower(self.factor, xp.eye(self.width))

    def start(self, prior):
        """Theta for W = 0 and the log-prior as bias."""
        theta = np.zeros((self.k, self.width + 1))
        theta[:, -1] = np.log(prior) / self.bias_scale
        return self.shared.put(theta)

    def _weights(self, theta):
        if self.shared.native:
            return np.ascontiguousarray(solve_upper(self.factor, theta[:, :-1].T).T)
        return theta[:, :-1] @ self.inverse

    def _slope(self, gradient):
        if self.shared.native:
            return solve_lower(self.factor, gradient.T).T
        return gradient @ self.inverse.T

    def __call__(self, theta):
        """Parts of loss and curvature (3,), see :meth:`values`, and the gradient; all of `xp`."""
        xp, weights = self.xp, self._weights(theta)
        totals, gradient, of_bias = self.sums(weights, theta[:, -1] * self.bias_scale)
        slope = xp.empty_like(theta)
        gradient /= self.n
        gradient += self.penalty * weights
        slope[:, :-1] = self._slope(gradient)
        slope[:, -1] = of_bias * (self.bias_scale / self.n)
        return xp.concatenate([totals, xp.vdot(weights, weights)[None]]), slope

    def values(self, parts):
        """Loss and curvature, floats, of parts that are on the host."""
        loss, curvature, square = parts.tolist()
        return loss / self.n + 0.5 * self.penalty * square, curvature


class _History:
    """The last pairs of L-BFGS, and its directions from inner products alone.

    So vectors may stay on a device of which only these products are asked, all at once, and with
    the loss that they come with. The direction is the compact form's (Byrd, Nocedal, Schnabel,
    "Representations of quasi-Newton matrices and their use in limited memory methods", Theorem
    2.2), with the scale of the newest pair.

    Parameters
    ----------
    problem : _Problem
    parts, slope : array
        What the problem says of the start.
    memory : int
        Pairs to keep.
    """

    def __init__(self, problem, parts, slope, memory):
        self.problem, self.xp, self.slope, self.memory = problem, problem.xp, slope, memory
        slots = memory + 1  # one for a pair that may not be kept
        self.changes, self.bends = np.arange(slots), np.arange(slots) + slots
        self.rows = self.xp.zeros((2 * slots + 1, slope.size))
        self.products = np.zeros((2 * slots + 1, 2 * slots + 1))
        self.kept = []  # slots, the oldest first
        self.rows[-1] = slope.ravel()
        found = to_numpy(self.xp.concatenate([parts, self.rows[-1:] @ self.rows[-1]]))
        self.values, self.products[-1, -1] = problem.values(found[:3]), found[3]

    def step(self):
        """A step (K, D + 1), and the decrease of the loss that its slope promises."""
        changes, bends = self.changes[self.kept], self.bends[self.kept]
        factors, products = np.zeros(len(self.products)), self.products
        factors[-1] = -1.0
        if self.kept:
            right = products[changes][:, bends]  # of which only the upper triangle counts
            square = products[bends][:, bends]
            scale = right[-1, -1] / square[-1, -1]
            u = lapack.dtrtrs(right, products[changes, -1])[0]
            v = right.diagonal() * u + scale * (square @ u - products[bends, -1])
            factors[-1] = -scale
            factors[changes] = -lapack.dtrtrs(right, v, trans=1)[0]
            factors[bends] = scale * u
        step = self.problem.shared.put(factors) @ self.rows
        return step.reshape(self.slope.shape), -float(factors @ products[-1])

    def look(self, theta, there):
        """Evaluate the problem there, coming from theta: loss and curvature, and for `move`."""
        free = next(slot for slot in range(self.memory + 1) if slot not in self.kept)
        parts, slope = self.problem(there)
        subtract, rows, pair = self.xp.subtract, self.rows, (free, free + self.memory + 1)
        subtract(there.ravel(), theta.ravel(), out=rows[pair[0]])
        subtract(slope.ravel(), self.slope.ravel(), out=rows[pair[1]])
        rows[-1] = slope.ravel()
        found = [parts, *(rows @ rows[number] for number in (*pair, -1))]
        found = to_numpy(self.xp.concatenate(found))  # the one transfer of a pass
        return self.problem.values(found[:3]), (slope, free, found[3:].reshape(3, -1))

    def move(self, seen):
        """Go where `look` has been."""
        self.slope, free, products = seen
        places = [free, free + self.memory + 1, -1]
        self.products[places] = products
        self.products[:, places] = products.T
        # What a kept pair has with the old slope is gone with it: row and column are the new one's.
        if self.products[places[0], places[1]] > 0.0:
            self.kept = [*self.kept, free][-self.memory :]


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
    memory = max(5, min(20, _HISTORY_BYTES // (16 * theta.size)))
    history = _History(problem, *problem(theta), memory)
    loss, curvature = history.values
    passes, small, gain = 1, 0, np.inf
    while passes < max_passes:
        step, promise = history.step()
        rounding = _rounding(loss, problem.dtype)
        gain = 0.5 * promise
        small = small + 1 if gain <= tol * loss else 0
        if small == 2 or not promise > 0.0:  # twice: a single direction may be poor
            return Fitted(loss, curvature, gain, passes, True, theta)
        length = 1.0
        while True:
            candidate = theta + step
            found, seen = history.look(theta, candidate)
            passes += 1
            # Where the change is within rounding, a step is taken for what its slope says.
            if found[0] <= loss - _ARMIJO * length * promise + rounding:
                break
            length *= 0.5
            step *= 0.5
            if length < 1e-6 or passes >= max_passes:
                enough = gain <= max(10.0 * tol * loss, rounding)
                return Fitted(loss, curvature, gain, passes, enough, theta)
        history.move(seen)
        theta, (loss, curvature) = candidate, found
    enough = gain <= max(tol * loss, _rounding(loss, problem.dtype))
    return Fitted(loss, curvature, gain, passes, enough, theta)


def _rounding(loss, dtype):
    """Room for the rounding of a loss from features of this type."""
    # A sample's part is the logarithm of 1 and more, whose rounding does not shrink with it.
    return 4.0 * float(np.finfo(dtype).eps) * loss + float(np.finfo(np.float64).eps)
