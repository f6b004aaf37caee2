"""The result of scoring a zoo: a table, a JSON object, its agreement with the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .._text import printable
from ..evaluation import CONVENTIONS, match_truth, weighted_tau
from .read import natural_key

_TAU_NAMES = {"scipy": "SciPy's convention", "paper": "Eq. (1) of the paper"}


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
    """

    model: str
    score: float | None
    rank: int | None
    seconds: float
    error: str | None


class Ranking:
    """Models in the order of their scores, best first; those that failed come last.

    Iterating gives the rows, ``len`` their number, ``str`` the table.

    Parameters
    ----------
    outcomes : iterable of (model, score, seconds, error)
        One entry per model, with a score or an error and None for the other.
    metric, device : str
        What the scores were computed with, and where.
    warnings : iterable of str
        What was noticed about the scores.

    Attributes
    ----------
    rows : list of Row
    metric, device : str
    warnings : list of str
        One line each: ties, saturated scores, fewer samples than features, solvers that stopped
        early.
    """

    def __init__(self, outcomes, metric, device, warnings=()):
        outcomes = sorted(
            outcomes,
            key=lambda o: (o[1] is None, 0.0 if o[1] is None else -o[1], natural_key(o[0])),
        )
        self.metric = metric
        self.device = device
        self.warnings = list(warnings)
        self.rows = []
        for place, (model, score, seconds, error) in enumerate(outcomes, start=1):
            if score is None:
                rank = None
            elif self.rows and self.rows[-1].score == score:
                rank = self.rows[-1].rank
            else:
                rank = place
            self.rows.append(Row(model, score, rank, seconds, error))

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
            "tau": {"scipy", "paper"}}``; "tau" is None without `truth`, and a tau that is
            undefined (all scores equal) is None as well: JSON has no NaN.
        """
        tau = None
        if truth is not None:
            # A NaN is the one value that differs from itself.
            tau = {name: None if t != t else t for name, t in self.tau(truth).items()}
        return {
            "metric": self.metric,
            "device": self.device,
            "scores": [asdict(row) for row in self.rows],
            "tau": tau,
        }

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
        lines = _align([header, *cells])
        lines += [f"{model}: {error}" for model, error in self.failed.items()]
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
            for convention, name in _TAU_NAMES.items():
                line = ["", f"weighted tau, {name}", ""]
                for metric in self.rankings:
                    value = None if tau[metric] is None else tau[metric][convention]
                    line.append("-" if value is None or value != value else f"{value:.4f}")
                cells.append(line)
        lines = _align([header, *cells])
        lines += [f"{model}: {error}" for model, error in self.failed.items()]
        return "\n".join(lines)


def tau_lines(tau):
    """Both weighted taus as lines that name their conventions."""
    values = {name: "undefined (no order)" if t != t else f"{t:.4f}" for name, t in tau.items()}
    return [f"weighted tau, {_TAU_NAMES[name]}: {text}" for name, text in values.items()]


def agreement_lines(found, tied):
    """What :func:`lead_fast.evaluation.agreement` found, as lines; the two weighted taus first."""
    lines = tau_lines({name: found[name].value for name in CONVENTIONS})
    rest = [name for name in found if name not in CONVENTIONS]
    for name in rest:
        value = found[name].value
        text = "undefined (no order)" if value != value else f"{value:.4f}"
        lines.append(f"{_measure_name(name)}: {text}")
    lines.append(
        f"pairs of {tied['models']} models: {tied['pairs']}, tied in the scores {tied['scores']}, "
        f"in truth {tied['truth']}"
    )
    for name, interval in found.items():
        if interval.draws:
            lines.append(
                f"95 % of {interval.draws} resamples, {_measure_name(name)}: "
                f"{interval.low:.4f} to {interval.high:.4f}"
            )
    return lines


def agreement_dict(found, tied):
    """The same as one JSON-ready object; what is undefined is None."""

    def known(value):
        return None if value != value else value

    return {
        **{name: known(interval.value) for name, interval in found.items()},
        "ties": tied,
        "intervals": {
            name: [interval.low, interval.high] if interval.draws else None
            for name, interval in found.items()
        },
    }


def _measure_name(name):
    if name in CONVENTIONS:
        return f"weighted tau, {_TAU_NAMES[name]}"
    if name.startswith("top"):
        k = name.removeprefix("top").removesuffix("_regret")
        return f"top-{k} regret (in the unit of the accuracies)"
    return {"kendall": "Kendall tau-b", "pearson": "Pearson correlation"}[name]


def _align(rows):
    """Columns of equal width: the second (names) to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
