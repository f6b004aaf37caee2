"""The result of scoring a zoo: a table, a JSON object, its agreement with the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._text import printable
from ..evaluation import CONVENTIONS, match_truth, weighted_tau
from .groups import group
from .lines import TAU_NAMES, align, tau_lines
from .read import natural_key


@dataclass(frozen=True)
class Row:
    """One model of a ranking.

    Attributes
    ----------
    model : str
    score : float or None
        Higher is better; None where the model failed.
    rank : int or None
        1 is the best; models with equal scores share the smallest of their ranks.
    seconds : float
        Wall time to read and score this model.
    error : str or None
        Why it failed, on one line.
    draws : tuple of float
        The score by each draw, of a ranking with ``repeats``; ``score`` is their mean.
    group : int or None
        Of a ranking with ``repeats``: models of one group cannot be told apart, see
        :func:`lead_fast.zoo.groups.group`.
    details : dict
        What else is known of the model and its score.
    """

    model: str
    score: float | None
    rank: int | None
    seconds: float
    error: str | None
    draws: tuple = ()
    group: int | None = None
    details: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def spread(self):
        """Standard deviation of the score over the draws; None of a single one."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else None


class Ranking:
    """Models in the order of their scores, best first; those that failed come last.

    Iterating gives the rows, ``len`` their number, ``str`` the table.

    Parameters
    ----------
    outcomes : iterable of (model, score, seconds, error) or (model, score, seconds, error, details)
        One entry per model, with a score or an error and None for the other.
    metric, device : str
        What the scores were computed with, and where.
    warnings : iterable of str
        What was noticed about the scores.
    repeats : int
        Draws of what is random in each score; "draws" in the details has the score of each.

    Attributes
    ----------
    rows : list of Row
    metric, device : str
    repeats : int
    warnings : list of str
        One line each: ties, saturated scores, fewer samples than features, solvers that stopped
        early.
    """

    def __init__(self, outcomes, metric, device, warnings=(), repeats=1):
        outcomes = sorted(
            outcomes,
            key=lambda o: (o[1] is None, 0.0 if o[1] is None else -o[1], natural_key(o[0])),
        )
        self.metric = metric
        self.device = device
        self.warnings = list(warnings)
        self.repeats = repeats
        self.rows = []
        details = [dict(entry[4]) if len(entry) > 4 else {} for entry in outcomes]
        draws = [tuple(one.get("draws", ())) for one in details]
        groups = group([o[1] for o in outcomes], draws) if repeats > 1 else [None] * len(draws)
        for place, (model, score, seconds, error, *_) in enumerate(outcomes, start=1):
            if score is None:
                rank = None
            elif self.rows and self.rows[-1].score == score:
                rank = self.rows[-1].rank
            else:
                rank = place
            more = draws[place - 1], groups[place - 1], details[place - 1]
            self.rows.append(Row(model, score, rank, seconds, error, *more))

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __str__(self):
        return self.table()

    def __repr__(self):
        failed = len(self.failed)
        return (
            f"<Ranking of {len(self)} models by {self.metric}, best {self.best!r}, {failed} failed>"
        )

    @property
    def scores(self):
        """``{model: score}`` of the models that have one, best first."""
        return {row.model: row.score for row in self.rows if row.error is None}

    @property
    def failed(self):
        """``{model: error}`` of the models that have no score."""
        return {row.model: row.error for row in self.rows if row.error is not None}

    @property
    def best(self):
        """Name of the best model; None if every model failed."""
        return next(iter(self.scores), None)

    def tau(self, truth):
        """Weighted Kendall tau of the scores against true accuracies, in both conventions.

        Parameters
        ----------
        truth : mapping {model: accuracy}
            Models without an accuracy, and models that failed, are left out.

        Returns
        -------
        dict {"scipy": float, "paper": float}
            See :func:`lead_fast.weighted_tau`.

        Raises
        ------
        InputError
            `truth` names a model that is not in the ranking, or fewer than two models have both a
            score and an accuracy.
        """
        match_truth([row.model for row in self.rows], truth)
        scores = self.scores
        common = [model for model in scores if model in truth]
        pair = [scores[model] for model in common], [truth[model] for model in common]
        return {convention: weighted_tau(*pair, convention) for convention in CONVENTIONS}

    def to_dict(self, truth=None):
        """The ranking as one JSON-ready object.

        Parameters
        ----------
        truth : mapping {model: accuracy}, optional
            As for :meth:`tau`.

        Returns
        -------
        dict
            ``{"metric", "device", "scores": [{"model", "score", "rank", "seconds", "error"}],
            "tau": {"scipy", "paper"}}``, of a ranking with repeats also "spread", "draws" and
            "group" of each score; "tau" is None without `truth`, and a tau that is
            undefined (all scores equal) is None as well: JSON has no NaN.
        """
        tau = None
        if truth is not None:
            # A NaN is the one value that differs from itself.
            tau = {name: None if t != t else t for name, t in self.tau(truth).items()}
        return {
            "metric": self.metric,
            "device": self.device,
            "scores": [self._entry(row) for row in self.rows],
            "tau": tau,
        }

    def _entry(self, row):
        names = ["model", "score", "rank", "seconds", "error"]
        if self.repeats > 1:
            names += ["spread", "draws", "group"]
        return {name: getattr(row, name) for name in names}

    def table(self, truth=None):
        """The ranking as text: rank, model, score, seconds, and the errors of failed models.

        Parameters
        ----------
        truth : mapping {model: accuracy}, optional
            Adds a column of accuracies and the weighted tau in both conventions.

        Returns
        -------
        str
            Without a newline at the end.
        """
        header = ["rank", "model", "score", "seconds"]
        cells = [
            [
                "-" if row.rank is None else str(row.rank),
                printable(row.model),
                "failed" if row.score is None else f"{row.score:.6g}",
                f"{row.seconds:.3f}",
            ]
            for row in self.rows
        ]
        if truth is not None:
            header.insert(3, "accuracy")
            for row, line in zip(self.rows, cells, strict=True):
                line.insert(3, f"{truth[row.model]:g}" if row.model in truth else "-")
        if self.repeats > 1:
            header[3:3] = ["spread", "group"]
            for row, line in zip(self.rows, cells, strict=True):
                spread = "-" if row.spread is None else f"{row.spread:.2g}"
                line[3:3] = [spread, "-" if row.group is None else str(row.group)]
        lines = align([header, *cells])
        lines += [printable(f"{model}: {error}") for model, error in self.failed.items()]
        if truth is not None:
            lines += ["", *tau_lines(self.tau(truth))]
        return "\n".join(lines)


