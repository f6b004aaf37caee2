"""Tables of scores and accuracies: which models they share, and how they are read from a file."""

from __future__ import annotations

import json
import math
import numbers
import os

from .._text import name_list, one_line, unique_keys
from ..errors import InputError


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
    known = set(models)
    foreign = [name for name in truth if name not in known]
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
        with open(path, encoding="utf-8-sig") as file:  # editors of Windows put the mark first
            table = json.load(file, object_pairs_hook=unique_keys)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of which JSON and Unicode errors are kinds
        raise InputError(f"{path}: not usable JSON: {one_line(error)}") from error
    if isinstance(table, dict) and isinstance(table.get("scores"), list):
        table = _scores_of_ranking(table["scores"], path)
    elif isinstance(table, dict) and isinstance(table.get("metrics"), list):
        raise InputError(f"{path}: has the scores of several metrics; rank by one of them alone")
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
