"""Score the models of a zoo one after another; one that fails does not stop the others."""

from __future__ import annotations

import math
import os
import re
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np

from .._text import name_list, one_line
from ..errors import (
    ConvergenceWarning,
    InputError,
    LeadFastError,
    SaturationWarning,
    ScoreWarning,
)
from .read import open_zoo, read_labels
from .report import Ranking

_SATURATED = 1e-12
# Made-up labels for checking options: more than any zoo here has, as options may be limited by N.
_PROBE = 1 << 17


def rank(zoo, labels=None, metric="lead", *, device=None, dataset=None, progress=None, **options):
    """Score every model of a zoo and rank them.

    Parameters
    ----------
    zoo : path-like or mapping {name: features}
        A directory of feature files, or features (N, D) by model name. Such a directory holds, per
        model, any of ``MODEL.npz`` or ``MODEL.safetensors`` with arrays ``features`` and
        ``labels``; ``MODEL_DATASET_feature.npy`` beside ``MODEL_DATASET_label.npy``;
        ``MODEL/features.npy`` beside ``MODEL/targets.npy``. A ``labels.npy`` in it serves the
        models that have no labels. ``.npy`` and ``.safetensors`` files are memory-mapped; pickles
        are never opened.
    labels : array_like of shape (N,), or path-like, optional
        Labels for every model, in place of those in the zoo. Needed with a mapping.
    metric : str, default "lead"
        One of :func:`lead_fast.metrics.names`.
    device : str, optional
        Where to compute; by default where the features are.
    dataset : str, optional
        Which data set's ``MODEL_DATASET_feature.npy`` to take, where a directory has several.
    progress : bool, optional
        Whether to show a progress bar on stderr; by default if that is a terminal.
    **options
        Options of the metric, see :func:`lead_fast.lead`.

    Returns
    -------
    Ranking
        Models best first. A model that could not be read or scored is last, with its error.

    Raises
    ------
    InputError, InputTypeError, DeviceError
        The zoo holds no model, two of one name or several data sets; `labels` cannot be used; the
        metric, the device or an option does not exist. All before the first model is scored.

    Warns
    -----
    ScoreWarning
        Scores that tie or are saturated, models with fewer samples than features.
    ConvergenceWarning
        A solver stopped early, with the model's name.

    Notes
    -----
    Models are read and scored one at a time, so that one of them is in memory. Work that depends on
    the labels alone is done once for models with equal labels.

    Examples
    --------
    >>> import numpy as np
    >>> import lead_fast
    >>> labels = np.arange(90) % 3
    >>> noise = np.random.default_rng(0).standard_normal((90, 16))
    >>> zoo = {"noise": noise, "signal": noise + 3 * np.eye(3, 16)[labels]}
    >>> lead_fast.rank(zoo, labels).best
    'signal'
    """
    if labels is None and isinstance(zoo, Mapping):
        raise InputError("no labels: give them beside a dictionary of features")
    zoo = open_zoo(zoo, dataset)
    if isinstance(labels, str | os.PathLike):
        labels = read_labels(labels)
    return rank_models(zoo, labels, metric, device=device, progress=progress, **options)


def rank_models(zoo, labels, metric, *, device, progress, **options):
    """As :func:`rank`, for a zoo that is open and labels that are an array or None."""
    from ..scorer import Scorer  # loads the native core

    scorers = _ScorerPerLabels(
        lambda labels: Scorer(labels, metric=metric, device=device, **options)
    )
    # A wrong metric, option or device is the caller's error and not that of every model, so it is
    # provoked here, on the labels that were given or on some that suit every metric.
    probe = scorers(np.arange(_PROBE) % 2 if labels is None else labels)

    outcomes, noticed = [], _Notices()
    with _progress_bar(zoo.names, progress) as names:
        for model, name in zip(zoo.models, names, strict=True):
            started = time.perf_counter()
            score, error = None, None
            try:
                with noticed.of(name):
                    score = _score_of(model, labels, scorers)
            except Exception as failure:
                error = _describe(failure)
            outcomes.append((name, score, time.perf_counter() - started, error))

    ranking = Ranking(outcomes, metric, probe.device)
    if labels is None and scorers.made > 2:  # the probe's, and one for all models
        noticed.add(
            ScoreWarning,
            "the models have different labels (or an order of samples of their own): "
            "their scores are not comparable",
        )
    stray = [path.name for path in zoo.stray]
    if stray:
        noticed.add(UserWarning, f"ignored, of no known layout: {name_list(stray)}")
    for text in _score_notices(ranking.scores):
        noticed.add(ScoreWarning, text)
    for category, text in noticed.lines():
        ranking.warnings.append(text)
        warnings.warn(text, category, stacklevel=3)
    return ranking


