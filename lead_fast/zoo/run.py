"""Score the models of a zoo; one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from .. import metrics
from .._caller import warn_caller
from .._text import name_list
from ..errors import InputError, LeadFastError, ScoreWarning
from ..metrics import _several
from ..options import integer
from .cluster import active
from .inputs import Inputs, computable
from .notices import Notices, score_notices
from .read import open_zoo, read_labels
from .report import Ranking, Rankings
from .runner import Records, describe_zoo, go_through
from .work import Work, describe


def rank(
    zoo, labels=None, metric="lead", *, device=None, dataset=None, progress=None, store=None,
    repeats=1, jobs=None, **options,
):  # fmt: skip
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
    store : path-like, optional
        A SQLite file, made where it is missing, that takes every result as soon as there is one. A
        model whose features, labels and options have a score in it is not scored again, so that a
        run that was stopped goes on where it was. Models that failed are tried again.
    repeats : int, default 1
        Draws of what is random in a metric (of lead the head and the samples), of the seeds
        ``seed, seed + 1, ...``. Scores are then means, and the rows of the ranking have
        ``spread`` and ``group``.
    jobs : int, optional
        Processes that score, -1 for one per core; by default those of the joblib backend that is
        active, as by ``joblib.parallel_config(backend="dask")``, else this process alone.
    **options
        Options of the metric, see :func:`lead_fast.lead`; of several, each takes those that it
        has. What differs from model to model is a dictionary ``{model: array}``, or comes from the
        zoo: ``source`` (of leep and nce) from ``MODEL_DATASET_output.npy``, ``MODEL/preds.npy`` or
        the array ``output`` of an archive; ``reference`` of ped is the name of a data set, for
        ``MODEL_REFERENCE_feature.npy``, or the directory of another zoo; ``reference`` of rsa and
        dds is the name of a model of the zoo, or a file of features. Where ``"all"`` has both, it
        is for the latter.

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
        Scores that tie or are saturated, models with fewer samples than features; a metric of
        ``"all"`` that failed for every model, and is left out.
    ConvergenceWarning
        A solver stopped early, with the model's name.

    Notes
    -----
    Models are scored one at a time, and the next one is read meanwhile (and copied to the GPU that
    scores, if it takes at most an eighth of that one's memory), so that two of them are in memory.
    A model for which the memory of the GPU does not suffice is scored on the CPU, and a
    ScoreWarning says so. Work that depends on the labels alone is done once for models with equal
    labels. A store costs one pass of SHA-256 over the features, 0.5 to 1 s per GB, by the thread
    that reads ahead, and none for files that have not changed since they were last in it (`jobs`
    make one of each file that has to be scored). That a file has changed is told by its size,
    times and inode, which a program that writes to it through a map, such as ``numpy.memmap``, may
    leave as they were: take a new file, or ``os.utime``.

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
    opened = open_zoo(zoo, dataset)
    if isinstance(labels, str | os.PathLike):
        labels = read_labels(labels)
    return rank_models(
        opened, labels, metric, device=device, progress=progress, store=store, repeats=repeats,
        jobs=jobs, title=describe_zoo(zoo), **options,
    )  # fmt: skip


def rank_models(
    zoo, labels, metric, *, device=None, progress=None, store=None, repeats=1, jobs=None, title="",
    **options,
):  # fmt: skip
    """As :func:`rank`, for a zoo that is open and labels that are an array or None."""
    names = metrics.expand(metric)
    if metric == "all":
        shown = labels if labels is not None else _first_labels(zoo)
        names = [
            name for name in names if _several.suits(name, shown) and computable(zoo, name, options)
        ]
    repeats = integer("repeats", repeats, 1, 1000)
    inputs = Inputs(zoo, names, _several.route(names, options, metric == "all"))
    drawn = _several.repeated(inputs.options, names, repeats)
    work = Work(names, drawn, device)
    # A wrong metric, option or device is the caller's error and not that of every model, so it is
    # provoked here, on the labels that were given or on some that suit every metric.
    probe = work.scorers(_probe_labels(zoo, labels, inputs))
    if metric == "all":  # what only the labels rule out fails for the models, and is left out
        _several.unusable(probe, device, drawn)
    else:
        for one in probe.values():
            if isinstance(one, _several.Unusable):
                raise one.error
    others = active(jobs)
    if store is None:
        found = _go_through(zoo, labels, work, inputs, probe, None, progress, others)
    else:
        from .store import Store

        with Store(store) as file:
            records = Records(file, title, drawn, len(zoo.models), labels)
            found = _go_through(zoo, labels, work, inputs, probe, records, progress, others)
    rows, differ = found
    if metric == "all":
        names = _without_those_that_fail(names, rows)
    single = isinstance(metric, str) and metric != "all"
    rankings = [
        _ranking(name, rows[name], probe[name].device, zoo, repeats, single) for name in names
    ]
    for category, text in _zoo_notices(zoo, differ):
        for ranking in rankings:
            ranking.warnings.append(text)
        warn_caller(text, category)
    return rankings[0] if single else Rankings(rankings)


def _without_those_that_fail(names, rows):
    """Leave out metrics that failed for every model, though others scored some, and say why."""
    failures = {name: [one.error for one in rows[name].values() if one.error] for name in names}
    fewest = min(map(len, failures.values()))
    kept = []
    for name in names:
        if fewest < len(failures[name]) == len(rows[name]):
            warn_caller(f"{name}: left out: {failures[name][0]}", ScoreWarning)
        else:
            kept.append(name)
    return kept


def _go_through(zoo, labels, work, inputs, probe, records, progress, jobs):
    """``{metric: {model: Outcome}}`` with final scores, and whether the models' labels differ."""
    found, differ = go_through(zoo, labels, work, inputs, records, progress, jobs)
    rows = {name: {model.name: outcomes[name] for model, outcomes in found} for name in work.names}
    combined = {}
    for name, outcomes in rows.items():
        if getattr(probe[name], "over_zoo", False):
            rows[name] = combine(probe[name], outcomes)
            combined[name] = {model: one.value for model, one in rows[name].items()}
    if records is not None:
        records.finish(combined)
    return rows, differ


