"""Principal components from the (D, D) scatter or, for N < D, from the (N, N) one; projections."""

import numpy as np

from ._linalg import Tridiagonal


class Spectrum:
    """Principal components of one model's features: all variances, directions on demand.

    It is kept by `shared`, and so does not keep that: features go as soon as nobody needs them.

    Parameters
    ----------
    shared : Shared

    Attributes
    ----------
    variances : ndarray (R,) float64
        Descending; R is min(N, D).
    """

    def __init__(self, shared):
        xp = shared.xp
        if shared.n >= shared.d:
            matrix = xp.array(shared.total, dtype=shared.dtype, order="F")
        else:
            x = _centred(shared)
            matrix = xp.asfortranarray(x @ x.T)
        self._form = Tridiagonal(matrix)
        values = np.asarray(self._form.eigenvalues[::-1], np.float64)
        self.variances = np.maximum(values, 0.0) / shared.n

    def directions(self, shared, count):
        """The first `count` directions, at most R: (D, C) float64; of the same `shared`.

        Orthonormal, of either sign; those of no variance are 0 for N < D.
        """
        xp = shared.xp
        vectors = self._form.leading_vectors(min(count, len(self.variances)))
        if shared.n >= shared.d:
            return vectors.astype(np.float64)
        basis = _centred(shared).T @ vectors.astype(shared.dtype)
        length = xp.linalg.norm(basis, axis=0)
        keep = length > shared.eps * shared.n * length.max()
        return xp.where(keep, basis / xp.where(keep, length, 1.0), 0.0).astype(np.float64)


def _centred(shared):
    return shared.x - shared.mean.astype(shared.dtype)


def spectrum(shared):
    """The :class:`Spectrum` of features, computed once."""
    return shared.once("pca", lambda: Spectrum(shared))


def project(source, weights, dtype=np.float64):
    """Products (N, C) of the centred features with weights (D, C), made in the source's dtype.

    `source` has ``xp``, ``n``, ``dtype``, ``mean`` and ``blocks`` of a Shared.
    """
    mean, narrow = source.mean.astype(source.dtype), weights.astype(source.dtype)
    out = source.xp.empty((source.n, weights.shape[1]), dtype)
    for place, block in source.blocks():
        out[place] = (block - mean) @ narrow
    return out
