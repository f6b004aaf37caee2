"""One pass of softmax regression over the features: loss, gradients, curvature."""

import numpy as np

from .. import backend


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
        self.norms = (features.astype(np.float64) ** 2).sum(axis=1)

    def __call__(self, weights, bias):
        """Sums over the samples.

        Parameters
        ----------
        weights : array (K, W) float64, rows contiguous
        bias : array (K,) float64

        Returns
        -------
        loss : float
            Of ``-log p[label]``.
        gradient : array (K, W) float64
        of_bias : array (K,) float64
        curvature : float
            Trace of the diagonal blocks' second derivatives.
        """
        if not self.shared.native:
            return self._by_products(weights, bias)
        return backend.cpu().softmax_pass(
            self.features, self.dtype, self.codes, self.centre, self.ones, weights,
            bias, self.exact, True, backend.threads(),
        )  # fmt: skip

    def _by_products(self, weights, bias):
        xp, dtype, own = self.shared.xp, self.features.dtype, self.codes[:, None]
        s = (self.features @ weights.T.astype(dtype)).astype(np.float64) + bias
        s -= s.max(axis=1, keepdims=True)
        p = xp.exp(s)
        total = p.sum(axis=1, keepdims=True)
        loss = float((xp.log(total) - xp.take_along_axis(s, own, axis=1)).sum())
        # 1 - p keeps its digits as a sum over the others.
        hot = xp.arange(self.shared.k) == own
        rest = xp.where(hot, 0.0, p).sum(axis=1, keepdims=True)
        p /= total
        spread = (p * (1.0 - p)).sum(axis=1)
        residual = xp.where(hot, -rest / total, p)
        gradient = (residual.T.astype(dtype) @ self.features).astype(np.float64)
        return loss, gradient, residual.sum(axis=0), float(spread @ (1.0 + self.norms))


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
        value = loss / shared.n + 0.5 * penalty * float(np.vdot(theta[:, :-1], theta[:, :-1]))
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