def combine(metric, outcomes):
    """Scores from the parts that a metric over a whole zoo made of each model.

    Parameters
    ----------
    metric : Metric
    outcomes : dict {model: Outcome}

    Returns
    -------
    dict {model: Outcome}
    """
    good = {model: one.value for model, one in outcomes.items() if one.error is None}
    try:
        scores = metric.combine(list(good.values())) if good else []
        failed = [None if np.isfinite(s) else f"the score is {s}" for s in scores]
    except LeadFastError as failure:
        scores, failed = [None] * len(good), [describe(failure)] * len(good)
    made = {
        model: dataclasses.replace(
            outcomes[model], value=None if error else float(score), error=error
        )
        for model, score, error in zip(good, scores, failed, strict=True)
    }
    return {model: made.get(model, one) for model, one in outcomes.items()}


def _ranking(name, outcomes, device, zoo, repeats, single):
    """The ranking by one metric, and its warnings; said of the metric where there are several."""
    noticed = Notices()
    for model in zoo.names:
        noticed.of(model, outcomes[model].notices)
    rows = [
        (model, one.value, one.seconds, one.error, one.details) for model, one in outcomes.items()
    ]
    ranking = Ranking(rows, name, device, repeats=repeats)
    saturated = None if name == "lead" else noticed.saturated
    for text in score_notices(ranking.scores, saturated):
        noticed.add(ScoreWarning, text)
    for category, text in noticed.lines():
        ranking.warnings.append(text)
        warn_caller(text if single else f"{name}: {text}", category)
    return ranking


def _zoo_notices(zoo, differ):
    """What is to be said about the zoo: pairs of category and text."""
    if differ:
        yield (
            ScoreWarning,
            "the models have different labels (or an order of samples of their own): "
            "their scores are not comparable",
        )
    stray = [path.name for path in zoo.stray]
    if stray:
        yield UserWarning, f"ignored, of no known layout: {name_list(stray)}"


def _probe_labels(zoo, labels, inputs):
    if labels is not None:
        return labels
    found = _first_labels(zoo) if inputs.bind_samples else None
    return _several.made_up_labels() if found is None else found


def _first_labels(zoo):
    """The labels of the first model that has any."""
    for model in zoo.models:
        try:
            return model.read_labels()
        except LeadFastError:
            continue
    return None
