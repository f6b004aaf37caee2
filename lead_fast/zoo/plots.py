"""Plots of rankings by matplotlib: SVG that takes its text's colour from the page, or a file."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import contextmanager

import numpy as np

from .._optional import need
from .._text import printable

# Told apart by people who see few colours, and against white as well as black (Wong 2011, without
# its yellow and black).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_TEXT = "#010203"  # stands for the page's own colour, and for no other
MOST = 30  # models of a plot that names them
SHOWN = 6  # of one with a line for each


@contextmanager
def _figure(height=3.2, width=4.6, glyphs="ignore"):
    """A figure and its axes that nothing global knows of.

    `glyphs` is what to do with warnings of those that matplotlib's fonts lack; in an SVG they are
    shown by the reader's.
    """
    matplotlib = need("matplotlib", "plotting")
    figures = need("matplotlib.figure", "plotting")
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {
        "svg.fonttype": "none", "svg.hashsalt": "lead_fast", "text.parse_math": False,
        "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "savefig.transparent": True, **dict.fromkeys(colours, _TEXT),
        "axes.formatter.use_mathtext": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings(glyphs, "Glyph .* missing from")
        figure = figures.Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.grid(color="#808080", alpha=0.3, linewidth=0.5)
        axes.set_axisbelow(True)
        yield figure, axes


def _svg(figure, name):
    """A figure as an element of a page; `name` keeps its identifiers apart from others'."""
    file = io.StringIO()
    matplotlib = need("matplotlib", "plotting")
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'\bid="(?![A-Za-z]*[0-9a-f]{10})[^"]*"', "", text)  # figure_1 and the like
    text = re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", text, count=2)
    return text.replace(_TEXT, "currentColor").strip()


def _colours(rows):
    """A colour for each row: by group where there are groups."""
    return [COLOURS[((row.group or 1) - 1) % len(COLOURS)] for row in rows]


def _bars(axes, ranking):
    rows = [row for row in ranking if row.score is not None][:MOST]
    base = min(row.score for row in rows)
    places = np.arange(len(rows))
    width = [row.score - base for row in rows]
    margin = 0.05 * (max(width) or abs(base) or 1.0)
    axes.barh(places, np.add(width, margin), left=base - margin, color=_colours(rows), height=0.7)
    spreads = [row.spread or 0.0 for row in rows]
    if any(spreads):
        axes.errorbar([r.score for r in rows], places, xerr=spreads, fmt="none", ecolor=_TEXT,
                      elinewidth=1, capsize=2)  # fmt: skip
    axes.set_yticks(places, [_short(row.model) for row in rows])
    axes.set(xlabel=f"{ranking.metric} score")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return len(rows)


def bars(ranking):
    """Scores as bars, with the spread over draws, coloured by group."""
    count = min(len(ranking.scores), MOST)
    with _figure(1.0 + 0.2 * count) as (figure, axes):
        _bars(axes, ranking)
        return _svg(figure, f"bars-{ranking.metric}")


def save_bars(ranking, kind):
    """The same as the bytes of a file of a kind, ``png``, ``svg`` or ``pdf``."""
    need("matplotlib", "plotting")
    file = io.BytesIO()
    count = min(len(ranking.scores), MOST)
    with _figure(1.0 + 0.2 * count, 6.4, "ignore" if kind == "svg" else "once") as (figure, axes):
        _bars(axes, ranking)
        figure.savefig(file, format=kind, dpi=150, transparent=False, facecolor="white")
    return file.getvalue()


def scatter(pairs, x, y, name, log=False):
    """Points of models, ``{model: (x, y)}``; the first of them are named."""
    with _figure() as (figure, axes):
        points = np.array(list(pairs.values()), float)
        axes.scatter(*points.T, s=14, color=COLOURS[0])
        for model in list(pairs)[:SHOWN]:
            axes.annotate(_short(model, 18), pairs[model], (3, 2), textcoords="offset points",
                          fontsize=7)  # fmt: skip
        if log:
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis)
        axes.set(xlabel=x, ylabel=y)
        axes.margins(0.12)
        return _svg(figure, name)


def curves(lines, marked, name="curves"):
    """Score against time (Fig. 4 of the paper), ``{model: (times, scores)}``."""
    with _figure(3.6) as (figure, axes):
        for (model, (times, scores)), colour in zip(lines.items(), _cycle(), strict=False):
            axes.semilogx(times, scores, color=colour, label=_short(model))
        axes.axvline(marked, color=_TEXT, linewidth=0.7, linestyle=":")
        axes.set(xlabel="time, in the paper's unit", ylabel="score")
        _plain_ticks(axes.xaxis)
        _legend(figure)
        return _svg(figure, name)


def rates(lines, name="rates"):
    """Mean eigenvalue of each class's kernel, ``{model: (K,)}``, classes by the first's order."""
    with _figure(3.4) as (figure, axes):
        order = np.argsort(-np.asarray(next(iter(lines.values()))), kind="stable")
        for (model, values), colour in zip(lines.items(), _cycle(), strict=False):
            places = np.arange(1, len(values) + 1)
            axes.semilogy(places, np.asarray(values)[order], ".-", color=colour, linewidth=0.6,
                          markersize=4, label=_short(model))  # fmt: skip
        axes.set(xlabel="classes, in the order of the first model's rates", ylabel="rate")
        _plain_ticks(axes.yaxis)
        _legend(figure)
        return _svg(figure, name)


def slopes(columns, name="slopes"):
    """Ranks of models side by side (Fig. 6 of the paper), ``{title: {model: rank}}``."""
    models = next(iter(columns.values()))
    with _figure(1.0 + 0.17 * len(models)) as (figure, axes):
        places = range(len(columns))
        for model, colour in zip(models, _cycle(), strict=False):
            ranks = [column[model] for column in columns.values()]
            axes.plot(places, ranks, "o-", color=colour, markersize=3, linewidth=1)
            axes.annotate(_short(model, 22), (len(columns) - 1, ranks[-1]), (6, 0),
                          textcoords="offset points", fontsize=7, va="center")  # fmt: skip
        axes.set_xticks(places, list(columns))
        axes.set(ylabel="rank", xlim=(-0.1, len(columns) - 0.1 + 0.25 * len(columns)))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="x")
        return _svg(figure, name)


def _plain_ticks(axis):
    """Powers of ten without mathematical text, which would be left as it is in the SVG."""
    ticker = need("matplotlib.ticker", "plotting")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _legend(figure):
    figure.legend(loc="outside lower left", ncols=2, fontsize=7, frameon=False, labelcolor=_TEXT)


def _cycle():
    while True:
        yield from COLOURS


def _short(name, most=28):
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"
