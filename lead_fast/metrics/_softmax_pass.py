"""One pass of softmax regression over the features: loss, gradients, curvature."""

import numpy as np

from .. import backend
from ..svm_arrays import native
from . import _native


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
        self.features = features
        self.weight = 1.0 + shared.norms  # coordinates have the lengths of the features
        self.kernels = native.kernels(shared.xp)

    def __call__(self, weights, bias):
        """Sums over the samples.

        Parameters
        ----------
        weights : array (K, W) float64, rows contiguous
        bias : array (K,) float64

        Returns
        -------
        totals : array (2,) float64
            The loss, of ``-log p[label]``, and the curvature, the trace of the diagonal blocks'
            second derivatives; on a GPU perhaps still being computed.
        gradient : array (K, W) float64
        of_bias : array (K,) float64
        """
        if self.shared.native:
            loss, gradient, of_bias, curvature = backend.cpu().softmax_pass(
                self.features, self.dtype, self.codes, self.centre, self.ones, weights,
                bias, self.exact, True, backend.threads(),
            )  # fmt: skip
            return np.array([loss, curvature]), gradient, of_bias
        if self.kernels is not None:
            return _native.softmax_pass(
                self.kernels, self.features, self.codes, self.weight, weights, bias
            )
        return self._by_products(weights, bias)

    def _by_products(self, weights, bias):
        xp, dtype = self.shared.xp, self.features.dtype
        code = self.codes[:, None]
        of_label = code == xp.arange(self.shared.k)
        logits = self.features @ weights.T.astype(dtype) + bias
        logits -= logits.max(axis=1, keepdims=True)
        own = xp.take_along_axis(logits, code, axis=1)
        terms = xp.where(of_label, 0.0, xp.exp(logits))
        rest = terms.sum(axis=1, keepdims=True)
        total = xp.exp(own) + rest
        # 1 - p keeps its digits as a sum over the others.
        slope = xp.where(of_label, -rest, terms) / total
        size = xp.abs(slope)  # p, or 1 - p
        curvature = size * (1.0 - size) * self.weight[:, None]
        gradient = (slope.T.astype(dtype) @ self.features).astype(np.float64)
        totals = xp.stack([(xp.log(total) - own).sum(), curvature.sum()])
        return totals, gradient, slope.sum(axis=0)


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
        totals, gradient, of_bias = sums(weights, shared.put(theta[:, -1].copy()))
        loss, curvature = shared.host(totals).tolist()
        slope = np.empty(shape)
        slope[:, :-1] = shared.host(gradient) / shared.n + penalty * theta[:, :-1]
        slope[:, -1] = shared.host(of_bias) / shared.n
        square = float(np.vdot(theta[:, :-1], theta[:, :-1]))
        value = loss / shared.n + 0.5 * penalty * square
        curvatures[value] = curvature
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
