"""Spearman's correlation of the distances of all pairs on arrays of a GPU: one sort."""

import numpy as np

from ._linalg import namespace

_BLOCK_BYTES = 1 << 28


def spearman_sorted(z, labels):
    """Spearman's correlation between ``1 - z z^T`` and label distances over all pairs.

    Parameters
    ----------
    z : array (N, C) float32 or float64
        Rows of unit length (or 0) whose inner products are the similarities.
    labels : LabelPairs
        Whose label distances are not all the same.

    Returns
    -------
    float
        NaN if all distances of the features are the same.

    Notes
    -----
    Memory: some 40 bytes for each of the N (N - 1) / 2 pairs.
    """
    xp = namespace(z)
    keys, weights = _pairs(z, labels)
    order = xp.argsort(keys)
    keys, weights = keys[order], weights[order]
    del order
    first = xp.ones(labels.count, bool)
    first[1:] = keys[1:] != keys[:-1]
    del keys
    start = xp.flatnonzero(first)
    size = xp.diff(xp.append(start, labels.count)).astype(np.float64)
    centre = 0.5 * (labels.count + 1.0)
    # Mean rank of each group of ties, about the middle so that sums keep their digits.
    rank = start + 0.5 * (size + 1.0) - centre
    group = xp.cumsum(first) - 1
    product = 0.5 * float(rank[group] @ weights)
    return labels.correlation(product, float((size**3 - size).sum()))


def _pairs(z, labels):
    """Minus the similarity of each pair, and its weight: (P,) in the type of z and float64."""
    xp, n = namespace(z), labels.n
    keys, weights = xp.empty(labels.count, z.dtype), xp.empty(labels.count)
    code, table = xp.asarray(labels.code.astype(np.int64)), xp.asarray(labels.weight)
    matrix = None if labels.matrix is None else xp.asarray(labels.matrix)
    step, done = max(1, min(n, _BLOCK_BYTES // (8 * n))), 0
    for begin in range(0, n, step):
        stop = min(begin + step, n)
        rows = slice(begin, stop)
        earlier = xp.arange(stop) < xp.arange(begin, stop)[:, None]
        part = -(z[rows] @ z[:stop].T)[earlier]
        place = slice(done, done + len(part))
        keys[place] = part
        if matrix is None:
            block = table[code[rows][:, None], code[:stop]]
        else:
            both = xp.rint(matrix[rows] @ matrix[:stop].T).astype(np.int64)
            block = table[code[rows][:, None], code[:stop], both]
        weights[place] = block[earlier]
        done += len(part)
    return keys, weights
