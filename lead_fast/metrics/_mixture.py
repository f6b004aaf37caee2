"""Gaussian mixture with full covariances by expectation maximisation."""

import dataclasses
import math

import numpy as np

from .. import backend
from ._linalg import cholesky, solve_lower

_PAD = 16
_MASS = 10 * np.finfo(np.float64).eps  # of the public code: no component is quite empty
_DEPTH = {"float32": 30.0, "float64": 45.0}  # posteriors below exp(-depth) are 0


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A fitted mixture: posteriors (M, N), mean log-likelihood, iterations, whether converged."""

    posteriors: np.ndarray
    log_likelihood: float
    iterations: int
    converged: bool


class _Parameters:
    """Means, triangular factors of the inverse covariances, and log constants of M components."""

    def __init__(self, z, d, posteriors, ridge):
        m = len(posteriors)
        ld, dtype = z.shape[1], z.dtype
        self.mean = np.zeros((m, ld), dtype)
        self.factor = np.zeros((m, d, ld), dtype)
        mass = np.empty(m)
        halves = np.empty(m)
        diagonal = np.diag_indices(d)
        for k in range(m):
            rows = np.flatnonzero(posteriors[k])
            r = posteriors[k, rows].astype(np.float64)
            mass[k] = r.sum() + _MASS
            x = z[rows, :d]
            mean = (r @ x) / mass[k]
            x = x - mean.astype(dtype)
            weighted = x * np.sqrt(r / mass[k]).astype(dtype)[:, None]
            covariance = (weighted.T @ weighted).astype(np.float64)
            covariance[diagonal] += ridge
            lower = cholesky(covariance, overwrite=True)
            if lower is None:
                return self._fail()
            halves[k] = np.log(np.diagonal(lower)).sum()
            self.mean[k, :d] = mean
            self.factor[k, :, :d] = np.tril(solve_lower(lower, np.eye(d)))
        self.constant = np.log(mass / mass.sum()) - halves - 0.5 * d * math.log(2.0 * math.pi)
        self.failed = False

    def _fail(self):
        self.failed = True


def fit(z, assignment, n_components, *, tol=1e-3, max_iter=100, ridge=1e-6):
    """Fit from a hard assignment of the samples.

    Parameters
    ----------
    z : ndarray (N, C) float32 or float64
    assignment : ndarray (N,) int
        First component of each sample.
    n_components : int
    tol : float
        Change of the mean log-likelihood at which to stop.
    max_iter : int
    ridge : float
        Added to the covariances' diagonals.

    Returns
    -------
    Mixture, or None
        None where a covariance is not positive definite: float32 is not enough.
    """
    n, d = z.shape
    wide = np.zeros((n, -(-d // _PAD) * _PAD), z.dtype)
    wide[:, :d] = z
    likely = assignment.astype(np.int32)
    posteriors = np.zeros((n_components, n), z.dtype)
    posteriors[likely, np.arange(n)] = 1
    depth, before, converged = _DEPTH[z.dtype.name], -math.inf, False
    with backend.one_blas_thread():
        parameters = _Parameters(wide, d, posteriors, ridge)
        for iteration in range(1, max_iter + 2):
            if parameters.failed:
                return None
            posteriors, likelihood = backend.cpu().mixture_e_step(
                wide, d, parameters.mean, parameters.factor, parameters.constant, likely,
                np.argsort(likely, kind="stable"), depth, backend.threads(),
            )  # fmt: skip
            likelihood = float(likelihood.mean())
            # As in the public code, the parameters are updated once more after the last comparison.
            if converged or iteration > max_iter:
                break
            likely = posteriors.argmax(axis=0).astype(np.int32)
            parameters = _Parameters(wide, d, posteriors, ridge)
            converged = abs(likelihood - before) < tol
            before = likelihood
    return Mixture(posteriors, likelihood, iteration - 1, converged)
