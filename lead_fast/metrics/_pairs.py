"""Spearman's correlation of the distances of all pairs of samples, in bounded memory."""

import math

import numpy as np

from .. import backend
from ..errors import InputError

_BINS = 1 << 20
_BLOCK_BYTES = 1 << 25
_COLLECTED = 1 << 24  # pairs whose distances are kept at a time, 16 bytes each
_MOST_PAIRS = 2**32 - 1


class LabelPairs:
    """Ranks of the label distances of all pairs: what depends on the labels alone.

    Parameters
    ----------
    labels : Labels or MultiLabels
    ties : {"public", "exact"}
        See :class:`~lead_fast.metrics.parc.PARC`.

    Attributes
    ----------
    count : int
        Pairs, N (N - 1) / 2.
    lengths : ndarray
        The distinct label distances, ascending.
    """

    def __init__(self, labels, ties):
        self.n, self.matrix = labels.n, getattr(labels, "matrix", None)
        self.count = self.n * (self.n - 1) // 2
        if self.count > _MOST_PAIRS:
            raise InputError(f"parc: {self.n} samples have too many pairs; set max_samples")
        if hasattr(labels, "matrix"):
            self.code, self.bits, distance = _of_sets(labels.matrix)
        else:
            self.code, self.bits = labels.codes, None
            distance = _of_classes(labels.n_classes, ties)[:, :, None]
        types = backend.cpu().pair_types(self.code, self._plain(distance), self.bits, _threads())
        self._rank(distance, types)

    def _plain(self, table):
        """The table as the native code takes it: without the last axis for single labels."""
        return np.ascontiguousarray(table if self.bits is not None else table[:, :, 0])

    def _rank(self, distance, types):
        found = types > 0
        self.lengths, place = np.unique(distance[found], return_inverse=True)
        sizes = np.bincount(place, weights=types[found]).astype(np.int64)
        below = np.cumsum(sizes) - sizes
        ranks = below + 0.5 * (sizes + 1)
        self.spread = float(((ranks - 0.5 * (self.count + 1)) ** 2 * sizes).sum())
        # Weights are ranks less that of the commoner end, so that most are 0 and all have one sign;
        # doubled they are integers, whose sums are exact in any order.
        self.base = float(ranks[-1] if sizes[-1] >= sizes[0] else ranks[0])
        weight = np.zeros(distance.shape)
        weight[found] = 2.0 * (ranks - self.base)[place]
        self.weight = self._plain(weight)
        self.largest = float(np.abs(weight).max())

    def correlation(self, product, ties):
        """Spearman's coefficient with other ranks of the pairs, NaN if all of those are tied.

        ``product`` is the sum of the products of centred ranks, ``ties`` the sum of size^3 - size
        over the groups of ties among the other ranks.
        """
        p = float(self.count)
        spread = (p**3 - p - ties) / 12.0
        return product / math.sqrt(spread * self.spread) if spread > 0.0 else math.nan


def _of_classes(k, ties):
    """Distances (K, K) of one-hot labels, 1 - correlation."""
    if ties == "exact":
        return 1.0 - np.eye(k)
    products = backend.cpu().one_hot_products(k) * (1.0 / (k - 1))
    deviation = np.sqrt(np.diag(products))
    products /= deviation[:, None]
    products /= deviation
    return 1.0 - np.clip(products, -1.0, 1.0)


