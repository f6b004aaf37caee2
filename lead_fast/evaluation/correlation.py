"""How well a ranking agrees with the accuracies that fine-tuning really reached."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .._text import name_list
from ..errors import InputError, InputTypeError
from ..options import integer

CONVENTIONS = ("scipy", "paper")
_MOST_PAIRS = 1 << 20  # of models, that Eq. (1) has in memory at a time


def weighted_tau(scores, truth, convention="scipy"):
    r"""Weighted Kendall tau between transferability scores and true accuracies.

    Two conventions are in use, and they give different numbers for the same ranking, so a tau is
    only comparable with others of its own convention.

    ``"scipy"``
        :func:`scipy.stats.weightedtau` with its defaults: additive hyperbolic weights, the mean of
        the tau with ranks by score and the tau with ranks by truth. The published code of SFDA,
        PED and ETran reports this one.
    ``"paper"``
        Eq. (1) of the LEAD paper,

        .. math:: \tau_w = \sum_{i<j} w_{ij}\,\mathrm{sgn}(G_i - G_j)\,\mathrm{sgn}(S_i - S_j)
                  \Big/ \sum_{i<j} w_{ij}, \qquad w_{ij} = \frac{1}{i + j},

        where i and j are the ranks of the two models by truth G, from 1 for the best. Models of
        equal truth share the mean of their ranks, so that the order in which the models are given
        never matters. A pair that is tied in the scores or in the truth adds 0 to the numerator
        and its weight to the denominator.

    Parameters
    ----------
    scores, truth : array_like of shape (M,), or dict {model: float}
        Scores and accuracies of M >= 2 models, higher is better in both; any unit. Either two
        sequences in the same order or two dictionaries over the same models.
    convention : {"scipy", "paper"}, default "scipy"
        Which of the two to compute.

    Returns
    -------
    float
        Between -1 (reversed) and 1 (the same order). If all scores, or all accuracies, are equal
        there is no order to compare: "paper" is then 0 and "scipy" is NaN, as in SciPy. Under
        "paper" ties keep the value from reaching 1; under "scipy" ties in the same places do not.

    Raises
    ------
    InputError
        Fewer than two models, a value that is not finite, unequal lengths, models that are named
        in one dictionary and not in the other, or an unknown convention.
    InputTypeError
        Values that are not numbers, or a dictionary beside a sequence.

    Notes
    -----
    "paper" takes O(M^2) time, "scipy" O(M log M).

    References
    ----------
    S. Vigna, "A weighted correlation index for rankings with ties", WWW 2015.

    Examples
    --------
    >>> import lead_fast
    >>> lead_fast.weighted_tau([0.9, 0.7, 0.2], [81.0, 86.5, 70.2], convention="paper")
    0.148936170212766
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"unknown convention {convention!r} of weighted tau; there are: "
            f"{', '.join(CONVENTIONS)}"
        )
    scores, truth = paired(scores, truth)
    if convention == "scipy":
        from scipy.stats import weightedtau  # takes a good part of a second to import

        return float(weightedtau(scores, truth).statistic)
    return tau_of_eq1(scores, truth)


