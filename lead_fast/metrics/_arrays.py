"""What metrics share, on the arrays of any namespace: those of a GPU, or NumPy's in the tests."""

from contextlib import nullcontext
from functools import cached_property

import numpy as np

from ..features import Features, check_finite
from ..labels import check_count
from ..svm_arrays import adapt
from ..svm_arrays.rows import numbers
from ._linalg import add_to_diagonal, lower_factor, to_numpy
from ._shared import Shared

_BLOCK_BYTES = 1 << 28  # of a block of rows: small beside a GPU's memory, large for its kernels


class ArrayShared(Shared):
    """:class:`Shared` for features (N, D) that are an array of ``xp``; nothing native.

    Parameters
    ----------
    xp : module
        CuPy, or NumPy.
    data : array of xp (N, D)
        float16, float32 or float64, or the bits of bfloat16 as uint16. Neither copied nor changed.
    labels : Labels or MultiLabels
    dtype : {float32, float64}
    active : callable
        Gives the context in which arrays may be worked with.

    Notes
    -----
    All arrays are of `xp`, class moments in float64. Memory: blocks of 256 MB beside what is
    handed out.
    """

    native = False

    def __init__(self, xp, data, labels, dtype=np.float32, active=nullcontext):
        self.xp, self.data, self.active = xp, data, active
        self.labels, self.dtype = labels, np.dtype(dtype)
        self.n, self.d = data.shape
        self.k = labels.n_classes
        check_count(labels, self.n)
        found = adapt.device_statistics(xp, data)
        check_finite(data, found=found)
        self.mean, self.variance = found["mean"], found["variance"]
        self._memo = {}
        self._check_range(data.dtype.name)
        row = self._constant_row()
        if row is not None:
            self.data = xp.ascontiguousarray(xp.broadcast_to(row, data.shape))

    host = staticmethod(to_numpy)

    def put(self, array):
        """An ndarray as an array of `xp`."""
        return self.xp.asarray(array)

    # ------------------------------------------------------------------------------------ features

    def _converted(self, data):
        xp = self.xp
        return xp.ascontiguousarray(numbers(xp, data).astype(self.dtype, copy=False))

    @cached_property
    def x(self):
        """Features (N, D) in `dtype`, rows contiguous."""
        return self._converted(self.data)

    def block_rows(self, bytes_per_row=None):
        """Rows per block."""
        per_row = bytes_per_row or self.d * self.dtype.itemsize
        return min(self.n, max(256, min(8192, _BLOCK_BYTES // per_row)))

    def blocks(self, rows=None):
        """Go through the features in blocks, see the base class; `rows` of `xp` or NumPy."""
        count = self.n if rows is None else len(rows)
        rows = None if rows is None else self.put(rows)
        step = self.block_rows()
        for start in range(0, count, step):
            place = slice(start, min(start + step, count))
            yield place, self._converted(self.data[place if rows is None else rows[place]])

    # ------------------------------------------------------------------------------------- classes

    @cached_property
    def codes(self):
        """Class number of each sample, (N,) int64."""
        return self.put(self.labels.codes.astype(np.int64))

    @cached_property
    def label_matrix(self):
        """Several labels per sample as (N, K) of 0 and 1, float64."""
        return self.put(self.labels.matrix)

    def _hot(self, place):
        """Indicators (K, B) float64 of a block's classes."""
        return (self.xp.arange(self.k)[:, None] == self.codes[place]).astype(np.float64)

    def _sum_by_class(self, of_block):
        """Sum ``of_block(block in float64, its codes)`` (B, D) by class, (K, D)."""
        total = self.xp.zeros((self.k, self.d))
        for place, block in self.blocks():
            wide = of_block(block.astype(np.float64), self.codes[place])
            total += self._hot(place) @ wide
        return total

    @cached_property
    def class_sums(self):
        """Sum of the features of each class, (K, D) float64."""
        if self.multi_label:
            sums = self.xp.zeros((self.k, self.d))
            for place, block in self.blocks():
                sums += self.label_matrix[place].T @ block.astype(np.float64)
            return sums
        return self.class_means * self.counts[:, None]

    @cached_property
    def class_means(self):
        """Mean of the features of each class, (K, D) float64; 0 for a class without samples."""
        counts = self.counts[:, None]
        if self.multi_label:
            return self.class_sums / self.xp.maximum(counts, 1.0)
        # About the mean: columns far from zero lose nothing, and constant ones have no deviation.
        centred = self._sum_by_class(lambda block, _: block - self.mean)
        return self.xp.where(counts > 0, self.mean + centred / self.xp.maximum(counts, 1.0), 0.0)

    @cached_property
    def class_variances(self):
        """Biased variance of the features within each class, (K, D) float64."""
        means = self.class_means
        squares = self._sum_by_class(lambda block, codes: (block - means[codes]) ** 2)
        return squares / self.xp.maximum(self.counts, 1.0)[:, None]

    # ------------------------------------------------------------------------------------- moments

    @cached_property
    def within(self):
        """Sum of outer products about the class means, (D, D) float64, not divided by N."""
        means, total = self.class_means.astype(self.dtype), None
        for place, block in self.blocks():
            total = _add_square(block - means[self.codes[place]], total)
        return total

    @property
    def within_upper(self):
        """As `within`."""
        return self.within

    def _scatter_of_all(self):
        mean, total = self.mean.astype(self.dtype), None
        for _, block in self.blocks():
            total = _add_square(block - mean, total)
        return total

    @cached_property
    def sample_gram(self):
        """Inner products of the samples, ``X X^T``, (N, N) float64; for N not above D."""
        return (self.x @ self.x.T).astype(np.float64)

    def class_log_determinants(self, shift, square, classes=None):
        """As in the base class, one class after the other; found and pivots are ndarrays."""
        xp, rows = self.xp, self.labels.rows_by_class()
        every = range(self.k) if classes is None else classes
        found, pivots, total = np.empty(len(every)), np.empty(len(every)), None
        for place, c in enumerate(every):
            small = not square and len(rows[c]) <= self.d
            centre = (self.class_means[c] if square else self.mean).astype(self.dtype)
            matrix = None
            for _, block in [(None, self.x[self.put(rows[c])])] if small else self.blocks(rows[c]):
                part = block - centre
                product = part @ part.T if small else part.T @ part
                matrix = product if matrix is None else matrix + product
            if square:
                total = matrix.astype(np.float64) if total is None else total + matrix
                offset = self.class_spread[c].astype(self.dtype)
                matrix = matrix + offset[:, None] * offset
            add_to_diagonal(matrix, float(shift[place]))
            before = matrix.diagonal().astype(np.float64)
            factor = lower_factor(matrix)
            if factor is None:
                found[place], pivots[place] = np.nan, 0.0
                continue
            square_root = factor.diagonal().astype(np.float64)
            found[place] = 2.0 * float(xp.log(square_root).sum())
            pivots[place] = float((square_root**2 / before).min())
        if square and classes is None:
            self.__dict__.setdefault("within", total)
        return found, pivots

    def beside(self, features):
        """The same for an ndarray of features (N, D') of the same samples, moved here."""
        return ArrayShared(self.xp, self.put(features), self.labels, self.dtype, self.active)

    def on_host(self):
        """Features (N, D) in `dtype` as an ndarray."""
        with self.active():
            return self.host(self.x)

    def _in_float64(self):
        return ArrayShared(self.xp, self.data, self.labels, np.float64, self.active)


def _add_square(block, total):
    """``total + block.T @ block`` in float64, in place."""
    product = block.T @ block
    if total is None:
        return product.astype(np.float64)
    total += product
    return total


def share_on(place, features, labels, dtype):
    """Share features on the GPU of a :class:`lead_fast.device.Place`."""
    array = place.features(features)

    def active():
        return adapt.on_device(array)

    with active() as (xp, data):
        return ArrayShared(xp, data, labels, dtype, active)


def statistics(x):
    """Column statistics of :class:`Features` or of a DeviceArray, as ndarrays."""
    if isinstance(x, Features):
        return x.column_statistics()
    with adapt.on_device(x) as (xp, data):
        return adapt.statistics(xp, data)
