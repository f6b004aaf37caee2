"""Gaussian mixture with full covariances by expectation maximisation."""

import dataclasses
import math

import numpy as np

from .. import backend

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
    (n, d), wide = z.shape, pad(z)
    posteriors = np.zeros((n_components, n), z.dtype)
    posteriors[assignment, np.arange(n)] = 1
    depth, threads, native = DEPTH[z.dtype.name], backend.threads(), backend.cpu()

    mean = np.empty((n_components, wide.shape[1]), z.dtype)
    factor = np.empty((n_components, d, wide.shape[1]), z.dtype)

    def parameters(posteriors):
        found = native.mixture_parameters(wide, d, posteriors, ridge, MASS, mean, factor, threads)
        if found is None:
            return None
        mass, halves = found
        constant = np.log(mass / mass.sum()) - halves - 0.5 * d * math.log(2.0 * math.pi)
        return mean, factor, constant, posteriors.argmax(axis=0).astype(np.int32)

    def expectation(found):
        likely = found[-1]
        posteriors, likelihood = native.mixture_e_step(
            wide, d, *found, np.argsort(likely, kind="stable"), depth, threads
        )
        return posteriors, float(likelihood.mean())

    with backend.one_blas_thread():  # a component per thread
        return iterate(posteriors, parameters, expectation, tol, max_iter)


def pad(z):
    """A copy (N, ld) with zeros in the columns that native code wants beyond those of z (N, C)."""
    wide = np.zeros((len(z), -(-z.shape[1] // _PAD) * _PAD), z.dtype)
    wide[:, : z.shape[1]] = z
    return wide


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
