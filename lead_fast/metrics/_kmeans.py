"""k-means clustering by Lloyd's algorithm, with bounds that spare most distances."""

import numpy as np

from .. import backend
from ._mixture import pad

MOST_ROUNDS = 300  # as scikit-learn's
TOL = 1e-4  # of the columns' mean variance: movement of all centres at which to stop


def lloyd(z, first):
    """Cluster of each sample (N,) int32, from first centres.

    Parameters
    ----------
    z : ndarray (N, C) float32 or float64
    first : array-like (K, C)

    Notes
    -----
    The clusters of scikit-learn's ``KMeans`` but for roundings; a cluster that loses its last
    sample keeps its centre. A round measures those samples that bounds of their distances do not
    place (Hamerly, "Making k-means even faster", SDM 2010): all in the first, fewer and fewer
    later. Time: at most 2 N K C a round. Memory: a copy of z and K C numbers.
    """
    wide, n, k = pad(z), len(z), len(first)
    centre = np.zeros((k, wide.shape[1]), z.dtype)
    centre[:, : z.shape[1]] = first
    moved, label = np.zeros(k, z.dtype), np.full(n, -1, np.int32)
    upper, lower = np.empty(n, z.dtype), np.empty(n, z.dtype)
    total, count = np.zeros(centre.shape), np.zeros(k, np.int64)
    enough = TOL * float(z.var(axis=0, dtype=np.float64).mean())
    threads, one_round = backend.threads(), backend.cpu().kmeans_round
    for _ in range(MOST_ROUNDS):
        if not one_round(wide, centre, moved, label, upper, lower, total, count, threads):
            break
        mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centre)
        centre, before = mean.astype(z.dtype), centre
        gap = np.linalg.norm((centre - before).astype(np.float64), axis=1)
        moved = np.nextafter(gap.astype(z.dtype), z.dtype.type(np.inf))
        if float(gap @ gap) <= enough:
            one_round(wide, centre, moved, label, upper, lower, total, count, threads)
            break
    return label
