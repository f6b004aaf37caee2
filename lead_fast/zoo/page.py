"""A report on a ranking as one page of HTML that needs nothing else, not even a network."""

from __future__ import annotations

import time
from html import escape

from .._text import printable
from .._version import __version__
from ..evaluation import kendall
from . import plots
from .lines import TAU_NAMES
from .report import Ranking, Rankings

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1b1f; --soft: #5c5c66; --line: #d8d8de;
  --band: #f4f4f7; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #16161a; --text: #e6e6ea; --soft: #a2a2ad;
  --line: #3a3a42; --band: #202026; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, figcaption { color: var(--soft); margin: .25rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
.name { text-align: left; max-width: 22rem; white-space: normal; overflow-wrap: anywhere;
  min-width: 8rem; }
tr.even td { background: var(--band); }
.bad { color: var(--bad); text-align: left; white-space: normal; min-width: 12rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1.5rem; align-items: start; }
figure { margin: 0; min-width: 0; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; }
svg text { font-family: inherit; }
"""


def page(rankings, truth=None, title="Ranking"):
    """A report as HTML.

    Parameters
    ----------
    rankings : Ranking or Rankings
        The first metric decides the order.
    truth : mapping {model: accuracy}, optional
        Adds accuracies and the weighted taus.
    title : str

    Returns
    -------
    str

    Raises
    ------
    MissingError
        If matplotlib is missing, with the command that installs it.
    """
    if isinstance(rankings, Ranking):
        rankings = Rankings([rankings])
    first = next(iter(rankings))
    title = printable(title)
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">', f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>", "</head>", "<body>", f"<h1>{escape(title)}</h1>",
        _summary(rankings, first),
        *(f"<p>Note: {escape(line)}</p>" for line in rankings.warnings),
        "<h2>Ranking</h2>", _groups_text(first), _ranking_table(rankings, first, truth),
    ]  # fmt: skip
    if truth is not None:
        parts += ["<h2>Agreement with the true accuracies</h2>", _tau_table(rankings, truth)]
    if len(rankings) > 1:
        parts += ["<h2>Metrics against each other</h2>", _metric_table(rankings)]
    figures = [_figure(text, svg) for text, svg in _plots(rankings, first, truth)]
    parts += ["<h2>Plots</h2>", '<div class="plots">', *figures, "</div>"] if figures else []
    return "\n".join([*filter(None, parts), "</body>", "</html>"])


def _summary(rankings, first):
    failed = len(rankings.failed)
    samples = sorted({row.details["samples"] for row in first if "samples" in row.details})
    classes = sorted({len(row.details["classes"]) for row in first if "classes" in row.details})
    facts = [f"{len(first)} models", f"{failed} failed" if failed else ""]
    facts.append(f"{' or '.join(map(str, samples))} samples" if samples else "")
    facts.append(f"{' or '.join(map(str, classes))} classes" if classes else "")
    facts += [f"by {', '.join(rankings.metrics)}", f"on {first.device}"]
    facts.append(f"{first.repeats} draws" if first.repeats > 1 else "")
    facts += [f"lead_fast {__version__}", time.strftime("%Y-%m-%d %H:%M %Z")]
    return f"<p>{escape(' · '.join(filter(None, facts)))}</p>"


def _groups_text(ranking):
    if ranking.repeats < 2:
        return ""
    return (
        f"<p>Scores are means over {ranking.repeats} draws of head and samples, ± their standard "
        "deviation. Models of one group cannot be told apart from its best: a 95 % interval of the "
        "mean difference contains zero.</p>"
    )


def _table(header, rows, names=0):
    """A table of pairs of a class and cells of HTML; `names` is the column that holds names."""
    lines = ['<div class="scroll"><table>', _row("th", header, names)]
    lines += [_row("td", cells, names, kind) for kind, cells in rows]
    return "\n".join([*lines, "</table></div>"])


def _row(tag, cells, names, kind=""):
    made = [
        cell
        if cell.startswith("<td")
        else f"<{tag}{' class=name' if at == names else ''}>{cell}</{tag}>"
        for at, cell in enumerate(cells)
    ]
    return f"<tr{f' class={kind}' if kind else ''}>{''.join(made)}</tr>"


def _ranking_table(rankings, first, truth):
    rows = list(first)
    sizes = any("parameters" in row.details for row in rows)
    others = [ranking for ranking in rankings if ranking is not first]
    header = ["rank", "model", escape(first.metric)]
    header += ["±", "group"] if first.repeats > 1 else []
    header += ["accuracy"] if truth is not None else []
    header += ["parameters"] if sizes else []
    header += [*(escape(ranking.metric) for ranking in others), "seconds"]
    lines = []
    scores = rankings.scores
    for at, row in enumerate(rows):
        name = escape(printable(row.model))
        if row.score is None:
            error = escape(printable(row.error))
            error = f'<td class="bad" colspan="{len(header) - 2}">{error}</td>'
            lines.append(("", ["-", name, error]))
            continue
        cells = [str(row.rank), name, f"{row.score:.5g}"]
        if first.repeats > 1:
            cells += ["-" if row.spread is None else f"{row.spread:.2g}", str(row.group)]
        if truth is not None:
            cells.append(f"{truth[row.model]:g}" if row.model in truth else "-")
        if sizes:
            size = row.details.get("parameters")
            cells.append("-" if size is None else f"{size / 1e6:.4g} M")
        for ranking in others:
            score = scores[ranking.metric].get(row.model)
            cells.append("-" if score is None else f"{score:.5g}")
        cells.append(f"{row.seconds:.3f}")
        band = row.group if first.repeats > 1 else at
        lines.append(("even" if band % 2 else "", cells))
    return _table(header, lines, names=1)


def _tau_table(rankings, truth):
    rows = []
    for metric, tau in rankings.tau(truth).items():
        values = ["-", "-"]
        if tau is not None:
            values = ["-" if tau[c] != tau[c] else f"{tau[c]:.4f}" for c in TAU_NAMES]
        rows.append(("", [escape(metric), *values]))
    return _table(["metric", *map(escape, TAU_NAMES.values())], rows)


def _metric_table(rankings):
    """Kendall's tau between the scores of each two metrics."""
    rows, scores = [], rankings.scores
    for metric, one in scores.items():
        cells = [escape(metric)]
        for other in scores.values():
            common = [model for model in one if model in other]
            tau = float("nan")
            if len(common) > 1:
                tau = kendall(*([side[model] for model in common] for side in (one, other)))
            cells.append("-" if tau != tau else f"{tau:.3f}")
        rows.append(("", cells))
    return "<p>Kendall's tau-b between scores.</p>" + _table(
        ["metric", *map(escape, rankings.metrics)], rows
    )