class _ScorerPerLabels:
    """The scorer for given labels; the previous one again while the labels stay equal."""

    def __init__(self, make):
        self._make = make
        self._labels = None
        self._scorer = None
        self.made = 0

    def __call__(self, labels):
        if self._scorer is None or (
            labels is not self._labels and not np.array_equal(labels, self._labels)
        ):
            self._scorer = None  # one at a time, as it may hold heads
            self._scorer = self._make(labels)
            self._labels = labels
            self.made += 1
        return self._scorer


def _score_of(model, labels, scorers):
    features = model.read_features()
    scorer = scorers(model.read_labels() if labels is None else labels)
    score = float(scorer(features))
    if not math.isfinite(score):
        raise InputError(f"the score is {score}, so it cannot be ranked")
    return score


def _describe(failure):
    """What failed, on one line; with its type where the message was not written by this package."""
    if isinstance(failure, LeadFastError):
        return one_line(failure)
    if isinstance(failure, MemoryError):
        return "out of memory" if not str(failure) else f"out of memory: {one_line(failure)}"
    return f"{type(failure).__name__}: {one_line(failure)}"


@contextmanager
def _progress_bar(names, progress):
    """An iterable over `names`, with a bar on stderr if `progress` says so."""
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        yield names
        return
    from tqdm import tqdm

    with tqdm(names, unit="model", file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield bar


# Warnings: one line each for the whole ranking


class _Notices:
    """The warnings of single models, collected, so that a ranking gives each kind once."""

    def __init__(self):
        self._by_kind = {}  # (category, text with its numbers blanked): [(model, text)]
        self._lines = []

    @contextmanager
    def of(self, model):
        """Keep this package's warnings about `model`; pass all others on."""
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
        finally:
            for warning in caught:
                text = one_line(warning.message)
                if issubclass(warning.category, ConvergenceWarning):
                    self.add(warning.category, f"{model}: {text}")
                elif issubclass(warning.category, SaturationWarning):
                    pass  # said of the whole ranking by _score_notices
                elif issubclass(warning.category, ScoreWarning):
                    kind = warning.category, re.sub(r"[0-9.]+", "#", text)
                    self._by_kind.setdefault(kind, []).append((model, text))
                else:
                    warnings.warn_explicit(
                        warning.message, warning.category, warning.filename, warning.lineno
                    )

    def add(self, category, text):
        self._lines.append((category, text))

    def lines(self):
        """Every ``(category, text)``; texts that differ in their numbers only become one."""
        for (category, _), found in self._by_kind.items():
            (first, text), others = found[0], [model for model, _ in found[1:]]
            if others:
                text += f"; likewise {name_list(others)}"
            yield category, f"{first}: {text}"
        yield from self._lines


def _score_notices(scores):
    """What is to be said about the scores of a ranking as a whole."""
    flat = [model for model, score in scores.items() if abs(score) < _SATURATED]
    same = {}
    for model, score in scores.items():
        if model not in flat:
            same.setdefault(score, []).append(model)
    tied = [models for models in same.values() if len(models) > 1]
    if tied:
        groups = name_list([" = ".join(models) for models in tied])
        yield f"tied scores, the order among them means nothing: {groups}"
    if flat:
        yield (
            f"saturated scores, within {_SATURATED:g} of 0 and too close to tell models apart: "
            f"{name_list(flat)}"
        )
