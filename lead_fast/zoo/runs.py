"""What a store knows: its runs, the rankings of one, the differences between two."""

from __future__ import annotations

import json
import time

from .._text import printable
from ..errors import InputError
from ..evaluation import kendall
from .lines import align
from .report import Ranking, Rankings


def list_dict(runs):
    """Runs as one JSON-ready object."""
    return {
        "runs": [
            {
                "run": run.id, "started": _when(run.started), "finished": _when(run.finished),
                "zoo": run.zoo, "metrics": run.metrics, "options": run.options,
                "version": run.version, "models": run.models, "done": run.done,
                "failed": run.failed,
            }
            for run in runs
        ]
    }  # fmt: skip


def list_table(runs):
    """Runs as text, one a line."""
    if not runs:
        return "no run yet"
    rows = [["run", "zoo", "metrics", "models", "done", "failed", "started", "state"]]
    for run in runs:
        state = "complete" if run.finished else "stopped, or going on"
        counts = map(str, (run.models, run.done, run.failed))
        metrics = ",".join(run.metrics)
        rows.append([str(run.id), printable(run.zoo), metrics, *counts, _when(run.started), state])
    return "\n".join(line.rstrip() for line in align(rows))


class Results:
    """The rankings of one run.

    Parameters
    ----------
    store : Store
    number : int
        The run's; of one that was stopped the models it came to are ranked.

    Attributes
    ----------
    run : Run
    rankings : Rankings

    Raises
    ------
    InputError
        There is no such run, or no model in it yet.
    """

    def __init__(self, store, number):
        runs = {run.id: run for run in store.runs()}
        if number not in runs:
            held = ", ".join(map(str, runs)) or "none"
            raise InputError(f"{store.path}: no run {number}; its runs: {held}")
        self.run = runs[number]
        rankings = []
        for metric in self.run.metrics:
            rows, devices, repeats = [], set(), 1
            for model, one in store.outcomes(number, metric).items():
                error = one.error
                if error is None and one.value is None:
                    error = "no score, as the run was not finished"
                rows.append((model, one.value, one.seconds, error, one.details))
                devices.add(one.device)
                repeats = max(repeats, len(one.details.get("draws", ())))
            rankings.append(Ranking(rows, metric, ", ".join(sorted(devices)), repeats=repeats))
        if not any(map(len, rankings)):
            raise InputError(f"{store.path}: run {number} has no model yet")
        self.rankings = Rankings(rankings)

    def _shown(self):
        return next(iter(self.rankings)) if len(self.rankings) == 1 else self.rankings

    def to_dict(self):
        """As of the ranking, or of the rankings of several metrics."""
        return self._shown().to_dict()

    def table(self):
        """As of the ranking, or of the rankings of several metrics; says if models are missing."""
        run, table = self.run, self._shown().table()
        if run.finished or run.done >= run.models:
            return table
        return f"{table}\nof {run.models} models: the run was stopped, or is going on"


class Comparison:
    """Two runs beside each other: options that differ, scores of the models they share.

    Parameters
    ----------
    one, other : Results

    Raises
    ------
    InputError
        They have no metric in common.
    """

    def __init__(self, one, other):
        self.one, self.other = one, other
        self.metrics = [m for m in one.run.metrics if m in other.run.metrics]
        if not self.metrics:
            raise InputError(f"runs {one.run.id} and {other.run.id} have no metric in common")

    def to_dict(self):
        """One JSON-ready object: per metric its changed options, Kendall's tau and the models."""
        return {
            "runs": [self.one.run.id, self.other.run.id],
            "metrics": {
                metric: {
                    "options": self._options(metric),
                    "kendall": self._kendall(metric),
                    "models": [
                        {"model": model, "scores": [a and a.score, b and b.score],
                         "ranks": [a and a.rank, b and b.rank]}
                        for model, a, b in self._pairs(metric)
                    ],
                }
                for metric in self.metrics
            },
        }  # fmt: skip

    def table(self):
        """As text."""
        lines = []
        for metric in self.metrics:
            lines += ["", metric] if lines else [metric]
            for option, pair in self._options(metric).items():
                lines.append(f"{option}: {' against '.join(map(json.dumps, pair))}")
            numbers = [str(self.one.run.id), str(self.other.run.id)]
            rows = [[f"rank {numbers[0]}", "model", f"rank {numbers[1]}", *map("score {}".format,
                     numbers)]]  # fmt: skip
            for model, a, b in self._pairs(metric):
                (first, x), (second, y) = _cells(a), _cells(b)
                rows.append([first, printable(model), second, x, y])
            lines += align(rows)
            tau = self._kendall(metric)
            lines.append(f"Kendall tau-b: {'undefined' if tau is None else format(tau, '.4f')}")
        return "\n".join(lines)

    def _options(self, metric):
        sides = [side.run.options[metric] for side in (self.one, self.other)]
        names = sorted({*sides[0], *sides[1]})
        pairs = {name: [side.get(name) for side in sides] for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def _pairs(self, metric):
        """Rows of each model on both sides, None where it is missing; by the first's order."""
        sides = [
            {row.model: row for row in side.rankings[metric]} for side in (self.one, self.other)
        ]
        return [(model, sides[0].get(model), sides[1].get(model)) for model in sides[0] | sides[1]]

    def _kendall(self, metric):
        scores = [(a.score, b.score) for _, a, b in self._pairs(metric) if a and b]
        scores = [pair for pair in scores if None not in pair]
        value = kendall(*zip(*scores, strict=True)) if len(scores) > 1 else float("nan")
        return None if value != value else value


def _cells(row):
    if row is None:
        return "-", "-"
    return "-" if row.rank is None else str(row.rank), (
        "failed" if row.score is None else f"{row.score:.6g}"
    )


def _when(seconds):
    """A moment in local time, to the second; None of None."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
