"""TransRate: the coding rate of the features less that of the classes."""

import numpy as np

from .. import backend
from ..errors import InputError
from ..options import flag, real
from ._base import Metric, warn
from ._linalg import (
    SAFE_PIVOT,
    SAFE_PIVOT_WIDE,
    add_outer,
    add_to_diagonal,
    log_determinant,
    outer_sum,
    plus_outer_narrow,
)

_IN_TURN = 2.0  # threads per class from which on all work on one class


class TransRate(Metric):
    r"""Mutual information of features and labels, by coding rates at distortion eps.

    .. math:: R(Z) - \frac{1}{K} \sum_c R(Z_c), \quad
              R(Z) = \frac{1}{2} \log\left|I + \frac{1}{n \epsilon} Z^T Z\right|

    with Z the features less their mean, and :math:`Z_c` the n rows of class c.

    Parameters
    ----------
    labels : array-like (N,)
    eps : float
        Distortion; 1e-4 as in the Transfer-Learning-Library.
    weighted : bool
        Weight the classes by their share of the samples, as the paper does; by default each counts
        the same, as in the public code. The two agree for classes of one size.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        Features so large that eps is lost in the rounding of float64.

    Warns
    -----
    ScoreWarning
        Classes of fewer samples than features on average: their rate then grows with their size.

    Notes
    -----
    Depends on the scale of the features. Time: N D^2 / 2 multiplications for the classes, whose
    sum is the scatter of all, and (K + 1) D^3 / 6; classes of far fewer than D samples take n^2 D
    and n^3 in place of D^2 n and D^3, besides N D^2. Memory: three D x D in float64. A class of one
    sample and constant columns are nothing special.

    References
    ----------
    Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022, Eq. 5 and 6.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> noise = lead_fast.score(x, y, "transrate")
    >>> lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "transrate") > noise
    True
    """

    name = "transrate"
    order = -1  # the scatter of all samples comes with those of the classes

    def __init__(self, labels, *, eps=1e-4, weighted=False, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.eps = real("eps", eps, positive=True)
        if not self.eps * self.labels.n < np.inf:
            raise InputError(f"eps: so large that it overflows with the samples, got {self.eps:g}")
        self.weighted = flag("weighted", weighted)

    def evaluate(self, shared):
        """The score from one model's features."""
        if shared.n < shared.d * shared.k:
            warn(
                f"{shared.n / shared.k:.0f} samples per class for {shared.d} features: "
                "the classes' rates are limited by their sizes, so the score may not discriminate"
            )
        if shared.n * self.eps > float(np.finfo(shared.dtype).max):
            shared = shared.refined
        # Gram matrices of fewer samples than features are smaller the other way round; the scatter
        # of all is needed anyway, so that those of the classes come for half the price.
        square = shared.n > 0.75 * shared.d * shared.k
        if not shared.native or backend.threads() <= _IN_TURN * shared.k:
            rates = self._rates_by_class(shared, square)
        else:
            rates = self._rates_in_turn(shared, square)
        whole = self._rate_of_all(shared)
        counts = shared.counts_on_host
        weights = counts / shared.n if self.weighted else np.full(shared.k, 1.0 / shared.k)
        return whole - float(weights @ rates)

    def _rates_by_class(self, shared, square):
        """Rates of the classes (K,), one class per thread."""
        counts = shared.counts_on_host
        scale = counts * self.eps
        size = np.full(shared.k, shared.d) if square else np.minimum(counts, shared.d)
        found, pivots = shared.class_log_determinants(scale, square)
        rates = 0.5 * (found - size * np.log(scale))
        safe = SAFE_PIVOT if shared.dtype == np.float32 else SAFE_PIVOT_WIDE
        for c in np.flatnonzero(~(pivots > safe)):
            rates[c] = self._refined_class_rate(shared, c)
        return rates

    def _rates_in_turn(self, shared, square):
        """The same, one class after the other, each on all threads."""
        rates, counts = np.empty(shared.k), shared.counts_on_host
        narrow = shared.dtype == np.float32
        for c, gram in self._grams_about_the_mean(shared, square):
            found = self._from_gram(gram, counts[c], narrow)
            rates[c] = self._refined_class_rate(shared, c) if found is None else found
        return rates

    def _grams_about_the_mean(self, shared, square):
        """Pairs of a class and its scatter about the mean of all, the caller's to change."""
        if square:
            for c, scatter in shared.class_scatters():
                offset = (shared.class_means[c] - shared.mean) * np.sqrt(shared.counts[c])
                yield c, add_outer(scatter, offset)
        else:
            for c, rows in enumerate(shared.labels.rows_by_class()):
                yield c, _class_gram(shared, rows)

    def _refined_class_rate(self, shared, c):
        """The rate of a class from float64 products."""
        count = shared.counts_on_host[c]
        scale = np.array([count * self.eps], dtype=np.float64)
        found, pivots = shared.refined.class_log_determinants(scale, False, [c])
        if not pivots[0] > SAFE_PIVOT_WIDE:
            raise _too_large(self.eps)
        return 0.5 * (found[0] - min(count, shared.d) * np.log(scale[0]))

    def _rate_of_all(self, shared):
        if shared.n <= shared.d:
            return self._rate(_centred_gram, shared)
        if shared.dtype == np.float32:
            matrix = plus_outer_narrow(shared.within_upper, shared.class_spread)
            found = self._from_gram(matrix, shared.n, True)
            if found is not None:
                return found
        return self._rate(_total, shared.refined)

    def _rate(self, make, shared):
        """The rate of all samples from what `make` makes, in float64 if float32 is too coarse."""
        narrow = shared.dtype == np.float32
        found = self._from_gram(make(shared), shared.n, narrow)
        if found is None and narrow:
            found = self._from_gram(make(shared.refined), shared.n, False)
        if found is None:
            raise _too_large(self.eps)
        return found

    def _from_gram(self, gram, n, narrow):
        """Half the log-determinant of I + gram / (n eps), or None if its precision is too coarse.

        `gram` is overwritten; only its upper triangle counts.
        """
        # |I + gram / (n eps)| = |gram + n eps I| / (n eps)^D
        scale = n * self.eps
        add_to_diagonal(gram, gram.dtype.type(scale))
        found = log_determinant(gram, narrow)
        return None if found is None else 0.5 * (found - len(gram) * np.log(scale))


def _too_large(eps):
    return InputError(
        f"transrate: the features are too large for eps = {eps:g}, of which rounding leaves "
        "nothing; scale them down or set eps higher"
    )


def _class_gram(shared, rows):
    """Scatter of a class about the mean of all, (D, D) or (n, n), whichever is smaller."""
    mean = shared.mean.astype(shared.dtype)
    if len(rows) > shared.d:
        gram = None
        for _, block in shared.blocks(rows):
            gram = outer_sum(block - mean, gram)
        return gram
    centred = np.empty((len(rows), shared.d), shared.dtype)
    for place, block in shared.blocks(rows):
        np.subtract(block, mean, out=centred[place])
    return outer_sum(np.ascontiguousarray(centred.T))


def _total(shared):
    return shared.xp.array(shared.total, order="F")


def _centred_gram(shared):
    """Inner products of the samples less their mean, (N, N)."""
    # Before the product: a mean far from 0 would take all of float32's digits.
    centred = shared.x - shared.mean.astype(shared.dtype)
    return (centred @ centred.T).T  # symmetric: the same in Fortran order
