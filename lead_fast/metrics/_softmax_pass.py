"""One pass of softmax regression over the features: loss, gradients, curvature."""

import functools

import numpy as np

from .. import backend
from .._fused import fused


@functools.cache
def _formulas(xp):
    """See :func:`lead_fast._fused.fused`."""

    def other_terms(logit, top, code, number):
        return xp.where(code == number, 0.0, xp.exp(logit - top))

    def all_terms(own, top, rest):
        return xp.exp(own - top) + rest

    def sample_loss(own, top, total):
        return xp.log(total) - (own - top)

    def slope_of(terms, rest, total, code, number):
        # 1 - p keeps its digits as a sum over the others.
        return xp.where(code == number, -rest, terms) / total

    def bend_of(slope, weight):
        size = xp.abs(slope)  # p, or 1 - p
        return size * (1.0 - size) * weight

    return fused(xp, other_terms, all_terms, sample_loss, slope_of, bend_of)


class Pass:
    """Sums over the samples for given weights and biases.

    Parameters
    ----------
    shared : Shared
    features : array (N, W), optional
        Of the type of `shared`, and centred; by default those of `shared`, which are centred on
        the way.
    """

    def __init__(self, shared, features=None):
        self.shared, self.codes = shared, shared.codes
        self.width = shared.d if features is None else features.shape[1]
        self.exact = shared.dtype == np.float64
        if shared.native:
            self.ones = np.ones(self.width)
            if features is None:
                self.features, self.dtype = shared.features.data, shared.features.dtype
                self.centre = shared.mean
            else:
                self.features, self.dtype = features, shared.dtype.name
                self.centre = np.zeros(self.width)
            return
        if features is None:
            features = shared.x - shared.mean.astype(shared.dtype)
        xp, self.features = shared.xp, features
        self.weight = 1.0 + (features.astype(np.float64) ** 2).sum(axis=1)[:, None]
        self.numbers = xp.arange(shared.k)
        self.own = xp.arange(shared.n) * shared.k + self.codes

    def __call__(self, weights, bias):
        """Sums over the samples.

        Parameters
        ----------
        weights : array (K, W) float64, rows contiguous
        bias : array (K,) float64

        Returns
        -------
        loss : float, or array () that is still being computed
            Of ``-log p[label]``.
        gradient : array (K, W) float64
        of_bias : array (K,) float64
        curvature : float or array ()
            Trace of the diagonal blocks' second derivatives.
        """
        if not self.shared.native:
            return self._by_products(weights, bias)
        return backend.cpu().softmax_pass(
            self.features, self.dtype, self.codes, self.centre, self.ones, weights,
            bias, self.exact, True, backend.threads(),
        )  # fmt: skip

    def _by_products(self, weights, bias):
        dtype, formulas = self.features.dtype, _formulas(self.shared.xp)
        code = self.codes[:, None]
        logits = self.features @ weights.T.astype(dtype) + bias
        top = logits.max(axis=1, keepdims=True)
        own = logits.ravel()[self.own][:, None]
        terms = formulas.other_terms(logits, top, code, self.numbers)
        rest = terms.sum(axis=1, keepdims=True)
        total = formulas.all_terms(own, top, rest)
        loss = formulas.sample_loss(own, top, total).sum()
        slope = formulas.slope_of(terms, rest, total, code, self.numbers)
        curvature = formulas.bend_of(slope, self.weight).sum()
        gradient = (slope.T.astype(dtype) @ self.features).astype(np.float64)
        return loss, gradient, slope.sum(axis=0), curvature


def descend(shared, penalty, steps, seed):
    """What the public code does: some steps of L-BFGS-B from a random start.

    Parameters
    ----------
    shared : Shared
    penalty : float
        Of ``|W|^2 / 2`` beside the mean cross-entropy of the centred features.
    steps : int
        At most; fewer where a gain falls below 1e-6 of the loss.
    seed : int

    Returns
    -------
    theta : ndarray (K, D + 1)
        Weights and biases, for centred features.
    loss, curvature : float
        There, the curvature as a sum over the samples.
    passes : int
    """
    from scipy.optimize import minimize

    sums, shape = Pass(shared), (shared.k, shared.d + 1)
    curvatures = {}  # of the values met, among which is the last

    def objective(flat):
        theta = flat.reshape(shape)
        weights = shared.put(np.ascontiguousarray(theta[:, :-1]))
        loss, gradient, of_bias, curvature = sums(weights, shared.put(theta[:, -1].copy()))
        slope = np.empty(shape)
        slope[:, :-1] = shared.host(gradient) / shared.n + penalty * theta[:, :-1]
        slope[:, -1] = shared.host(of_bias) / shared.n
        square = float(np.vdot(theta[:, :-1], theta[:, :-1]))
        value = float(loss) / shared.n + 0.5 * penalty * square
        curvatures[value] = float(curvature)
        return value, slope.ravel()

    theta = np.zeros(shape)
    draws = np.random.default_rng(seed).standard_normal((shared.d, shared.k))
    theta[:, :-1] = 0.03 * draws.T
    with backend.one_blas_thread():  # its threads would wait in a loop, on the passes' cores
        found = minimize(
            objective, theta.ravel(), jac=True, method="L-BFGS-B", tol=1e-6,
            options={"maxiter": steps, "maxfun": 100 * steps},
        )  # fmt: skip
    return found.x.reshape(shape), float(found.fun), curvatures[found.fun], found.nfev
