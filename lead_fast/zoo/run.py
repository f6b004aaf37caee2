"""Score the models of a zoo one after another; one that fails does not stop the others."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np

from .. import metrics
from .._text import name_list, one_line
from ..errors import DeviceMemoryError, InputError, LeadFastError, ScoreWarning
from ..metrics import _several
from .inputs import Inputs, computable
from .notices import Notices, score_notices
from .read import open_zoo, read_labels
from .report import Ranking, Rankings

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
    metric : str or list of str, default "lead"
        One of :func:`lead_fast.metrics.names`, several of them, or ``"all"``: those that can be
        computed from what is given and what the zoo holds.
    device : str, optional
        Where to compute; by default where the features are.
    dataset : str, optional
        Which data set's ``MODEL_DATASET_feature.npy`` to take, where a directory has several.
    progress : bool, optional
        Whether to show a progress bar on stderr; by default if that is a terminal.
    **options
        Options of the metric, see :func:`lead_fast.lead`; of several, each takes those that it
        has. What differs from model to model is a dictionary ``{model: array}``, or comes from the
        zoo: ``source`` (of leep and nce) from ``MODEL_DATASET_output.npy``, ``MODEL/preds.npy`` or
        the array ``output`` of an archive; ``reference`` of ped is the name of a data set, for
        ``MODEL_REFERENCE_feature.npy``, or the directory of another zoo; ``reference`` of rsa and
        dds is the name of a model of the zoo, or a file of features.

    Returns
    -------
    Ranking, or Rankings of several metrics
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
    Models are read and scored one at a time, so that one of them is in memory. With one metric, a
    model for which the memory of the GPU does not suffice is scored on the CPU, and a ScoreWarning
    says so. Work that depends on
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
    names = metrics.expand(metric)
    if metric == "all":
        shown = labels if labels is not None else _first_labels(zoo)
        names = [
            name for name in names if _several.suits(name, shown) and computable(zoo, name, options)
        ]
    inputs = Inputs(zoo, names, _several.route(names, options))
    if isinstance(metric, str) and metric != "all":
        if not getattr(metrics.get(metric), "over_zoo", False):
            return _rank_by_one(zoo, labels, metric, inputs, device, progress)
        return _rank_by_several(zoo, labels, names, inputs, device, progress).rankings[metric]
    return _rank_by_several(zoo, labels, names, inputs, device, progress)


def _rank_by_one(zoo, labels, metric, inputs, device, progress):
    from ..scorer import Scorer  # loads the native core

    scorers = _ScorerPerLabels(
        lambda labels: Scorer(labels, metric=metric, device=device, **inputs.options[metric])
    )
    on_cpu = _ScorerPerLabels(
        lambda labels: Scorer(labels, metric=metric, device="cpu", **inputs.options[metric])
    )
    # A wrong metric, option or device is the caller's error and not that of every model, so it is
    # provoked here, on the labels that were given or on some that suit every metric.
    probe = scorers(_probe_labels(zoo, labels, inputs))

    outcomes, noticed = [], Notices()
    with _progress_bar(zoo.names, progress) as names:
        for model, name in zip(zoo.models, names, strict=True):
            started = time.perf_counter()
            score, error = None, None
            try:
                with noticed.of(name):
                    try:
                        score = _score_of(model, labels, scorers, inputs, metric)
                    except DeviceMemoryError as full:
                        noticed.add(ScoreWarning, f"{name}: scored on the CPU, {one_line(full)}")
                        score = _score_of(model, labels, on_cpu, inputs, metric)
            except Exception as failure:
                error = _describe(failure)
            outcomes.append((name, score, time.perf_counter() - started, error))

    ranking = Ranking(outcomes, metric, probe.device)
    _zoo_notices(zoo, labels, scorers, noticed)
    for text in score_notices(ranking.scores, None if metric == "lead" else noticed.saturated):
        noticed.add(ScoreWarning, text)
    for category, text in noticed.lines():
        ranking.warnings.append(text)
        warnings.warn(text, category, stacklevel=4)
    return ranking


def _rank_by_several(zoo, labels, names, inputs, device, progress):
    """Rank by each of several metrics, which share the work on each model: :class:`Rankings`."""
    scorers = _ScorerPerLabels(lambda labels: _several.make(names, labels, device, inputs.options))
    probe = scorers(_probe_labels(zoo, labels, inputs))
    outcomes = {name: [] for name in names}
    noticed, of_zoo = {name: Notices() for name in names}, Notices()
    with _progress_bar(zoo.names, progress) as models:
        for model, title in zip(zoo.models, models, strict=True):
            started = time.perf_counter()
            try:
                features = model.read_features()
                made = scorers(model.read_labels() if labels is None else labels)
            except Exception as failure:
                for name in names:
                    outcomes[name].append((title, failure, time.perf_counter() - started))
                continue
            reading = time.perf_counter() - started
            found = _several.score_each(
                made, features, True,
                lambda name, model=model: inputs.of(model, name),
                lambda name, title=title: noticed[name].of(title),
            )  # fmt: skip
            for name, (outcome, seconds) in found.items():
                outcomes[name].append((title, outcome, reading + seconds))
    _zoo_notices(zoo, labels, scorers, of_zoo)
    rankings = []
    for name in names:
        rows = _finished(probe[name], outcomes[name])
        ranking = Ranking(rows, name, probe[name].device)
        for text in score_notices(
            ranking.scores, None if name == "lead" else noticed[name].saturated
        ):
            noticed[name].add(ScoreWarning, text)
        for category, text in noticed[name].lines():
            ranking.warnings.append(text)
            warnings.warn(f"{name}: {text}", category, stacklevel=4)
        rankings.append(ranking)
    for category, text in of_zoo.lines():
        for ranking in rankings:
            ranking.warnings.append(text)
        warnings.warn(text, category, stacklevel=4)
    return Rankings(rankings)


def _finished(metric, outcomes):
    """Rows (model, score, seconds, error) of one metric, from what it made of each model."""
    outcomes = list(outcomes)
    if getattr(metric, "over_zoo", False):
        good = [i for i, (_, found, _) in enumerate(outcomes) if not isinstance(found, Exception)]
        try:
            scores = metric.combine([outcomes[i][1] for i in good]) if good else []
        except LeadFastError as failure:
            scores = [failure] * len(good)
        for i, score in zip(good, scores, strict=True):
            outcomes[i] = (outcomes[i][0], score, outcomes[i][2])
    for model, found, seconds in outcomes:
        if not isinstance(found, Exception) and not math.isfinite(found):
            found = InputError(f"the score is {found}, so it cannot be ranked")
        if isinstance(found, Exception):
            yield model, None, seconds, _describe(found)
        else:
            yield model, float(found), seconds, None


def _zoo_notices(zoo, labels, scorers, noticed):
    """Add what is to be said about the zoo."""
    if labels is None and scorers.made > 2:  # the probe's, and one for all models
        noticed.add(
            ScoreWarning,
            "the models have different labels (or an order of samples of their own): "
            "their scores are not comparable",
        )
    stray = [path.name for path in zoo.stray]
    if stray:
        noticed.add(UserWarning, f"ignored, of no known layout: {name_list(stray)}")


def _probe_labels(zoo, labels, inputs):
    if labels is not None:
        return labels
    found = _first_labels(zoo) if inputs.bind_samples else None
    return np.arange(_PROBE) % 2 if found is None else found


def _first_labels(zoo):
    """The labels of the first model that has any."""
    for model in zoo.models:
        try:
            return model.read_labels()
        except LeadFastError:
            continue
    return None


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


def _score_of(model, labels, scorers, inputs, metric):
    features = model.read_features()
    scorer = scorers(model.read_labels() if labels is None else labels)
    score = float(scorer(features, **inputs.of(model, metric)))
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
