"""A preconditioner of the Newton equations: classes times leading directions of the features."""

import numpy as np

RANK = 64
SAMPLE = 2048  # rows from which the directions come
SWEEPS = 4  # of the subspace iteration


class Directions:
    """Leading eigenvectors of the second moment of the mapped rows, from a sample of them.

    Attributes
    ----------
    basis : (D + 1, r) array
        Orthonormal.
    moments : (r,) array
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
        basis = xp.linalg.qr(xp.asarray(start.astype(part.dtype)))[0]
        for _ in range(SWEEPS):
            basis = xp.linalg.qr(part.T @ (part @ basis))[0]
        seen = part @ basis
        moments, turn = xp.linalg.eigh((seen.T @ seen) / count)
        self.basis = basis @ turn
        self.moments = xp.maximum(moments, 0)
        total = float((part * part).sum(dtype=np.float64)) / count
        left = max(0.0, total - float(self.moments.sum()))
        self.rest = left / (width - rank) if width > rank else 0.0


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
        self.directions = directions
        self.turn = None
        if diagonal:
            strength = between
        else:
            strength, self.turn = xp.linalg.eigh(between)
            self.turn = self.turn.astype(dtype)
        strength = xp.maximum(strength, 0)[:, None]
        self.outside = (1 / (1 + strength * directions.rest)).astype(dtype)
        self.inside = (1 / (1 + strength * directions.moments)).astype(dtype) - self.outside

    def __call__(self, r):
        """Apply to a residual (K, D + 1)."""
        turned = r if self.turn is None else self.turn.T @ r
        basis = self.directions.basis
        out = self.outside * turned + ((turned @ basis) * self.inside) @ basis.T
        return out if self.turn is None else self.turn @ out
