"""SFDA: self-challenging Fisher discriminant analysis."""

import numpy as np

from ..errors import InputError
from ..options import flag
from ._base import Metric, warn, warn_saturated
from ._fisher import PIVOT, discriminant, first_analysis, scores, softmax
from ._linalg import mirror, outer_sum
from ._pca import project

_SATURATED = 1e-9


class SFDA(Metric):
    r"""Mean posterior of the labels after two regularised Fisher discriminant analyses.

    The first gives class posteriors :math:`p_i`; each sample is then mixed with the mean of the
    other classes' means by its soft-maxed confidence,

    .. math:: x'_i = q_i x_i + (1 - q_i) \bar{m}_{-y_i}, \quad
              q_i = \mathrm{softmax}(p_i)_{y_i}

    and the score is the mean of :math:`p(y_i | x'_i)` of a second analysis, of the mixed samples.
    Both put :math:`(1 - \rho) S + \rho \, \mathrm{tr}(S) / D \, I` in place of their mean
    within-class scatter S, with the same shrinkage :math:`\rho = \max(e^{-5 \sigma}, 10^{-10})`,
    :math:`\sigma` the largest eigenvalue of the first one's.

    Parameters
    ----------
    labels : array-like (N,)
    log : bool
        Mean of the logarithm of the posteriors, as in the paper (at most 0); the public code takes
        none (between 0 and 1).
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        No class with two different samples: there is no scatter within classes.

    Warns
    -----
    ScoreWarning
        Fewer samples than features: classes can be separated whatever the labels.
    SaturationWarning
        The score has reached its bound.

    Notes
    -----
    The public code solves two generalised eigenproblems of size D and keeps every eigenvector; the
    discriminant is then that of the inverse scatter itself, so two Cholesky factors give the same
    score. sigma comes from three double power steps, as there.

    Time: 2 N D^2 for the two scatters, 2/3 D^3, and 4 N D K. Memory: three D x D in float64. Where
    float32 would lose digits, features nearly being combinations of others (always so for
    N < D + K), the scatters are formed in float64. A class of one sample counts in the means and
    priors; a constant feature is regularised away.

    References
    ----------
    Shao, Zhao, Ge, Zhang, Yang, Wang, Shan, Luo, "Not All Models Are Equal: Predicting Model
    Transferability in a Self-challenging Fisher Space", ECCV 2022, Eqs. 3-9.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + 4 * np.eye(3, 8)[y]
    >>> 0.3 < lead_fast.score(x, y, "sfda") < 1.0
    True
    """

    name = "sfda"

    def __init__(self, labels, *, log=False, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.log = flag("log", log)
        self.upper_bound = 0.0 if self.log else 1.0

    def evaluate(self, shared):
        """The score from one model's features."""
        if shared.n < shared.d + shared.k:
            warn(
                f"{shared.n} samples of {shared.k} classes with {shared.d} features: "
                "any labels can be separated, so the score may not discriminate"
            )
        p = label_posteriors(shared)
        score = float((shared.xp.log(p) if self.log else p).mean())
        if self.upper_bound - score < _SATURATED:
            warn_saturated(
                f"the score is saturated ({score:.12g}, the most is {self.upper_bound:g}): the "
                "classes are separated without error; use more samples or fewer features"
            )
        return score


def linear_scores(source, weights, constant):
    """Scores (N, K) of the centred features, in float64."""
    out = project(source, weights)
    out += constant
    return out


def label_posteriors(shared):
    """Posterior of each sample's label after the second analysis, (N,) float64."""
    weights, shrinkage, source = first_analysis(shared)
    centred = source.class_means - source.mean
    rows, codes, k = source.xp.arange(source.n), source.codes, source.k
    p = softmax(linear_scores(source, weights, scores(weights, centred, source.counts)))
    q = softmax(p)[rows, codes]
    others = (centred.sum(axis=0) - centred) / (k - 1)
    while True:
        mixed = _Mixed(source, q, others)
        weights, pivot = discriminant(mixed.within(), mixed.means, shrinkage)
        if weights is not None and (pivot > PIVOT or source.dtype == np.float64):
            break
        if source.dtype == np.float64:
            raise InputError(
                "sfda: the mixed samples do not vary within any class; rescale the features"
            )
        source = shared.refined
    s = linear_scores(source, weights, 0.0)
    s *= q[:, None]
    s += ((1.0 - q)[:, None] * (others @ weights)[codes]) + scores(
        weights, mixed.means, source.counts
    )
    return softmax(s)[rows, codes]


class _Mixed:
    """Class means and scatter of the mixed samples ``q x + (1 - q) others[y]``, x centred."""

    def __init__(self, source, q, others):
        self.source, self.q, self.others = source, q, others
        xp, codes = source.xp, source.codes
        sums = xp.zeros((source.k, source.d))
        mean = source.mean.astype(source.dtype)
        for place, block in source.blocks():
            hot = xp.zeros((source.k, len(block)), source.dtype)
            hot[codes[place], xp.arange(len(block))] = q[place]
            sums += hot @ (block - mean)
        mass = xp.bincount(codes, weights=q, minlength=source.k)
        counts = source.counts[:, None]
        self.means = sums / counts + (1.0 - mass[:, None] / counts) * others

    def within(self):
        """Mean within-class scatter, (D, D) float64."""
        source, dtype, total = self.source, self.source.dtype, None
        centre = (source.mean + self.others).astype(dtype)
        residual = (self.means - self.others).astype(dtype)
        for place, block in source.blocks():
            codes = source.codes[place]
            rows = block - centre[codes]
            rows *= self.q[place, None].astype(dtype)
            rows -= residual[codes]
            total = outer_sum(rows, total)
        total = mirror(total) if source.xp is np else total
        total /= source.n
        return total