def tau_of_eq1(scores, truth, model=None):
    """Eq. (1); with the model that each entry is, pairs of one and the same model are left out."""
    _, inverse, counts = np.unique(-truth, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = ((last - counts + 1 + last) / 2.0)[inverse]  # 1 is the best; ties share the mean rank
    count = len(truth)
    rows = max(1, _MOST_PAIRS // count)
    above = below = 0.0
    for first in range(0, count, rows):
        i, j = np.triu_indices(min(rows, count - first), first + 1, count)
        i += first
        weight = 1.0 / (rank[i] + rank[j])
        agreement = np.sign(truth[i] - truth[j]) * np.sign(scores[i] - scores[j])
        if model is not None:
            weight = weight * (model[i] != model[j])
        above += np.sum(weight * agreement)
        below += np.sum(weight)
    return float(above / below)


def paired(scores, truth):
    """Both sides as float64 vectors over the same models."""
    if isinstance(scores, Mapping) != isinstance(truth, Mapping):
        raise InputTypeError(
            "scores and truth must be both dictionaries or both sequences, "
            f"not {type(scores).__name__} and {type(truth).__name__}"
        )
    if isinstance(scores, Mapping):
        for have, lack, what in ((scores, truth, "truth"), (truth, scores, "scores")):
            missing = [name for name in have if name not in lack]
            if missing:
                raise InputError(f"no value in {what} for {name_list(missing)}")
        names = list(scores)
        scores = [scores[name] for name in names]
        truth = [truth[name] for name in names]
    scores, truth = _vector(scores, "scores"), _vector(truth, "truth")
    if len(scores) != len(truth):
        raise InputError(f"{len(scores)} scores but {len(truth)} values in truth")
    if len(scores) < 2:
        raise InputError(f"a rank correlation needs at least 2 models, not {len(scores)}")
    return scores, truth


def _vector(values, what):
    try:
        vector = np.asarray(values)
    except ValueError as error:  # ragged nesting
        raise InputTypeError(f"{what} must be a sequence of numbers") from error
    if vector.size and vector.dtype.kind not in "iuf":
        raise InputTypeError(f"{what} must be real numbers, not {vector.dtype}")
    if vector.ndim != 1:
        raise InputError(f"{what} must be one number per model, not of shape {vector.shape}")
    vector = vector.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise InputError(f"{what} must be finite; number {bad[0]} is {vector[bad[0]]}")
    return vector


def kendall(scores, truth):
    """Kendall tau-b between scores and true accuracies.

    Parameters
    ----------
    scores, truth : array_like of shape (M,), or dict {model: float}
        As for :func:`weighted_tau`.

    Returns
    -------
    float
        Between -1 and 1. A pair that is tied on one side counts for neither order and shrinks the
        denominator of that side; NaN if all scores, or all accuracies, are equal.

    Raises
    ------
    InputError, InputTypeError
        As for :func:`weighted_tau`.

    Notes
    -----
    O(M log M) time.

    References
    ----------
    M. Kendall, "The treatment of ties in ranking problems", Biometrika 1945.

    Examples
    --------
    >>> from lead_fast.evaluation import kendall
    >>> round(kendall([0.9, 0.7, 0.2], [81.0, 86.5, 70.2]), 4)
    0.3333
    """
    scores, truth = paired(scores, truth)
    return kendall_of(scores, truth)


def kendall_of(scores, truth):
    """Tau-b of vectors."""
    from scipy.stats import kendalltau

    return float(kendalltau(scores, truth).statistic)


def pearson(scores, truth):
    """Pearson correlation between scores and true accuracies.

    Parameters
    ----------
    scores, truth : array_like of shape (M,), or dict {model: float}
        As for :func:`weighted_tau`.

    Returns
    -------
    float
        Between -1 and 1; NaN if all scores, or all accuracies, are equal. It compares values, not
        ranks, so ties are nothing special and one outlier can decide it.

    Raises
    ------
    InputError, InputTypeError
        As for :func:`weighted_tau`.

    Examples
    --------
    >>> from lead_fast.evaluation import pearson
    >>> round(pearson([0.0, 1.0, 2.0], [70.0, 80.0, 90.0]), 12)
    1.0
    """
    return pearson_of(*paired(scores, truth))


def pearson_of(scores, truth):
    """Pearson correlation of vectors."""
    sides = []
    for values in (scores, truth):
        if values.max() == values.min():
            return math.nan
        largest = np.abs(values).max()
        centred = values / largest - np.mean(values / largest)
        sides.append(centred / np.linalg.norm(centred))
    return float(np.clip(sides[0] @ sides[1], -1.0, 1.0))


def top_k_regret(scores, truth, k=1):
    r"""Accuracy that is lost by fine-tuning the k best-scored models only.

    Parameters
    ----------
    scores, truth : array_like of shape (M,), or dict {model: float}
        As for :func:`weighted_tau`.
    k : int
        Between 1 and M.

    Returns
    -------
    float
        The best accuracy of all minus the best among the k models of highest score, in the unit of
        `truth`; 0 if the best model is among them. Where scores tie at the border of the k, the
        mean over all ways to choose among the tied models, exactly.

    Raises
    ------
    InputError, InputTypeError
        As for :func:`weighted_tau`; a `k` that is no number of models.

    Examples
    --------
    >>> from lead_fast.evaluation import top_k_regret
    >>> top_k_regret([0.9, 0.7, 0.2], [81.0, 86.5, 70.2]), top_k_regret([1, 1, 0], [4.0, 8.0, 9.0])
    (5.5, 3.0)
    """
    scores, truth = paired(scores, truth)
    return regret(scores, truth, integer("k", k, 1, len(scores)))


def regret(scores, truth, k):
    """The definition of :func:`top_k_regret`, without its checks."""
    border = np.partition(scores, -k)[-k]
    sure = truth[scores > border]
    tied = np.sort(truth[scores == border])[::-1]
    best = sure.max(initial=-math.inf)
    free = k - len(sure)
    ways = math.comb(len(tied), free)
    # The best of the chosen tied models is the j-th if the others come from those after it.
    mean = sum(
        math.comb(len(tied) - 1 - j, free - 1) / ways * max(best, value)
        for j, value in enumerate(tied.tolist()[: len(tied) - free + 1])
    )
    return max(float(truth.max() - mean), 0.0)
