"""Clusters and Gaussian mixtures on arrays of a GPU: the steps of :mod:`._mixture` as products.

A GPU waits for its host where a step is many small calls, or a number is asked for: draws are made
ahead, what ends a loop is asked for every few rounds, and pairs of a sample and a component that
count are gathered, so that one call does for all of them what is not a product.
"""

import functools
import math

import numpy as np

from .._fused import fused
from ..svm_arrays import native
from . import _native
from ._kmeans import MOST_ROUNDS, TOL
from ._linalg import inverse_factors, namespace, to_numpy
from ._mixture import DEPTH, MASS, iterate

_TRIALS = 8  # candidates for each first centre; kTrials in csrc/cuda/kmeans.h
_AHEAD = 4  # rounds between two looks at whether one of them was the last
_PART = 64  # coordinates of a distance that rule a component out
_GATHERED = 1 << 16  # pairs of a sample and a component at a time
_PARTS = 1 << 25  # of them at a time, for all samples
_WIDE = 4 * _PART  # dimensions from which that is worth its price


@functools.cache
def _squared_gap(xp):
    """(a - b)^2; see :func:`lead_fast._fused.fused`."""

    def squared_gap(a, b):
        return (a - b) * (a - b)

    return fused(xp, squared_gap).squared_gap


def fit_arrays(z, assignment, n_components, *, tol=1e-3, max_iter=100, ridge=1e-6):
    """As :func:`lead_fast.metrics._mixture.fit`, of arrays; posteriors stay on the device.

    Notes
    -----
    Per iteration 4 P C^2 operations for the P pairs of a sample and a component that count, half of
    them in float64, and M factors of C x C. Where C is at least 256, 128 N M C tell which count;
    below, all are taken to do so by the expectation. Memory: a copy of z in float64, two of the
    pairs of a group, twice (M, N) and (M, C, C), and 256 MB, or twice 64 N where that is more.
    """
    xp = namespace(z)
    wide = z.astype(np.float64)
    posteriors = (xp.arange(n_components)[:, None] == assignment).astype(z.dtype)

    def parameters(posteriors):
        found = _parameters(wide, posteriors, ridge)
        return None if found is None else (posteriors.argmax(axis=0), *found)

    def expectation(found):
        return _expectation(z, *found)

    return iterate(posteriors, parameters, expectation, tol, max_iter)


def _pairs(mask):
    """Where `mask` (M, N) is true, by component; in groups of _GATHERED, or of one component.

    Yields
    ------
    flat, component, row : array (P,) int64
        Place in the mask, and its two indices.
    parts : list of (int, slice)
        The components of the group, and which of the P are theirs.
    """
    xp, n = namespace(mask), mask.shape[1]
    flat = xp.flatnonzero(mask)
    ends = np.cumsum(to_numpy(mask.sum(axis=1))).tolist()
    first, parts = 0, []
    for k, end in enumerate(ends):
        start = ends[k - 1] if k else 0
        if end > start:
            parts.append((k, slice(start - first, end - first)))
        last = k + 1 == len(ends)
        if parts and (last or ends[k + 1] - first > _GATHERED):
            chosen = flat[first:end]
            component = chosen // n
            yield chosen, component, chosen - n * component, parts
            first, parts = end, []


def _parameters(z, posteriors, ridge):
    """Means (M, C), inverse factors (M, C, C) and log constants (M,), or None; z in float64."""
    xp, m, c = namespace(z), len(posteriors), z.shape[1]
    weight = posteriors.astype(np.float64)
    mass = weight.sum(axis=1) + MASS
    means = (weight @ z) / mass[:, None]
    covariances = xp.zeros((m, c, c))
    for flat, component, row, parts in _pairs(posteriors > 0):
        x = z[row]
        x -= means[component]
        x *= xp.sqrt(weight.ravel()[flat] / mass[component])[:, None]
        for k, part in parts:
            xp.matmul(x[part].T, x[part], out=covariances[k])
    diagonal = covariances.reshape(m, c * c)[:, :: c + 1]
    diagonal += ridge
    found = inverse_factors(covariances)
    if found is None:
        return None
    inverse, half = found
    constant = xp.log(mass / mass.sum()) - half - 0.5 * c * math.log(2.0 * math.pi)
    return means, inverse, constant


def _expectation(z, likely, means, factors, constant):
    """Posteriors (M, N) in the type of z, and the mean log-likelihood.

    Any component may be `likely` for a sample: a wrong guess costs time only.
    """
    xp, m, (n, c) = namespace(z), len(means), z.shape
    depth = DEPTH[z.dtype.name]
    means, factors = means.astype(z.dtype), factors.astype(z.dtype)
    log_p = xp.full((m, n), -np.inf)
    if c < _WIDE:
        for k in range(m):
            log_p[k] = _squared_lengths((z - means[k]) @ factors[k].T)
        log_p *= -0.5
        log_p += constant[:, None]
    else:
        guess = xp.arange(m)[:, None] == likely
        _fill(log_p, guess, z, means, factors, constant)
        most = constant[:, None] - 0.5 * _parts_of_distances(z, means, factors)
        _fill(log_p, (most > log_p.max(axis=0) - depth) & ~guess, z, means, factors, constant)
    top = log_p.max(axis=0)
    log_p -= top
    total = xp.log(xp.exp(log_p).sum(axis=0))
    log_p -= total
    p = xp.where(log_p > -depth, xp.exp(log_p), 0.0)
    return p.astype(z.dtype), float((total + top).mean())


