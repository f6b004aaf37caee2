"""Work on one model's features that several metrics need, each part computed once when asked for.

Products with the features run in the metric's ``dtype`` over blocks of rows, whose results are
added in float64: the only float32 rounding is that within a block, and a copy of the features is
never needed beside a block. Everything (D, D) or (K, D) is float64.
"""

from contextlib import nullcontext
from functools import cached_property

import numpy as np

from .. import backend
from ..errors import InputError
from ..features import as_features, check_finite
from ..labels import check_count
from ._base import MultiLabels
from ._linalg import mirror, outer, outer_sum, plus_outer

_BLOCK_BYTES = 1 << 25  # of a block of rows: stays in a last-level cache, long enough for a GEMM
_LEAST_SQUARE = 1e-150  # mean square whose own square float64 still holds
_FLAT = 1e-7  # of its mean: a column's deviation that is float32's rounding of what it was made of
_FLAT_FAR = 1e-14  # the same for float64 features that are all far from 0: float64's rounding


class Shared:
    """One model's features, and what metrics derive from them.

    Features of which no column is more than constant but for rounding are taken as exactly
    constant, or metrics would make something of that rounding.

    Parameters
    ----------
    features : array-like (N, D)
        See :func:`lead_fast.features.as_features`; neither copied nor changed.
    labels : Labels or MultiLabels
        Of N samples.
    dtype : {float32, float64}
        Of the blocks handed out and of the products of (N, D) with anything. Float64 is taken in
        place of float32 for features so small that their squares leave its range, or so far from 0
        that its rounding shows in their deviations.

    Attributes
    ----------
    n, d, k : int
        Samples, width, classes.
    labels : Labels or MultiLabels
    dtype : dtype
        The one that was taken.
    flat : float
        The share of its mean up to which a column's deviation counts as rounding.
    xp : module
        NumPy, or CuPy for :class:`~lead_fast.metrics._arrays.ArrayShared`: whose arrays are handed
        out and expected.
    native : bool
        Whether the features are in `features`, for native code to read.

    Raises
    ------
    InputError
        Another number of samples; a NaN or an infinity; squares that overflow, or fourth powers
        that underflow even in float64.

    Notes
    -----
    Arrays handed out are shared: callers must not write to them. The derived arrays, with their
    cost in operations beside reading the features: `mean`, `variance`, `class_sums`,
    `class_means`, `class_variances` N D (N D K multi-label); `within`, `total`, `gram` N D^2
    together, once, and D^2 K.
    """

    xp, native = np, True

    def __init__(self, features, labels, dtype=np.float32):
        self.features = as_features(features)
        self.dtype = np.dtype(dtype)
        self.labels = labels
        self.n, self.d = self.features.shape
        self.k = labels.n_classes
        check_count(labels, self.n)
        found = self.features.column_statistics()
        check_finite(self.features, found=found)
        self.mean, self.variance = found["mean"], found["variance"]  # (D,) float64, biased
        self._memo = {}
        self._check_range(self.features.dtype)
        row = self._constant_row()
        if row is not None:
            self.features = as_features(np.tile(row, (self.n, 1)))

    def _constant_row(self):
        """What all samples are but for rounding, (D,); None if they differ or are the same."""
        if bool(self.varies.any()) or not bool(self.variance.any()):
            return None
        row = self.mean.astype(self.dtype)
        self.mean, self.variance = row.astype(np.float64), self.xp.zeros(self.d)
        return row

    def _check_range(self, stored):
        with np.errstate(over="ignore"):
            spread, offset = float(self.variance.sum()), float((self.mean**2).sum())
        limit = float(np.finfo(self.dtype).max) / (4.0 * self.n)
        if not spread + offset < limit:
            raise InputError("features: so large that their squares overflow; rescale them")
        # So far from 0 that float32's rounding is 1 % of their deviation, or all of it.
        far = offset * float(np.finfo(np.float32).eps) ** 2 > 1e-4 * spread
        self.flat = _FLAT_FAR if far and stored == "float64" else _FLAT
        if far or spread + offset < self.d * _least_square(self.dtype):
            self.dtype = np.dtype(np.float64)
        if spread + offset < self.d * _LEAST_SQUARE and bool((self.mean != 0.0).any()):
            raise InputError("features: so small that their powers underflow; rescale them")

    def active(self):
        """A context in which the arrays may be worked with: of their device and stream."""
        return nullcontext()

    @staticmethod
    def host(array):
        """An array of `xp` as an ndarray."""
        return array

    @staticmethod
    def put(array):
        """An ndarray as an array of `xp`."""
        return array

    @property
    def eps(self):
        """Spacing of the numbers of `dtype` at 1."""
        return float(np.finfo(self.dtype).eps)

    @property
    def varies(self):
        """Which columns are more than constant but for rounding, (D,) bool."""
        deviation = self.xp.sqrt(self.variance)
        return (self.variance > _least_square(np.float64)) & (
            deviation > self.flat * self.xp.abs(self.mean)
        )

    @property
    def inverse_deviation(self):
        """What standardises each column, (D,) float64; 0 for constant ones."""
        xp, varies = self.xp, self.varies
        return xp.where(varies, 1.0 / xp.where(varies, xp.sqrt(self.variance), 1.0), 0.0)

    @property
    def by_column(self):
        """The same for what standardises columns: in float64 if one is too small for float32."""
        small = (self.variance < _least_square(self.dtype)) & self.varies
        return self.refined if bool(small.any()) else self

    # ------------------------------------------------------------------------------------ features

    @cached_property
    def x(self):
        """Features (N, D) in `dtype`, rows contiguous; the caller's own memory where it can be."""
        return np.ascontiguousarray(self.features.to_float(), dtype=self.dtype)

    def block_rows(self, bytes_per_row=None):
        """Rows per block: a block takes some 32 MB, and is not so small that products are slow."""
        per_row = bytes_per_row or self.d * self.dtype.itemsize
        return min(self.n, max(256, min(4096, _BLOCK_BYTES // per_row)))

    def blocks(self, rows=None):
        """Go through the features in blocks.

        Parameters
        ----------
        rows : ndarray (M,) int, optional
            Which rows and in which order; by default all.

        Yields
        ------
        place : slice
            Which of the rows (of `rows`, if given) the block holds.
        block : ndarray (B, D) in `dtype`, rows contiguous
            Not to be written to: it may be the caller's memory.
        """
        source = self.features
        count = self.n if rows is None else len(rows)
        step = self.block_rows()
        for start in range(0, count, step):
            place = slice(start, min(start + step, count))
            part = type(source)(source.data[place if rows is None else rows[place]], source.dtype)
            yield place, np.ascontiguousarray(part.to_float(), dtype=self.dtype)

    # ------------------------------------------------------------------------------------- classes

    @property
    def multi_label(self):
        """Whether samples have several labels."""
        return isinstance(self.labels, MultiLabels)

    @property
    def codes(self):
        """Class number of each sample, (N,) int32; one label per sample only."""
        return self.labels.codes

    @property
    def label_matrix(self):
        """Several labels per sample as (N, K) of 0 and 1, float64."""
        return self.labels.matrix

    @cached_property
    def counts(self):
        """Samples of each class, (K,) float64."""
        return self.put(self.counts_on_host)

    @cached_property
    def counts_on_host(self):
        """The same as an ndarray."""
        if self.multi_label:
            return self.labels.matrix.sum(axis=0)
        return np.bincount(self.labels.codes, minlength=self.k).astype(np.float64)

    @property
    def indicators(self):
        """1 where a sample has a label, else 0, (N, K) float64."""
        return self.label_matrix if self.multi_label else self.xp.eye(self.k)[self.codes]

    @cached_property
    def _class_moments(self):
        """Means and biased variances of the classes, in one read; native code, in float64."""
        means, variances = np.zeros((self.k, self.d)), np.zeros((self.k, self.d))
        for number, rows in enumerate(self.labels.rows_by_class()):
            if len(rows) == 0:
                continue
            found = self.features.column_statistics(rows)
            means[number], variances[number] = found["mean"], found["variance"]
        return self._frozen(means), self._frozen(variances)

    @cached_property
    def class_means(self):
        """Mean of the features of each class, (K, D) float64; 0 for a class without samples."""
        if not self.multi_label:
            return self._class_moments[0]
        return self._frozen(self.class_sums / self.xp.maximum(self.counts, 1.0)[:, None])

    @property
    def class_variances(self):
        """Biased variance of the features within each class, (K, D) float64; one label each."""
        return self._class_moments[1]

    @cached_property
    def class_sums(self):
        """Sum of the features of each class, (K, D) float64."""
        if not self.multi_label:
            return self._frozen(self._class_moments[0] * self.counts[:, None])
        sums, matrix = self.xp.zeros((self.k, self.d)), self.label_matrix.astype(self.dtype)
        for place, block in self.blocks():
            sums += matrix[place].T @ block
        return self._frozen(sums)

    # ------------------------------------------------------------------------------------- moments

    @cached_property
    def within(self):
        """Sum of outer products about the class means, (D, D) float64, not divided by N.

        Rows are centred before they are multiplied, so nothing cancels.
        """
        upper = self._within_upper
        del self.__dict__["_within_upper"]
        return self._frozen(mirror(upper))

    @property
    def within_upper(self):
        """As `within`, but what is below the diagonal does not count; in Fortran order."""
        return self.within if "within" in self.__dict__ else self._within_upper

    @cached_property
    def _within_upper(self):
        means = self.class_means.astype(self.dtype)
        total, buffer, work = None, self._buffer(), self._work()
        for place, block in self.blocks():
            part = buffer[: len(block)]
            np.take(means, self.codes[place], axis=0, out=part, mode="clip")
            np.subtract(block, part, out=part)
            total = outer_sum(part, total, work)
        return total

    def _buffer(self):
        """Room for one block, to be used again for the next: fresh memory costs as much as work."""
        return np.empty((self.block_rows(), self.d), self.dtype)

    def _work(self):
        """Room for one product of a block with itself; zeros, as only one triangle is written."""
        return np.zeros((self.d, self.d), np.float32, order="F")

    def _read(self, rows, out):
        """Copy rows of the features into `out`."""
        data = self.features.data
        if data.dtype == self.dtype and data.flags.aligned:
            np.take(data, rows, axis=0, out=out, mode="clip")
        else:
            out[...] = type(self.features)(data[rows], self.features.dtype).to_float()
        return out

    @cached_property
    def total(self):
        """Sum of outer products about the mean, (D, D) float64: within and between classes."""
        if self.multi_label:
            return self._frozen(self._scatter_of_all())
        return self._frozen(plus_outer(self.within, self.class_spread))

    def _scatter_of_all(self):
        mean, buffer = self.mean.astype(self.dtype), self._buffer()
        total = None
        for _, block in self.blocks():
            part = np.subtract(block, mean, out=buffer[: len(block)])
            total = outer_sum(part, total)
        return mirror(total)

    @property
    def class_spread(self):
        """S (K, D) float64 with ``S^T S`` the scatter of the class means."""
        return self.xp.sqrt(self.counts)[:, None] * (self.class_means - self.mean)

    @cached_property
    def gram(self):
        """Sum of outer products as they are, ``X^T X``, (D, D) float64."""
        return self._frozen(plus_outer(self.total, self.n**0.5 * self.mean[None]))

    @cached_property
    def sample_gram(self):
        """Inner products of the samples, ``X X^T``, (N, N) float64; for N not above D."""
        columns = self.xp.ascontiguousarray(self.x.T)
        total, step = None, max(256, _BLOCK_BYTES // (self.n * self.dtype.itemsize))
        for start in range(0, self.d, step):
            total = outer_sum(columns[start : start + step], total)
        return self._frozen(mirror(total))

    def class_scatters(self):
        """Go through the classes' sums of outer products about their own mean.

        Yields
        ------
        c : int
            Number of the class.
        scatter : array (D, D) of `dtype` or float64, Fortran order
            Only its upper triangle counts; the caller's to change until the next is asked for.

        Notes
        -----
        N D^2 operations, after which `within` is there for nothing.
        """
        total, means = None, self.class_means.astype(self.dtype)
        buffer, scatter = self._buffer(), np.zeros((self.d, self.d), self.dtype, order="F")
        for c, rows in enumerate(self.labels.rows_by_class()):
            if len(rows) == 0:
                continue
            parts = [rows[i : i + len(buffer)] for i in range(0, len(rows), len(buffer))]
            found = None
            for part in parts:
                block = self._read(part, buffer[: len(part)])
                np.subtract(block, means[c], out=block)
                if len(parts) == 1:
                    found = outer(block, scatter)
                else:
                    found = outer_sum(block, found)
            if total is None:
                total = found.astype(np.float64, order="F")
            else:
                np.add(total, found, out=total)
            yield c, found
        self.__dict__.setdefault("_within_upper", total)

    def class_log_determinants(self, shift, square, classes=None):
        """Log-determinants of the classes' scatter about the mean of all, plus a multiple of I.

        Parameters
        ----------
        shift : ndarray (C,) float64
            The multiples.
        square : bool
            Whether matrices are to be (D, D) whatever the class; `within` then comes for nothing.
        classes : list of int, optional
            By default all K.

        Returns
        -------
        log_determinant : ndarray (C,) float64
            Of (D, D) matrices, or (n, n) ones of the same non-zero eigenvalues for classes of n <=
            D samples unless `square`; NaN where one is not positive definite.
        pivot : ndarray (C,) float64
            Smallest share of a diagonal entry that the factorisation, in `dtype`, left.

        Notes
        -----
        One class per thread, each with two (D, D) at most.
        """
        rows = self.labels.rows_by_class()
        if classes is not None:
            rows = [rows[c] for c in classes]
        every = np.arange(self.k) if classes is None else np.asarray(classes)
        total = np.zeros((self.d, self.d)) if square else None
        centre = self.class_means[every] if square else np.tile(self.mean, (len(every), 1))
        offset = self.class_spread[every] if square else None
        with backend.one_blas_thread():
            found = backend.cpu().class_log_determinants(
                self.features.data, self.features.dtype, np.concatenate(rows),
                np.cumsum([len(r) for r in rows]), centre, offset, shift,
                self.dtype == np.float64, total, backend.threads(),
            )  # fmt: skip
        if square and classes is None:
            # As the columns of the native code are the rows of this array.
            self.__dict__.setdefault("_within_upper", total.T)
        return found

    @cached_property
    def norms(self):
        """Squared distance of each sample to the mean, (N,) float64."""
        mean, norms = self.mean.astype(self.dtype), self.xp.empty(self.n)
        for place, block in self.blocks():
            centred = block - mean
            norms[place] = self.xp.einsum("ij,ij->i", centred, centred)
        return self._frozen(norms)

    @property
    def refined(self):
        """The same in float64, for where float32 products are too coarse."""
        if self.dtype == np.float64:
            return self
        return self.once("float64", self._in_float64)

    def _in_float64(self):
        return Shared(self.features, self.labels, np.float64)

    # ---------------------------------------------------------------------------------------- memo

    def once(self, key, compute):
        """The value stored under `key`, computed at the first call: for what two metrics share."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    @staticmethod
    def _frozen(array):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        return array


def _least_square(dtype):
    """The least mean square that leaves most of the squares all their digits."""
    return 64.0 * float(np.finfo(dtype).tiny)
