"""Clusters and Gaussian mixtures on arrays of a GPU: the steps of :mod:`._mixture` as products."""

import math

import numpy as np

from ._linalg import add_to_diagonal, inverse_factors, namespace
from ._mixture import DEPTH, MASS, iterate

_TRIALS = 8  # candidates for each first centre
_MOST_ROUNDS = 300  # as scikit-learn's k-means
_TOL = 1e-4


def fit_arrays(z, assignment, n_components, *, tol=1e-3, max_iter=100, ridge=1e-6):
    """As :func:`lead_fast.metrics._mixture.fit`, of arrays; posteriors stay on the device.

    Notes
    -----
    Per iteration 4 N M C^2 operations, half of them in float64, and M factors of C x C. Memory: a
    copy of z in float64, and twice (M, N).
    """
    xp = namespace(z)
    wide = z.astype(np.float64)
    posteriors = (xp.arange(n_components)[:, None] == assignment).astype(z.dtype)

    def parameters(posteriors):
        return _parameters(wide, posteriors, ridge)

    def expectation(found):
        return _expectation(z, *found)

    return iterate(posteriors, parameters, expectation, tol, max_iter)


def _parameters(z, posteriors, ridge):
    """Means (M, C), inverse factors (M, C, C) and log constants (M,), or None; z in float64."""
    xp, m, c = namespace(z), len(posteriors), z.shape[1]
    weight = posteriors.astype(np.float64)
    mass = weight.sum(axis=1) + MASS
    means = (weight @ z) / mass[:, None]
    covariances = xp.empty((m, c, c))
    for k in range(m):
        x = (z - means[k]) * xp.sqrt(weight[k] / mass[k])[:, None]
        covariances[k] = x.T @ x
        add_to_diagonal(covariances[k], ridge)
    found = inverse_factors(covariances)
    if found is None:
        return None
    inverse, half = found
    constant = xp.log(mass / mass.sum()) - half - 0.5 * c * math.log(2.0 * math.pi)
    return means, inverse, constant


def _expectation(z, means, factors, constant):
    """Posteriors (M, N) in the type of z, and the mean log-likelihood."""
    xp = namespace(z)
    log_p = xp.empty((len(means), len(z)))
    for k in range(len(means)):
        y = (z - means[k].astype(z.dtype)) @ factors[k].astype(z.dtype).T
        log_p[k] = constant[k] - 0.5 * xp.einsum("ij,ij->i", y, y)
    top = log_p.max(axis=0)
    log_p -= top
    total = xp.log(xp.exp(log_p).sum(axis=0))
    log_p -= total
    p = xp.where(log_p > -DEPTH[z.dtype.name], xp.exp(log_p), 0.0)
    return p.astype(z.dtype), float((total + top).mean())


def clusters(z, count, seed):
    """Cluster of each sample, (N,) int64: k-means from centres that are drawn far apart.

    Parameters
    ----------
    z : array (N, C) float32 or float64
    count : int
    seed : int
        Of the draws, which are made on the host: the same on every device but for rounding.
    """
    xp = namespace(z)
    z = z - z.mean(axis=0)
    norms = xp.einsum("ij,ij->i", z, z)
    centres = _first_centres(z, norms, count, np.random.default_rng(seed))
    limit = _TOL * float(z.var(axis=0).mean())
    labels = None
    for _ in range(_MOST_ROUNDS):
        before, labels = labels, _distances(z, norms, centres).argmin(axis=1)
        if before is not None and bool((before == labels).all()):
            break
        hot = (xp.arange(count)[:, None] == labels).astype(z.dtype)
        size = hot.sum(axis=1)[:, None]
        # A centre that has lost all its samples stays where it is.
        moved = xp.where(size > 0, (hot @ z) / xp.maximum(size, 1), centres)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= limit:
            break
    return _distances(z, norms, centres).argmin(axis=1)


def _distances(z, norms, centres):
    """Squared distances (N, M)."""
    xp = namespace(z)
    own = xp.einsum("ij,ij->i", centres, centres)
    return xp.maximum(norms[:, None] - 2.0 * (z @ centres.T) + own, 0.0)


def _first_centres(z, norms, count, generator):
    """Samples drawn in proportion to their squared distance, the best of some for each (M, C)."""
    xp, n = namespace(z), len(z)
    chosen = xp.empty((count, z.shape[1]), z.dtype)
    chosen[0] = z[int(generator.integers(n))]
    nearest = _distances(z, norms, chosen[:1])[:, 0].astype(np.float64)
    for k in range(1, count):
        sums = xp.cumsum(nearest)
        draws = xp.asarray(generator.random(_TRIALS)) * sums[-1]
        rows = xp.minimum(xp.searchsorted(sums, draws), n - 1)
        trials = xp.minimum(_distances(z, norms, z[rows]).astype(np.float64), nearest[:, None])
        best = int(trials.sum(axis=0).argmin())
        chosen[k] = z[rows[best]]
        nearest = trials[:, best]
    return chosen