def _parts_of_distances(z, means, factors):
    """What the last rows of the factors make of the squared distances, (M, N).

    Where samples are few, these hold the directions in which a component is flat, and so nearly all
    of the distance of a sample that is not its own.
    """
    xp, m, (n, c) = namespace(z), len(means), z.shape
    found, step = xp.empty((m, n)), max(1, _PARTS // (n * _PART))
    for first in range(0, m, step):
        some = slice(first, min(first + step, m))
        rows = factors[some, -_PART:]
        shift = (rows @ means[some, :, None]).reshape(-1)
        y = z @ rows.reshape(-1, c).T
        y = _squared_gap(xp)(y, shift)
        found[some] = y.reshape(n, -1, _PART).sum(axis=2).T
    return found


def _squared_lengths(y):
    return (y * y).sum(axis=1)


def _fill(log_p, mask, z, means, factors, constant):
    """Set log_p (M, N) where `mask` is true."""
    xp, places = namespace(z), log_p.ravel()
    for flat, component, row, parts in _pairs(mask):
        x = z[row]
        x -= means[component]
        y = xp.empty_like(x)
        for k, part in parts:
            xp.matmul(x[part], factors[k].T, out=y[part])
        places[flat] = constant[component] - 0.5 * _squared_lengths(y).astype(np.float64)


def clusters(z, count, seed):
    """Cluster of each sample, (N,) int64: k-means from centres that are drawn far apart.

    Parameters
    ----------
    z : array (N, C) float32 or float64
    count : int
    seed : int
        Of the draws, which are made on the host: the same on every device but for rounding.
    """
    xp, n = namespace(z), len(z)
    kernels = native.kernels(xp)
    z = xp.ascontiguousarray(z - z.mean(axis=0))
    centres = z[_first_centres(kernels, z, count, np.random.default_rng(seed))]
    limit = TOL * float(z.var(axis=0).mean())
    # A column of ones: products with it count, and add what a centre has as its last coordinate.
    z = xp.concatenate([z, xp.ones((n, 1), z.dtype)], axis=1)
    centres = _with_norms(xp.concatenate([centres, xp.ones((count, 1), z.dtype)], axis=1))
    labels, done = xp.full(n, -1, np.int64), 0
    some = _rounds if kernels is None else functools.partial(_native.rounds, kernels)
    while done < MOST_ROUNDS:
        ahead = min(_AHEAD, MOST_ROUNDS - done)
        tried, labels, ends = some(z, centres, labels, ahead)
        done += ahead
        for place, (others, shift) in enumerate(ends.tolist()):
            if others == 0:  # and centres have moved by rounding only
                return _nearest(z, tried[place])
            if shift <= limit:
                return _nearest(z, tried[place + 1])
        centres = tried[-1]
    return _nearest(z, centres)


def _rounds(z, centres, labels, count):
    """Some rounds of Lloyd's algorithm.

    Parameters
    ----------
    z : array (N, C + 1)
        The last column is 1.
    centres : array (M, C + 1)
        See :func:`_with_norms`.
    labels : array (N,) int64
        Nearest centres of the round before, or -1.
    count : int
        How many rounds.

    Returns
    -------
    tried : sequence of count + 1 centres
    labels : array (N,) int64
        Of the last round.
    ends : ndarray (count, 2)
        Labels that have changed in each round, and the sum of the centres' squared movements.
    """
    xp, tried, seen = namespace(z), [centres], []
    for _ in range(count):
        before, labels = labels, _nearest(z, tried[-1])
        tried.append(_moved(z, labels, tried[-1]))
        seen.append((before != labels).sum())
        gap = tried[-1][:, :-1] - tried[-2][:, :-1]
        seen.append((gap * gap).sum())
    return tried, labels, to_numpy(xp.stack(seen)).reshape(count, 2)


def _nearest(z, centres):
    """Number of the centre nearest to each sample; see :func:`_with_norms`."""
    return (z @ centres.T).argmax(axis=1)


def _moved(z, labels, centres):
    """Means of the samples of each cluster; one without samples stays where it is."""
    xp = namespace(z)
    sums = (xp.arange(len(centres))[:, None] == labels).astype(z.dtype) @ z
    size = sums[:, -1:]
    return _with_norms(xp.where(size > 0, sums / xp.maximum(size, 1), centres))


def _with_norms(centres):
    """Replace the last coordinates (M, C + 1) by minus half the squared lengths of the others.

    Products with samples that have a one there are the larger, the nearer a sample is.
    """
    centres[:, -1] = -0.5 * _squared_lengths(centres[:, :-1])
    return centres


def _first_centres(kernels, z, count, generator):
    """Samples (M,) drawn in proportion to their squared distance, the best of some for each."""
    xp, n = namespace(z), len(z)
    norms = _squared_lengths(z)
    first = int(generator.integers(n))
    draws = xp.asarray(generator.random((count - 1, _TRIALS)))
    if kernels is not None:
        return _native.first_centres(kernels, z, norms, count, first, draws)
    chosen = xp.empty(count, np.int64)
    chosen[0] = first
    nearest = xp.maximum(norms[first] + norms - 2.0 * (z @ z[first]), 0.0).astype(np.float64)
    for k in range(1, count):
        sums = xp.cumsum(nearest)
        # Below N: no draw is above the last sum.
        rows = xp.searchsorted(sums, draws[k - 1] * sums[-1])
        squared = norms[rows][:, None] + norms - 2.0 * (z[rows] @ z.T)
        trials = xp.minimum(xp.maximum(squared, 0.0), nearest)
        best = trials.sum(axis=1).argmin()
        chosen[k] = rows[best]
        nearest = trials[best]
    return chosen
