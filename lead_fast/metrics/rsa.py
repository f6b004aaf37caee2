"""RSA: representational similarity to the features of a reference model."""

import numpy as np

from ..errors import InputError
from ..options import integer
from ._base import Metric, warn_saturated
from ._linalg import namespace
from .dds import reference_beside, reference_of, standardisation

_BINS = 1 << 20  # of 2e-6, some ten float32 roundings of a correlation
# Correlations to intervals. 0, 1 and all multiples of 1/256 lie in the middle of theirs: values
# that are equal but for rounding, as those of copies of samples, stay together.
_SCALE, _MIDDLE = (_BINS >> 1) - 256, (_BINS >> 1) + 0.5
_DIGITS = 12  # of correlations in float64, whose last ones rounding decides
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
        In float64 all pairs are sorted, by twelve digits. In float32 they are ranked by counting
        in 2^20 intervals of the correlation, whose members rank as ties: as fine as float32
        resolves them.
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        No reference, or one of other samples; a sample without variation among its columns.

    Warns
    -----
    SaturationWarning
        The order of the similarities is the reference's own.

    Notes
    -----
    Between -100 and 100; a constant column counts as 0 in every sample, which is a share of the
    samples' own means and so of their correlations. Time: N^2 (D + D') multiplications
    in float32 and four passes over the pairs; in float64 half of that and two sorts. Memory:
    standardised copies of the features and, in float64 only, 60 bytes per pair.

    References
    ----------
    Dwivedi and Roig, "Representation Similarity Analysis for Efficient Task Taxonomy & Transfer
    Learning", CVPR 2019.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> task = rng.standard_normal((60, 8))
    >>> x = task @ rng.standard_normal((8, 20))
    >>> y = np.arange(60) % 3
    >>> noise = lead_fast.score(rng.standard_normal((60, 20)), y, "rsa", reference=task)
    >>> lead_fast.score(x, y, "rsa", reference=task) > 10 > noise
    True
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

    def evaluate(self, shared):
        """The score from one model's features and the reference's."""
        shared, reference = shared.by_column, reference_beside(shared, self.reference).by_column
        theirs = reference.once(
            ("correlation_rows", self.max_samples),
            lambda: correlation_rows(reference, self._rows),
        )
        pair = correlation_rows(shared, self._rows), theirs
        rank = _spearman_sorted if self.dtype == np.float64 else _spearman_counted
        score = 100.0 * float(rank(*pair))
        if score > 100.0 - 1e-4:
            warn_saturated("the score is saturated (100): the samples are as in the reference")
        return score


def correlation_rows(shared, rows=None):
    """Rows whose inner products are the correlations of the samples' standardised features."""
    mean, inverse = standardisation(shared)
    xp = shared.xp
    out = xp.empty((shared.n if rows is None else len(rows), shared.d), shared.dtype)
    for place, block in shared.blocks(rows):
        part = (block - mean) * inverse
        part -= part.mean(axis=1, keepdims=True)
        norms = xp.sqrt(xp.einsum("ij,ij->i", part, part))
        if not bool((norms > 0).all()):
            raise InputError(
                "rsa: a sample has the same value in every standardised column, "
                "so its correlation with others is not defined"
            )
        out[place] = part / norms[:, None]
    return out


def _spearman_sorted(a, b):
    xp = namespace(a)
    upper = xp.triu_indices(len(a), 1)
    ranks = [_centred_ranks(xp.around((rows @ rows.T)[upper], _DIGITS)) for rows in (a, b)]
    norm = float((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])) ** 0.5
    if not norm > 0:
        raise InputError("rsa: all samples are equally similar, so there is nothing to rank")
    return float(ranks[0] @ ranks[1]) / norm


def _centred_ranks(values):
    """Ranks less their mean, equal values with the mean of theirs."""
    xp = namespace(values)
    order = xp.argsort(values)
    values = values[order]
    first = xp.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    start = xp.flatnonzero(first)
    size = xp.diff(xp.append(start, len(values)))
    middle = start + 0.5 * (size - 1) - 0.5 * (len(values) - 1)
    ranks = xp.empty(len(values))
    ranks[order] = middle[xp.cumsum(first) - 1]
    return ranks


def _tiles(rows):
    """Intervals (int32) of the correlations, tile after tile on and above the diagonal."""
    xp, n = namespace(rows), len(rows)
    for start in range(0, n, _TILE):
        here = rows[start : start + _TILE]
        for other in range(start, n, _TILE):
            product = here @ rows[other : other + _TILE].T
            if other == start:
                product = product[xp.triu_indices(len(here), 1)]
            product = product.ravel() * _SCALE + product.dtype.type(_MIDDLE)
            yield xp.clip(product, 0, _BINS - 1).astype(np.int32)


def _spearman_counted(a, b):
    xp, ranks = namespace(a), []
    for rows in (a, b):
        counts = xp.zeros(_BINS, np.int64)
        for interval in _tiles(rows):
            counts += xp.bincount(interval, minlength=_BINS)
        middle = xp.cumsum(counts) - (counts - 1) / 2.0  # mean rank of an interval's members
        pairs = int(counts.sum())
        middle -= (pairs + 1) / 2.0
        ranks.append((middle / pairs, float(counts.astype(np.float64) @ (middle / pairs) ** 2)))
    (table_a, square_a), (table_b, square_b) = ranks
    if not (square_a > 0 and square_b > 0):
        raise InputError("rsa: all samples are equally similar, so there is nothing to rank")
    both = sum(float(table_a[i] @ table_b[j]) for i, j in zip(_tiles(a), _tiles(b), strict=True))
    return both / np.sqrt(square_a * square_b)
