"""Principal components from the (D, D) scatter or, for N < D, from the (N, N) one; projections."""

import numpy as np

from ._linalg import eigh


def spectrum(shared):
    """Variances of all principal components (R,), descending, and the directions (D, R) float64.

    R is min(N, D). Directions are orthonormal, of either sign; those of no variance are 0 for
    N < D.
    """
    xp = shared.xp

    def compute():
        if shared.n >= shared.d:
            values, vectors = eigh(xp.array(shared.total, dtype=shared.dtype))
            basis = vectors[:, ::-1]
        else:
            x = shared.x - shared.mean.astype(shared.dtype)
            values, vectors = eigh(x @ x.T)
            basis = x.T @ vectors[:, ::-1]
            length = xp.linalg.norm(basis, axis=0)
            keep = length > shared.eps * shared.n * length.max()
            basis = xp.where(keep, basis / xp.where(keep, length, 1.0), 0.0)
        values = xp.maximum(values[::-1].astype(np.float64), 0.0)
        return values / shared.n, basis.astype(np.float64)

    return shared.once("pca", compute)


def principal_components(shared, count):
    """The first `count` variances and directions, (C,) and (D, C)."""
    values, basis = spectrum(shared)
    return values[:count], basis[:, :count]


def project(source, weights, dtype=np.float64):
    """Products (N, C) of the centred features with weights (D, C), made in the source's dtype.

    `source` has ``xp``, ``n``, ``dtype``, ``mean`` and ``blocks`` of a Shared.
    """
    mean, narrow = source.mean.astype(source.dtype), weights.astype(source.dtype)
    out = source.xp.empty((source.n, weights.shape[1]), dtype)
    for place, block in source.blocks():
        out[place] = (block - mean) @ narrow
    return out