class Rankings:
    """One ranking for each of several metrics, of the same models.

    Parameters
    ----------
    rankings : list of Ranking

    Attributes
    ----------
    rankings : dict {metric: Ranking}
    device : str

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> noise = np.random.default_rng(0).standard_normal((60, 8))
    >>> zoo = {"noise": noise, "signal": noise + 4 * np.eye(3, 8)[y]}
    >>> [ranking.best for ranking in lead_fast.rank(zoo, y, ["logme", "knn"])]
    ['signal', 'signal']
    """

    def __init__(self, rankings):
        self.rankings = {ranking.metric: ranking for ranking in rankings}
        self.device = rankings[0].device

    def __iter__(self):
        return iter(self.rankings.values())

    def __len__(self):
        return len(self.rankings)

    def __getitem__(self, metric):
        return self.rankings[metric]

    def __str__(self):
        return self.table()

    def __repr__(self):
        return f"<Rankings by {', '.join(self.rankings)}>"

    @property
    def metrics(self):
        """Names of the metrics."""
        return list(self.rankings)

    @property
    def scores(self):
        """``{metric: {model: score}}``, of the models that have one."""
        return {metric: ranking.scores for metric, ranking in self.rankings.items()}

    @property
    def failed(self):
        """``{model: error}`` of the models that lack a score: the first metric's error."""
        found = {}
        for metric, ranking in self.rankings.items():
            for model, error in ranking.failed.items():
                found.setdefault(model, f"{metric}: {error}")
        return found

    @property
    def warnings(self):
        """One line each, with the metric's name where it is about one."""
        lines = {}
        for metric, ranking in self.rankings.items():
            for text in ranking.warnings:
                lines.setdefault(text, []).append(metric)
        return [
            text if len(found) == len(self) else f"{', '.join(found)}: {text}"
            for text, found in lines.items()
        ]

    def tau(self, truth):
        """``{metric: {"scipy": float, "paper": float}}``, see :meth:`Ranking.tau`.

        A metric that scored fewer than two of the models in `truth` has None.
        """
        return {
            metric: ranking.tau(truth) if len(ranking.scores.keys() & truth.keys()) > 1 else None
            for metric, ranking in self.rankings.items()
        }

    def to_dict(self, truth=None):
        """All rankings as one JSON-ready object.

        Returns
        -------
        dict
            ``{"metrics": [names], "device", "rankings": {name: {"scores": [...], "tau": ...}}}``,
            with "scores" and "tau" as in :meth:`Ranking.to_dict`.
        """
        tau = {metric: None for metric in self.rankings} if truth is None else self.tau(truth)
        return {
            "metrics": self.metrics,
            "device": self.device,
            "rankings": {
                metric: {
                    key: value
                    for key, value in ranking.to_dict(tau[metric] and truth).items()
                    if key in ("scores", "tau")
                }
                for metric, ranking in self.rankings.items()
            },
        }

    def table(self, truth=None):
        """All rankings as text: one column of scores per metric, best models of the first on top.

        Parameters
        ----------
        truth : mapping {model: accuracy}, optional
            Adds a column of accuracies, and two rows of weighted taus.
        """
        first, *_ = self.rankings.values()
        header = ["rank", "model", *([] if truth is None else ["accuracy"]), *self.rankings]
        scores = self.scores
        cells = []
        for row in first:
            line = ["-" if row.rank is None else str(row.rank), printable(row.model)]
            if truth is not None:
                line.append(f"{truth[row.model]:g}" if row.model in truth else "-")
            for metric in self.rankings:
                score = scores[metric].get(row.model)
                line.append("failed" if score is None else f"{score:.6g}")
            cells.append(line)
        seconds = ["", "seconds", *([] if truth is None else [""])]
        for ranking in self:
            seconds.append(f"{sum(row.seconds for row in ranking):.3f}")
        cells.append(seconds)
        if truth is not None:
            tau = self.tau(truth)
            for convention, name in TAU_NAMES.items():
                line = ["", f"weighted tau, {name}", ""]
                for metric in self.rankings:
                    value = None if tau[metric] is None else tau[metric][convention]
                    line.append("-" if value is None or value != value else f"{value:.4f}")
                cells.append(line)
        lines = align([header, *cells])
        lines += [printable(f"{model}: {error}") for model, error in self.failed.items()]
        return "\n".join(lines)
