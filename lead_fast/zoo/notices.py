"""What is to be said about a ranking: each kind of warning once, with the models' names."""

from __future__ import annotations

import re

from .._text import name_list, printable
from ..errors import ConvergenceWarning, SaturationWarning, ScoreWarning

_SATURATED = 1e-12


# By name, as they are stored and sent from one process to another.
_KINDS = {kind.__name__: kind for kind in (ConvergenceWarning, SaturationWarning, ScoreWarning)}


class Notices:
    """The warnings of single models, collected, so that a ranking gives each kind once."""

    def __init__(self):
        self._by_kind = {}  # (category, text with its numbers blanked): [(model, text)]
        self._lines = []
        self.saturated = []  # models whose score was said to have reached its bound

    def of(self, model, caught):
        """Take what :func:`lead_fast._caller.catching` kept about `model`."""
        for name, text in caught:
            category = _KINDS[name]
            if issubclass(category, ConvergenceWarning):
                self.add(category, f"{printable(model)}: {text}")
            elif issubclass(category, SaturationWarning):
                self.saturated.append(model)  # said of the whole ranking by score_notices
            else:
                kind = category, re.sub(r"[0-9.]+", "#", text)
                self._by_kind.setdefault(kind, []).append((model, text))

    def add(self, category, text):
        """Add a line of its own."""
        self._lines.append((category, text))

    def lines(self):
        """Every ``(category, text)``; texts that differ in their numbers only become one."""
        for (category, _), found in self._by_kind.items():
            (first, text), others = found[0], [model for model, _ in found[1:]]
            if others:
                text += f"; likewise {name_list(others)}"
            yield category, f"{printable(first)}: {text}"
        yield from self._lines


def score_notices(scores, saturated=None):
    """What is to be said about the scores of a ranking as a whole.

    Parameters
    ----------
    scores : dict {model: score}
    saturated : list of str, optional
        Models whose scores have reached their bound; by default those with a score of 0.
    """
    if saturated is None:
        flat = [model for model, score in scores.items() if abs(score) < _SATURATED]
        near = f"within {_SATURATED:g} of 0"
    else:
        saturated = set(saturated)
        flat = [model for model in scores if model in saturated]
        near = "at their bound"
    same, apart = {}, scores.keys() - set(flat)
    for model, score in scores.items():
        if model in apart:
            same.setdefault(score, []).append(model)
    tied = [models for models in same.values() if len(models) > 1]
    if tied:
        groups = name_list([" = ".join(models) for models in tied])
        yield f"tied scores, the order among them means nothing: {groups}"
    if flat:
        yield f"saturated scores, {near} and too close to tell models apart: {name_list(flat)}"
