"""Products with the mapped features, which stay as they are: NumPy or CuPy."""

import numpy as np

BLOCK_BYTES = 64 << 20  # of converted rows at a time
ON_GPU = 4  # times as many there, where each block is some eight launches
LARGE_OFFSET = 100.0  # squared length of the mean, mapped, above which rows are centred first


class Rows:
    """The matrix Z of rows [(x - centre) * inverse_scale, 1], (N, D + 1), never formed.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    data : (N, D) array of xp
        float16, float32 or float64; for bfloat16 the bits as uint16.
    centre, inverse_scale : (D,) array of float64
    dtype : dtype
        In which products are taken. Features of that dtype are multiplied in place, with the map
        applied to the small factor; others, and those far from zero compared to their spread, go
        through converted blocks of rows.
    kernels : :class:`.native.Kernels`, optional
        Which maps rows.
    """

    def __init__(self, xp, data, centre, inverse_scale, dtype, kernels=None):
        self.xp, self.data, self.dtype, self.kernels = xp, data, np.dtype(dtype), kernels
        self.n, self.width = data.shape
        self.centre = xp.asarray(centre, dtype=np.float64)
        self.scale = xp.asarray(inverse_scale, dtype=np.float64)
        offset = float((self.centre * self.scale) @ (self.centre * self.scale))
        self.direct = data.dtype == self.dtype and offset <= LARGE_OFFSET
        self.block = max(1, (1 if xp is np else ON_GPU) * BLOCK_BYTES // (8 * self.width))

    def at(self, dtype):
        """The same rows for products in another dtype."""
        return Rows(self.xp, self.data, self.centre, self.scale, dtype, self.kernels)

    def mapped(self, rows):
        """The rows of Z that a slice or an index array names, without the column of ones."""
        wide = np.promote_types(self.dtype, np.float32)
        if self.kernels is not None:
            data, rows = (self.data[rows], None) if isinstance(rows, slice) else (self.data, rows)
            if self.kernels.take(data):
                return self.kernels.mapped(data, rows, self.centre, self.scale, wide)
        block = numbers(self.xp, self.data[rows]).astype(wide)
        block -= self.centre.astype(wide)
        block *= self.scale.astype(wide)
        return block

    def _blocks(self):
        for start in range(0, self.n, self.block):
            yield slice(start, min(self.n, start + self.block))

    def times(self, v):
        """Z v^T, (N, K), for v (K, D + 1)."""
        xp = self.xp
        if self.direct:
            wide = v[:, :-1].astype(np.float64) * self.scale
            shift = v[:, -1].astype(np.float64) - wide @ self.centre
            return self.data @ wide.astype(self.dtype).T + shift.astype(self.dtype)
        out = xp.empty((self.n, len(v)), self.dtype)
        for rows in self._blocks():
            out[rows] = self.mapped(rows) @ v[:, :-1].T + v[:, -1]
        return out

    def transposed_times(self, g):
        """g^T Z, (K, D + 1) in float64, for g (N, K)."""
        xp = self.xp
        total = g.sum(axis=0, dtype=np.float64)
        out = xp.empty((g.shape[1], self.width + 1), np.float64)
        out[:, -1] = total
        if self.direct:
            out[:, :-1] = (g.T @ self.data - xp.outer(total, self.centre)) * self.scale
            return out
        out[:, :-1] = 0.0
        for rows in self._blocks():
            out[:, :-1] += g[rows].T @ self.mapped(rows)
        return out

    def both(self, v, g):
        """``times(v)`` and ``transposed_times(g)``, with every row mapped once."""
        xp = self.xp
        if self.direct:
            return self.times(v), self.transposed_times(g)
        f = xp.empty((self.n, len(v)), self.dtype)
        out = xp.zeros((g.shape[1], self.width + 1), np.float64)
        out[:, -1] = g.sum(axis=0, dtype=np.float64)
        weights, bias = xp.ascontiguousarray(v[:, :-1].T), v[:, -1]
        for rows in self._blocks():
            block = self.mapped(rows)
            f[rows] = block @ weights + bias
            out[:, :-1] += g[rows].T @ block
        return f, out


def numbers(xp, data):
    """The values of an array that may hold the bits of bfloat16."""
    if data.dtype == np.uint16:
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data


def column_statistics(xp, data):
    """What the native ``column_statistics`` finds, by blocks of rows in float64 on the device.

    Returns
    -------
    dict
        ``mean`` and ``variance`` (D,) float64 of xp, ``non_finite`` and ``first_non_finite``.
    """
    n, width = data.shape
    # Less the first row, constant columns are 0 and have no deviation that is rounding.
    origin = numbers(xp, data[0]).astype(np.float64)
    origin = xp.where(xp.isfinite(origin), origin, 0.0)
    mean, squares = xp.zeros(width), xp.zeros(width)
    block = max(1, BLOCK_BYTES // (8 * width))
    bad = xp.zeros(n, bool)
    with np.errstate(all="ignore"):  # what is not finite is counted
        for start in range(0, n, block):
            part = numbers(xp, data[start : start + block]) - origin
            count = len(part)
            bad[start : start + count] = ~xp.isfinite(part).all(axis=1)
            centre = part.mean(axis=0)
            part -= centre
            shift = centre - mean
            mean += shift * (count / (start + count))
            squares += (part * part).sum(axis=0) + shift * shift * (count * start / (start + count))
    non_finite = int(bad.sum())
    first = int(bad.argmax()) if non_finite else 0
    return {
        "mean": origin + mean,
        "variance": squares / n,
        "non_finite": non_finite,
        "first_non_finite": first,
    }