def _figure(text, svg):
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)
    return f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>"


def _plots(rankings, first, truth):
    """Pairs of a caption and a plot, of what there is to plot."""
    scores = first.scores
    rows = [row for row in first if row.score is not None]
    if not rows:
        return
    most = f"the best {plots.MOST} of {len(rows)}" if len(rows) > plots.MOST else "all models"
    yield (
        f"Scores of {most}"
        + (", with their spread, coloured by group" if first.repeats > 1 else ""),
        plots.bars(first),
    )
    label = f"{first.metric} score"
    sized = {r.model: (r.details["parameters"], r.score) for r in rows if "parameters" in r.details}
    if len(sized) > 1:
        yield (
            "Score against the size of the model",
            plots.scatter(sized, "parameters", label, "sizes", log=True),
        )
    if truth is not None:
        for ranking in rankings:
            pairs = {m: (truth[m], s) for m, s in ranking.scores.items() if m in truth}
            if len(pairs) > 1:
                yield (
                    f"{ranking.metric} against the true accuracy",
                    plots.scatter(
                        pairs, "accuracy", f"{ranking.metric} score", f"truth-{ranking.metric}"
                    ),
                )
    for ranking in list(rankings)[1 : 1 + plots.SHOWN]:
        pairs = {m: (scores[m], s) for m, s in ranking.scores.items() if m in scores}
        if len(pairs) > 1:
            yield (
                f"{ranking.metric} against {first.metric}",
                plots.scatter(pairs, label, f"{ranking.metric} score", f"pair-{ranking.metric}"),
            )
    for ranking in rankings:
        if ranking.metric == "lead":
            yield from _lead_plots(ranking, truth)


def _lead_plots(ranking, truth):
    rows = [row for row in ranking if row.score is not None and "curve" in row.details]
    best = rows[: plots.SHOWN]
    if not best:
        return
    lines = {row.model: (row.details["times"], row.details["curve"]) for row in best}
    yield (
        f"Score against time, the best {len(best)} (Fig. 4 of the paper)",
        plots.curves(lines, marked=1.0),
    )
    counts = {tuple(row.details["classes"]) for row in best}
    if len(counts) == 1:
        yield (
            f"Rate of each class, the best {len(best)}",
            plots.rates({row.model: row.details["rates"] for row in best}),
        )
    shown = rows[: plots.MOST]
    if len(shown) > 1:
        columns = {
            "initial": _ranks({row.model: row.details["initial"] for row in shown}),
            "evolved": _ranks({row.model: row.score for row in shown}),
        }
        if truth is not None and all(row.model in truth for row in shown):
            columns["true"] = _ranks({row.model: truth[row.model] for row in shown})
        yield (
            "Ranks by the initial and the evolved state (Fig. 6 of the paper)",
            plots.slopes(columns),
        )


def _ranks(values):
    import scipy.stats  # half a second

    found = scipy.stats.rankdata([-value for value in values.values()], method="min")
    return dict(zip(values, map(int, found), strict=True))
