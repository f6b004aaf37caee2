"""Results as lines of text: taus, agreement, columns of equal width."""

from __future__ import annotations

from ..evaluation import CONVENTIONS

TAU_NAMES = {"scipy": "SciPy's convention", "paper": "Eq. (1) of the paper"}


def tau_lines(tau):
    """Both weighted taus as lines that name their conventions."""
    values = {name: "undefined (no order)" if t != t else f"{t:.4f}" for name, t in tau.items()}
    return [f"weighted tau, {TAU_NAMES[name]}: {text}" for name, text in values.items()]


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
        return f"weighted tau, {TAU_NAMES[name]}"
    if name.startswith("top"):
        k = name.removeprefix("top").removesuffix("_regret")
        return f"top-{k} regret (in the unit of the accuracies)"
    return {"kendall": "Kendall tau-b", "pearson": "Pearson correlation"}[name]


def align(rows):
    """Columns of equal width: the second (names) to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
