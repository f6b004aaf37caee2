"""A preconditioner of the Newton equations: classes times leading directions of the features."""

import functools

import numpy as np

from ..svm import ONE_THREAD
from .losses import host

RANK = 64
SAMPLE = 2048  # rows from which the directions come
SWEEPS = 2  # of the subspace iteration


class Directions:
    """Leading eigenvectors of the second moment of the mapped rows, from a sample of them.

    Attributes
    ----------
    basis : (D + 1, r) array
        Orthonormal.
    moments : (r,) ndarray
        Their eigenvalues, per row.
    rest : float
        The mean of the other eigenvalues.
    """

    def __init__(self, xp, z, rank=RANK, sample=SAMPLE):
        count, rank = size(z, rank, sample)
        rows = xp.asarray(np.linspace(0, z.n - 1, count).astype(np.int64))
        part = z.mapped(rows)
        part = xp.concatenate([part, xp.ones((count, 1), part.dtype)], axis=1)
        width = part.shape[1]
        basis = orthonormal(xp, xp.asarray(_start(width, rank).astype(part.dtype)))
        for _ in range(SWEEPS):
            basis = orthonormal(xp, part.T @ (part @ basis))
        basis = orthonormal(xp, basis)  # once more, for roundings
        seen = part @ basis
        moments, turn = np.linalg.eigh(host(xp, seen.T @ seen).astype(np.float64) / count)
        self.basis = xp.ascontiguousarray(basis @ xp.asarray(turn.astype(part.dtype)))
        self.moments = np.maximum(moments, 0)
        total = float((part * part).sum(dtype=np.float64)) / count
        left = max(0.0, total - float(self.moments.sum()))
        self.rest = left / (width - rank) if width > rank else 0.0


def orthonormal(xp, columns):
    """Columns that span what ``columns`` (n, r) do, orthonormal; zero where these are dependent.

    By the small Gram matrix, on the host: a QR decomposition of a tall matrix takes a GPU longer
    than all products around it. Its Cholesky factor will do unless columns are nearly dependent.
    """
    gram = host(xp, columns.T @ columns).astype(np.float64)
    scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
    gram /= np.outer(scale, scale)
    eps = len(gram) * np.finfo(columns.dtype).eps
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(gram)).T
    except np.linalg.LinAlgError:
        inverse = None
    # The columns' lengths without what those before them have: none is mostly rounding.
    if inverse is None or np.diag(inverse).max() ** 2 * eps > 1e-2:
        values, turn = np.linalg.eigh(gram)
        inverse = turn * np.where(values > eps, 1 / np.sqrt(np.maximum(values, eps)), 0.0)
    return columns @ xp.asarray((inverse / scale[:, None]).astype(columns.dtype))


@functools.lru_cache(maxsize=1)
def _start(width, rank):
    """Random columns, the same for all models of a zoo that are as wide."""
    return np.random.default_rng(0).standard_normal((width, rank))


def size(z, rank=RANK, sample=SAMPLE):
    """Rows looked at and directions taken from them."""
    count = min(z.n, sample)
    return count, min(rank, z.width + 1, count)


def sampling_cost(z):
    """Passes that :class:`Directions` takes for one class; divide by K."""
    count, rank = size(z)
    return (SWEEPS + 1.0) * rank * count / z.n


class Preconditioner:
    """The inverse of I + L (x) S for the curvature L (K, K) between classes, summed over rows.

    S, the second moment of a row, is ``directions``; that the classes in play and the position of
    a row have nothing to do with one another is what makes it an approximation.
    """

    def __init__(self, xp, between, directions, dtype, diagonal):
        self.xp, self.directions, self.dtype = xp, directions, np.dtype(dtype)
        self._turn = None
        if diagonal:
            strength = between
        else:
            where = np if len(between) <= ONE_THREAD else xp  # small ones are not worth a GPU
            found = where.linalg.eigh(where.asarray(between))
            strength, self._turn = (host(where, part) for part in found)
        strength = np.maximum(strength, 0)[:, None]
        self._outside = 1 / (1 + strength * directions.rest)
        self._inside = 1 / (1 + strength * directions.moments) - self._outside

    @functools.cached_property
    def _factors(self):
        """What a residual is multiplied by, on its device: outside, inside, turn."""
        factors = self._outside, self._inside, self._turn
        return [x if x is None else self.xp.asarray(x.astype(self.dtype)) for x in factors]

    def __call__(self, r):
        """Apply to a residual (K, D + 1)."""
        outside, inside, turn = self._factors
        turned = r if turn is None else turn.T @ r
        basis = self.directions.basis
        out = outside * turned + ((turned @ basis) * inside) @ basis.T
        return out if turn is None else turn @ out

    def dense(self):
        """``basis``, ``inside``, ``turn`` and ``mixed`` = turn outside turn^T, for native code.

        The inverse is mixed r + turn (inside * (turn^T r basis)) basis^T. ``basis`` is an array of
        xp, the others ndarrays; ``turn`` is None for the identity.
        """
        turn, outside = self._turn, self._outside[:, 0]
        mixed = np.diag(outside) if turn is None else (turn * outside) @ turn.T
        small = self._inside, turn, mixed
        basis = self.directions.basis.astype(self.dtype, copy=False)
        return basis, *(
            x if x is None else np.ascontiguousarray(x, dtype=self.dtype) for x in small
        )
