"""How well a ranking agrees with the accuracies that fine-tuning really reached."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping

import numpy as np

from ._text import name_list, one_line, unique_keys
from .errors import InputError, InputTypeError

CONVENTIONS = ("scipy", "paper")


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
    "paper" takes O(M^2) time and memory, "scipy" O(M log M) time.

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
    scores, truth = _paired(scores, truth)
    if convention == "scipy":
        from scipy.stats import weightedtau  # takes a good part of a second to import

        return float(weightedtau(scores, truth).statistic)
    return _tau_of_eq1(scores, truth)


def _tau_of_eq1(scores, truth):
    _, inverse, counts = np.unique(-truth, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = ((last - counts + 1 + last) / 2.0)[inverse]  # 1 is the best; ties share the mean rank
    i, j = np.triu_indices(len(truth), k=1)
    weight = 1.0 / (rank[i] + rank[j])
    agreement = np.sign(truth[i] - truth[j]) * np.sign(scores[i] - scores[j])
    return float(np.sum(weight * agreement) / np.sum(weight))


def _paired(scores, truth):
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


def match_truth(models, truth, source="truth"):
    """The models of a ranking that have a true accuracy.

    Parameters
    ----------
    models : iterable of str
        The models that are ranked.
    truth : mapping {model: float}
        True accuracies.
    source : str
        What to call the table in messages, such as its file name.

    Returns
    -------
    matched, unmatched : list of str
        Models with and without an accuracy, in the order of `models`.

    Raises
    ------
    InputError
        If `truth` names a model that is not among `models`, or fewer than two of them.
    """
    models = list(models)
    foreign = [name for name in truth if name not in set(models)]
    if foreign:
        raise InputError(
            f"{source} names what is not among the models: {name_list(foreign)} "
            f"(they are {name_list(models)})"
        )
    matched = [name for name in models if name in truth]
    if len(matched) < 2:
        raise InputError(
            f"{source} has accuracies for {len(matched)} of the {len(models)} models; "
            "a rank correlation needs 2"
        )
    return matched, [name for name in models if name not in truth]


def read_table(path):
    """A JSON file that maps models to numbers.

    Parameters
    ----------
    path : path-like
        Either ``{model: number}``, or the object that ``lead-fast rank --json`` prints, of which
        the models with a score are taken.

    Returns
    -------
    dict {str: float}

    Raises
    ------
    InputError
        A file that cannot be read, is not JSON, is not such an object, names a model twice, or has
        a value that is not a finite number.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file, object_pairs_hook=unique_keys)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of which JSON and Unicode errors are kinds
        raise InputError(f"{path}: not usable JSON: {one_line(error)}") from error
    if isinstance(table, dict) and isinstance(table.get("scores"), list):
        table = _scores_of_ranking(table["scores"], path)
    if not isinstance(table, dict):
        raise InputError(f"{path}: must hold an object {{model: number}}, not {_json_type(table)}")
    return {model: _finite_number(value, path, model) for model, value in table.items()}


def _scores_of_ranking(rows, path):
    scores = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("model"), str) or "score" not in row:
            raise InputError(f'{path}: an entry of "scores" lacks "model" or "score"')
        if row["model"] in scores:
            raise InputError(f"{path}: names {row['model']} twice")
        scores[row["model"]] = row["score"]
    return {model: score for model, score in scores.items() if score is not None}


def _finite_number(value, path, model):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{path}: the value of {model} must be a number, not {_json_type(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{path}: the value of {model} must be a finite number")
    return number


def _json_type(value):
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")
