"""Gaussian mixture with full covariances by expectation maximisation."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import backend
from ._linalg import cholesky, inverse_lower

_PAD = 16
MASS = 10 * np.finfo(np.float64).eps  # of the public code: no component is quite empty
DEPTH = {"float32": 30.0, "float64": 45.0}  # posteriors below exp(-depth) are 0


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A fitted mixture: posteriors (M, N), mean log-likelihood, iterations, whether converged."""

    posteriors: np.ndarray
    log_likelihood: float
    iterations: int
    converged: bool


class _Parameters:
    """Means, triangular factors of the inverse covariances, and log constants of M components.

    One component per thread, with one BLAS thread each, which the caller sees to.
    """

    def __init__(self, z, d, posteriors, ridge, pool):
        self.z, self.d, self.posteriors, self.ridge = z, d, posteriors, ridge
        m, ld = len(posteriors), z.shape[1]
        self.mean = np.zeros((m, ld), z.dtype)
        self.factor = np.zeros((m, d, ld), z.dtype)
        mass, halves = np.array(list(pool.map(self._component, range(m)))).T
        self.failed = not np.isfinite(halves).all()
        self.constant = np.log(mass / mass.sum()) - halves - 0.5 * d * math.log(2.0 * math.pi)

    def _component(self, k):
        """Set component k; return its mass and half the log-determinant of its covariance."""
        d = self.d
        rows = np.flatnonzero(self.posteriors[k])
        r = self.posteriors[k, rows].astype(np.float64)
        mass = r.sum() + MASS
        # In float64: with fewer samples than dimensions the ridge is all that there is in some
        # directions, and must not drown in the rounding of the others.
        x = self.z[rows, :d].astype(np.float64)
        mean = (r @ x) / mass
        x -= mean
        x *= np.sqrt(r / mass)[:, None]
        covariance = x.T @ x
        covariance[np.diag_indices(d)] += self.ridge
        lower = cholesky(covariance, overwrite=True)
        if lower is None:
            return mass, math.nan
        self.mean[k, :d] = mean
        self.factor[k, :, :d] = np.tril(inverse_lower(lower))
        return mass, np.log(np.diagonal(lower)).sum()


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
        None where a covariance is not positive definite.
    """
    n, d = z.shape
    wide = np.zeros((n, -(-d // _PAD) * _PAD), z.dtype)
    wide[:, :d] = z
    posteriors = np.zeros((n_components, n), z.dtype)
    posteriors[assignment, np.arange(n)] = 1
    depth, threads = DEPTH[z.dtype.name], backend.threads()
    with backend.one_blas_thread(), ThreadPoolExecutor(threads) as pool:

        def parameters(posteriors):
            likely = posteriors.argmax(axis=0).astype(np.int32)
            found = _Parameters(wide, d, posteriors, ridge, pool)
            return None if found.failed else (found, likely)

        def expectation(found):
            of, likely = found
            posteriors, likelihood = backend.cpu().mixture_e_step(
                wide, d, of.mean, of.factor, of.constant, likely,
                np.argsort(likely, kind="stable"), depth, threads,
            )  # fmt: skip
            return posteriors, float(likelihood.mean())

        return iterate(posteriors, parameters, expectation, tol, max_iter)


def iterate(posteriors, parameters, expectation, tol, max_iter):
    """Alternate the two steps from posteriors (M, N).

    Parameters
    ----------
    posteriors : array (M, N)
    parameters : callable
        Of posteriors: what `expectation` takes, or None where a covariance is singular.
    expectation : callable
        Of parameters: posteriors and the mean log-likelihood.

    Returns
    -------
    Mixture, or None
    """
    before, converged = -math.inf, False
    found = parameters(posteriors)
    for iteration in range(1, max_iter + 2):
        if found is None:
            return None
        posteriors, likelihood = expectation(found)
        # As in the public code, the parameters are updated once more after the last comparison.
        if converged or iteration > max_iter:
            break
        found = parameters(posteriors)
        converged = abs(likelihood - before) < tol
        before = likelihood
    return Mixture(posteriors, likelihood, iteration - 1, converged)
