"""A preconditioner of the Newton equations: classes times leading directions of the features."""

import numpy as np

from .losses import host

RANK = 64
SAMPLE = 2048  # rows from which the directions come
SWEEPS = 4  # of the subspace iteration


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
        start = np.random.default_rng(0).standard_normal((width, rank))
        basis = orthonormal(xp, xp.asarray(start.astype(part.dtype)))
        for _ in range(SWEEPS):
            basis = orthonormal(xp, part.T @ (part @ basis))
        basis = orthonormal(xp, basis)  # once more, for roundings
        seen = part @ basis
        moments, turn = np.linalg.eigh(host(xp, seen.T @ seen).astype(np.float64) / count)
        self.basis = basis @ xp.asarray(turn.astype(part.dtype))
        self.moments = np.maximum(moments, 0)
        total = float((part * part).sum(dtype=np.float64)) / count
        left = max(0.0, total - float(self.moments.sum()))
        self.rest = left / (width - rank) if width > rank else 0.0


def orthonormal(xp, columns):
    """Columns that span what ``columns`` (n, r) do, orthonormal; zero where these are dependent.

    By the eigenvectors of the small Gram matrix, on the host: a QR decomposition of a tall matrix
    takes a GPU longer than all products around it.
    """
    gram = host(xp, columns.T @ columns).astype(np.float64)
    scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
    values, turn = np.linalg.eigh(gram / np.outer(scale, scale))
    eps = len(values) * np.finfo(columns.dtype).eps
    root = np.where(values > eps, 1 / np.sqrt(np.maximum(values, eps)), 0.0)
    return columns @ xp.asarray((turn * root / scale[:, None]).astype(columns.dtype))


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
        self.xp, self.directions = xp, directions
        turn = None
        if diagonal:
            strength = between
        else:
            strength, turn = np.linalg.eigh(between)  # small: not worth a GPU
        strength = np.maximum(strength, 0)[:, None]
        self._outside = 1 / (1 + strength * directions.rest)
        self._turn = turn
        self.outside = xp.asarray(self._outside.astype(dtype))
        inside = 1 / (1 + strength * directions.moments) - self._outside
        self.inside = xp.asarray(inside.astype(dtype))
        self.turn = None if turn is None else xp.asarray(turn.astype(dtype))

    def __call__(self, r):
        """Apply to a residual (K, D + 1)."""
        turned = r if self.turn is None else self.turn.T @ r
        basis = self.directions.basis
        out = self.outside * turned + ((turned @ basis) * self.inside) @ basis.T
        return out if self.turn is None else self.turn @ out

    def dense(self, dtype):
        """``basis``, ``inside``, ``turn`` and ``mixed`` = turn outside turn^T, for native code.

        The inverse is mixed r + turn (inside * (turn^T r basis)) basis^T.
        """
        if self._turn is None:
            mixed = np.diag(self._outside[:, 0])
        else:
            mixed = (self._turn * self._outside[:, 0]) @ self._turn.T
        basis = self.xp.ascontiguousarray(self.directions.basis.astype(dtype))
        return basis, self.inside, self.turn, self.xp.asarray(mixed.astype(dtype))