def _of_sets(matrix):
    """Codes by number of labels, bits (N, words), and distances by two codes and labels shared."""
    n, k = matrix.shape
    words = -(-k // 64)
    wide = np.zeros((n, 64 * words), np.uint8)
    wide[:, :k] = matrix != 0
    bits = np.packbits(wide, axis=1, bitorder="little").view(np.uint64).reshape(n, words)
    sizes, code = np.unique(wide.sum(axis=1, dtype=np.int64), return_inverse=True)
    shared = np.arange(int(sizes[-1]) + 1)
    a, b = sizes[:, None, None], sizes[None, :, None]
    scale = np.sqrt((a * (k - a) * b * (k - b)).astype(np.float64))
    defined = scale > 0.0  # no label, or all of them: no correlation
    correlation = np.where(defined, (k * shared - a * b) / np.where(defined, scale, 1.0), 0.0)
    return code.astype(np.int32), np.ascontiguousarray(bits), np.round(1.0 - correlation, 12)


def _threads():
    return backend.threads()


class _Total:
    """What a pass adds up: sums over the pairs of rank * weight, and of (ties^3 - ties)."""

    def __init__(self):
        self.rank_weight = self.ties = 0.0


def spearman(z, labels, tol):
    """Spearman's correlation between ``1 - z z^T`` and label distances over all pairs.

    Parameters
    ----------
    z : ndarray (N, C) float32 or float64
        Rows of unit length (or 0) whose inner products are the similarities.
    labels : LabelPairs
        Whose label distances are not all the same.
    tol : float
        Bound on the error that counting near distances as tied may cause.

    Returns
    -------
    float
        NaN if all distances of the features are the same.

    Notes
    -----
    Distances are counted in 2^20 bins, with the labels' ranks summed by bin; pairs in one bin
    count as tied, as long as no order within the bins could change the result by more than `tol`.
    Otherwise the distances of the bins that matter most are collected, in portions, and sorted;
    bins too full for that are divided again. Each pass recomputes the similarities.
    """
    total = _Total()
    _Ranker(z, labels, tol).run(total)
    p = float(labels.count)
    centre = 0.5 * (p + 1.0)
    # sum of rank_f * rank_l, whose rank_l is weight / 2 + base.
    product = 0.5 * total.rank_weight + labels.base * p * centre - p * centre * centre
    return labels.correlation(product, total.ties)


class _Ranker:
    def __init__(self, z, labels, tol):
        self.z, self.labels = z, labels
        p = float(labels.count)
        # A correlation of 1 in units of the sum of rank * weight.
        self.unit = 2.0 * math.sqrt(p**3 / 12.0 * labels.spread)
        self.slack = tol * self.unit
        step = max(1, _BLOCK_BYTES // (len(z) * z.itemsize))
        self.steps = range(0, len(z), min(step, 1024))
        self._room = np.empty((self.steps.step, len(z)), z.dtype)

    def _blocks(self):
        """Similarities (B, N) of successive rows, and the first row; columns before it count."""
        n = len(self.z)
        for first in self.steps:
            stop = min(first + self.steps.step, n)
            # A whole matrix of its own, so that it is contiguous: BLAS writes into its left part.
            out = self._room[: stop - first]
            np.matmul(self.z[first:stop], self.z[:stop].T, out=out[:, :stop])
            yield first, out

    def run(self, total, divisions=(), index=(), low=0.0, high=2.0, below=0, slack=None):
        """Add the pairs of one interval, above `below` pairs that are nearer."""
        slack = self.slack if slack is None else slack
        labels, cpu = self.labels, backend.cpu()
        scale = _BINS / (high - low)
        count = np.zeros((_threads(), _BINS), np.uint32)
        sums = np.zeros((_threads(), _BINS))
        chain = (list(divisions), list(index))
        for first, block in self._blocks():
            cpu.pair_histogram(
                block, first, labels.code, labels.weight, labels.bits, *chain, low, scale,
                count, sums,
            )  # fmt: skip
        count, sums = count.sum(axis=0, dtype=np.int64), sums.sum(axis=0)
        before = below + np.cumsum(count) - count
        # The most that the order within a bin can matter: all weight at one end of it. And that
        # ties can matter that may or may not be there.
        heavy = np.abs(sums) / labels.largest
        tied = count.astype(np.float64) ** 3 - count
        loss = labels.largest * heavy * (count - heavy) / 2.0
        loss += self.unit * tied / (2.0 * float(labels.count) ** 3)
        order = np.argsort(-loss, kind="stable")
        rest = np.cumsum(loss[order][::-1])[::-1]
        sure = np.ones(_BINS, bool)
        sure[order[rest > slack]] = False
        if (high - low) / _BINS < 1e-16:  # nothing is left to tell apart
            sure[:] = True
            total.ties += float(tied.sum())
        ranks = before + 0.5 * (count + 1)
        total.rank_weight += float(ranks[sure] @ sums[sure])
        spent = float(loss[sure].sum())
        wanted = np.flatnonzero(~sure)
        for b in wanted[count[wanted] > _COLLECTED]:
            edge = low + b / scale
            self.run(
                total, [*divisions, (low, scale)], [*index, int(b)], edge, edge + 1.0 / scale,
                int(before[b]), max(slack - spent, 0.0) / len(wanted),
            )  # fmt: skip
        wanted = wanted[count[wanted] <= _COLLECTED]
        while len(wanted):
            fit = max(1, int(np.searchsorted(np.cumsum(count[wanted]), _COLLECTED, "right")))
            self._exact(total, wanted[:fit], count, before, chain, low, scale)
            wanted = wanted[fit:]

    def _exact(self, total, bins, count, before, chain, low, scale):
        """Add the pairs of these bins by sorting them."""
        labels, cpu = self.labels, backend.cpu()
        begin = np.concatenate([[0], np.cumsum(count[bins])])
        cursor, end = np.full(_BINS, -1, np.int64), np.full(_BINS, -1, np.int64)
        cursor[bins], end[bins] = begin[:-1], begin[1:]
        distance, weight = np.empty(begin[-1]), np.empty(begin[-1])
        for first, block in self._blocks():
            cpu.pair_collect(
                block, first, labels.code, labels.weight, labels.bits, *chain, low, scale,
                cursor, end, distance, weight, _threads(),
            )  # fmt: skip
        found = cpu.pair_ranks(begin, before[bins].copy(), distance, weight, _threads())
        total.rank_weight += found[0]
        total.ties += found[1]
