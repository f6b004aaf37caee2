"""RSA: representational similarity to the features of a reference model."""

import numpy as np

from ..errors import InputError
from ..options import integer
from ._base import Metric
from .dds import reference_of, standardisation

_BINS = 1 << 20  # of 2e-6, some ten float32 roundings of a correlation
_TILE = 1024


class RSA(Metric):
    r"""Rank correlation of two models' matrices of dissimilarities between samples.

    Columns are standardised; the dissimilarity of two samples is 1 less the correlation of their
    features; the score is 100 times Spearman's correlation of the two models' N(N - 1)/2 values.

    Parameters
    ----------
    labels : array-like (N,)
        Only their number counts.
    reference : array-like (N, D')
        Features of a model that was trained on the target task, on the same samples; in a zoo, the
        name of that model.
    max_samples : int
        With more samples, that many are taken, evenly spaced.
    dtype : {"float32", "float64"}
        In float64 all pairs are sorted. In float32 they are ranked by counting in 2^20 intervals
        of the correlation, whose members rank as ties: as fine as float32 resolves them.
    device : {None, "cpu"}

    Notes
    -----
    Between -100 and 100. Time: N^2 (D + D') multiplications in float32 and four passes over the
    pairs; in float64 half of that and two sorts. Memory: standardised copies of the features and,
    in float64 only, 40 bytes per pair.

    References
    ----------
    Dwivedi and Roig, "Representation Similarity Analysis for Efficient Task Taxonomy & Transfer
    Learning", CVPR 2019.
    """

    name = "rsa"
    upper_bound = 100.0
    reference_model = True
    needs = ("reference",)

    def __init__(self, labels, *, reference=None, max_samples=15000, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.max_samples = integer("max_samples", max_samples, 3)
        self.reference = reference_of(self, reference)
        n = self.labels.n
        if n < 3:
            raise InputError(f"rsa: needs at least 3 samples, got {n}")
        self._rows = None
        if n > self.max_samples:
            self._rows = np.linspace(0, n - 1, self.max_samples).round().astype(np.int64)
        self._reference_rows = None

    def evaluate(self, shared):
        """The score from one model's features and the reference's."""
        if self._reference_rows is None:
            self._reference_rows = correlation_rows(self.reference, self._rows)
        pair = correlation_rows(shared, self._rows), self._reference_rows
        if self.dtype == np.float64:
            return 100.0 * _spearman_sorted(*pair)
        return 100.0 * _spearman_counted(*pair)


def correlation_rows(shared, rows=None):
    """Rows whose inner products are the correlations of the samples' standardised features."""
    mean, inverse = standardisation(shared)
    out = np.empty((shared.n if rows is None else len(rows), shared.d), shared.dtype)
    for place, block in shared.blocks(rows):
        part = (block - mean) * inverse
        part -= part.mean(axis=1, keepdims=True)
        norms = np.sqrt(np.einsum("ij,ij->i", part, part))
        if not (norms > 0).all():
            raise InputError(
                "rsa: a sample has the same value in every standardised column, "
                "so its correlation with others is not defined"
            )
        out[place] = part / norms[:, None]
    return out


def _spearman_sorted(a, b):
    from scipy.stats import rankdata

    upper = np.triu_indices(len(a), 1)
    ranks = []
    for rows in (a, b):
        ranked = rankdata((rows @ rows.T)[upper])
        ranked -= ranked.mean()
        ranks.append(ranked)
    norm = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    if not norm > 0:
        raise InputError("rsa: all samples are equally similar, so there is nothing to rank")
    return float(ranks[0] @ ranks[1] / norm)


def _tiles(rows):
    """Intervals (int32) of the correlations, tile after tile on and above the diagonal."""
    n = len(rows)
    for start in range(0, n, _TILE):
        here = rows[start : start + _TILE]
        for other in range(start, n, _TILE):
            product = here @ rows[other : other + _TILE].T
            if other == start:
                product = product[np.triu_indices(len(here), 1)]
            # -1 .. 1 to 0 .. BINS - 1, with room for rounding beyond 1.
            product = (product.ravel() + product.dtype.type(1.0005)) * (_BINS / 2.001)
            yield np.clip(product, 0, _BINS - 1).astype(np.int32)


def _spearman_counted(a, b):
    ranks = []
    for rows in (a, b):
        counts = np.zeros(_BINS, np.int64)
        for interval in _tiles(rows):
            counts += np.bincount(interval, minlength=_BINS)
        middle = np.cumsum(counts) - (counts - 1) / 2.0  # mean rank of an interval's members
        pairs = counts.sum()
        middle -= (pairs + 1) / 2.0
        ranks.append((middle / pairs, float(counts @ (middle / pairs) ** 2)))
    (table_a, square_a), (table_b, square_b) = ranks
    if not (square_a > 0 and square_b > 0):
        raise InputError("rsa: all samples are equally similar, so there is nothing to rank")
    both = sum(float(table_a[i] @ table_b[j]) for i, j in zip(_tiles(a), _tiles(b), strict=True))
    return both / np.sqrt(square_a * square_b)
