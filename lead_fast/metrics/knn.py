"""Leave-one-out accuracy of the nearest neighbours."""

import numpy as np

from ..options import choice, integer
from ._base import Metric, warn_saturated
from ._neighbours import centre, nearest_rows

_TILE = 2048


class KNN(Metric):
    r"""Share of the samples whose nearest neighbours among the others have their label.

    Parameters
    ----------
    labels : array-like (N,)
    k : int
        Neighbours that vote, each with one vote; of classes with equal votes the one with the
        nearest neighbour wins.
    distance : {"euclidean", "cosine"}
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Warns
    -----
    SaturationWarning
        Every sample was right.

    Notes
    -----
    Between 0 and 1; a class of one sample is always wrong. Equal distances go to the sample that
    comes first: always where sums of the features' products are exact, as of integers of moderate
    size, booleans and other numbers of a few bits; elsewhere rounding decides which of two is less,
    and of cosines always. Constant columns change nothing. Time: N^2 D / 2 multiplications, in
    tiles on and above the diagonal. Memory: a copy of the features, two tiles of 2048 x 2048, and
    2 N k.

    References
    ----------
    arXiv 2503.18528, which finds no transferability metric better; the leave-one-out form is that
    of Bolya, Mittapalli, Hoffman, "Scalable Diverse Model Selection for Accessible Transfer
    Learning", NeurIPS 2021.

    Examples
    --------
    >>> import lead_fast
    >>> lead_fast.score([[0.0], [0.1], [1.0], [1.1], [0.25]], [0, 0, 1, 1, 1], "knn")
    0.8
    """

    name = "knn"
    upper_bound = 1.0

    def __init__(self, labels, *, k=1, distance="euclidean", dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.k = integer("k", k, 1, self.labels.n - 1)
        self.distance = choice("distance", distance, ("euclidean", "cosine"))

    def evaluate(self, shared):
        """The score from one model's features."""
        xp = shared.xp
        neighbours = (nearest if shared.native else nearest_rows)(shared, self.k, self.distance)
        votes = shared.codes[neighbours]
        if self.k == 1:
            predicted = votes[:, 0]
        else:
            equal = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
            predicted = votes[xp.arange(shared.n), equal.argmax(axis=1)]  # first: nearest
        score = float((predicted == shared.codes).mean())
        if score == 1.0:
            warn_saturated("the score is saturated (1, the most there is): every sample is right")
        return score


def nearest(shared, k, distance):
    """The k nearest other samples of each, nearest first, (N, k) int64."""
    n = shared.n
    origin = centre(shared) if distance == "euclidean" else 0
    x = np.empty((n, shared.d), shared.dtype)
    for place, block in shared.blocks():
        np.subtract(block, origin, out=x[place])
    norms = np.einsum("ij,ij->i", x, x)
    if distance == "cosine":
        x /= np.sqrt(np.maximum(norms, np.finfo(x.dtype).tiny))[:, None]
        half = np.zeros(n, x.dtype)
    else:
        half = norms / 2
    # The nearest has the largest x_i . x_j - |x_j|^2 / 2: each row's own norm does not matter.
    best = _Best(n, k, x.dtype)
    for start in range(0, n, _TILE):
        rows = slice(start, min(start + _TILE, n))
        for other in range(start, n, _TILE):
            columns = slice(other, min(other + _TILE, n))
            product = x[rows] @ x[columns].T
            if other == start:
                np.fill_diagonal(product, -np.inf)
            else:
                best.add(columns, start, (product - half[rows, None]).T)
            product -= half[columns]
            best.add(rows, other, product)
    return best.place


class _Best:
    """The k largest values of each row seen so far, largest first, and where they were."""

    def __init__(self, n, k, dtype):
        self.value = np.full((n, k), -np.inf, dtype)
        self.place = np.full((n, k), np.iinfo(np.int64).max)

    def add(self, rows, first, values):
        """Take in ``values`` (B, C) of these rows; their columns are numbered from `first`."""
        b, k = len(values), self.value.shape[1]
        if k == 1:
            found = values.argmax(axis=1)[:, None]
        elif values.shape[1] > k:
            found = _largest(values, k)
        else:
            found = np.broadcast_to(np.arange(values.shape[1]), values.shape)
        value = np.concatenate([self.value[rows], np.take_along_axis(values, found, 1)], axis=1)
        place = np.concatenate([self.place[rows], found + first], axis=1)
        # Largest value first; among equals, the sample that comes first.
        order = np.lexsort((place, -value), axis=1)[:, :k]
        lines = np.arange(b)[:, None]
        self.value[rows], self.place[rows] = value[lines, order], place[lines, order]


def _largest(values, k):
    """Columns of the k largest values of each row, (B, k); among equals the first columns."""
    least = np.partition(values, -k, axis=1)[:, -k, None]
    above, equal = values > least, values == least
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), k)
