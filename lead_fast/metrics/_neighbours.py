"""Nearest neighbours: where distances are measured from, and on arrays of a GPU all of them.

There whole rows of distances, a tile of samples at a time.
"""

import numpy as np

_TILE_BYTES = 1 << 28


def centre(shared):
    """A point near the mean, (D,) of the work type on the host, less which features stay exact.

    Each column's mean, rounded to a multiple of the power of two that is between half its deviation
    and all of it. What the features are multiples of is mostly that, or divides it: integers stay
    integers, so that equal distances are equal still. Norms grow by a quarter at most.
    """
    mean, deviation = (shared.host(a) for a in (shared.mean, shared.xp.sqrt(shared.variance)))
    unit = np.where(deviation > 0.0, np.ldexp(1.0, np.frexp(deviation)[1] - 1), 1.0)
    near = np.where(deviation > 0.0, np.rint(mean / unit) * unit, mean)
    return near.astype(shared.dtype)


def nearest_rows(shared, k, distance):
    """The k nearest other samples of each, nearest first, (N, k) int64.

    Parameters
    ----------
    shared : ArrayShared
    k : int
    distance : {"euclidean", "cosine"}

    Notes
    -----
    2 N^2 D operations and k passes over N^2 numbers; a copy of the features and one tile.
    """
    xp, n, dtype = shared.xp, shared.n, shared.dtype
    x = shared.x - shared.put(centre(shared)) if distance == "euclidean" else shared.x
    norms = xp.einsum("ij,ij->i", x, x)
    if distance == "cosine":
        x = x / xp.sqrt(xp.maximum(norms, float(np.finfo(dtype).tiny)))[:, None]
        half = xp.zeros(n, dtype)
    else:
        half = norms / 2
    found = xp.empty((n, k), np.int64)
    tile = max(1, min(4096, _TILE_BYTES // (n * dtype.itemsize)))
    for start in range(0, n, tile):
        stop = min(start + tile, n)
        lines = xp.arange(stop - start)
        # The nearest has the largest x_i . x_j - |x_j|^2 / 2: its own norm does not matter.
        near = x[start:stop] @ x.T
        near -= half
        near[lines, lines + start] = -np.inf
        for place in range(k):
            best = near.argmax(axis=1)  # the first of equals
            found[start:stop, place] = best
            near[lines, best] = -np.inf
    return found
