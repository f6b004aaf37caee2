"""Table 3 of the LEAD paper: weighted tau of each metric where a class has few samples.

    python bench/table3.py                      # the same protocol, on the real features at hand
    python bench/table3.py --features DIR --zoo selfsupervised

N/K samples of each class are drawn without replacement, five times; mean and standard deviation of
the tau over the draws. Where all models tie there is "no valid ranking", as in the paper; how many
of the draws were so is said where it is not all of them. See tables.py for DIR.
"""

import json

import numpy as np
from tables import TIED, arguments, difference, load, mean, print_table, say, scores, tasks, tau

from lead_fast.evaluation import paper_table

PER_CLASS = (2, 5, 10)
GROUPS = {"10-99 classes": (10, 99), "100+ classes": (100, 10**9)}


def draw(labels, per_class, seed):
    """Rows of `per_class` samples of each class, ascending; all of a class that has no more."""
    rng = np.random.default_rng(seed)
    chosen = []
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        chosen.append(rng.permutation(rows)[:per_class])
    return np.sort(np.concatenate(chosen))


def summary(taus):
    """Text and mean of the taus of the draws."""
    valid = [t for t in taus if isinstance(t, float)]
    if not valid:
        return (TIED if TIED in taus else "-"), None
    text = f"{np.mean(valid):.2f} +- {np.std(valid):.2f}"
    if len(valid) < len(taus):
        text += f" ({len(taus) - len(valid)} of {len(taus)}: {TIED})"
    return text, (float(np.mean(valid)) if len(valid) == len(taus) else None)


def main(argv=None):
    """Print the table; see the module."""
    args = arguments(
        __doc__.split("\n", 1)[0], argv,
        ("--draws", {"type": int, "default": 5}),
        ("--zoo", {"choices": ("supervised", "selfsupervised"), "default": "supervised"}),
    )  # fmt: skip
    classes, found = {}, {}
    for task, models, truth in tasks(args.features, args.zoo, args.tasks):
        features, labels = load(models)
        classes[task] = len(np.unique(labels))
        for per_class in PER_CLASS:
            say(f"{task}: {per_class} samples of each class")
            # Where no class has more, every draw is the whole: one result, of no spread.
            whole = np.unique(labels, return_counts=True)[1].max() <= per_class
            for number in range(1 if whole else args.draws):
                rows = draw(labels, per_class, number)
                some = {model: values[rows] for model, values in features.items()}
                for name, values in scores(some, labels[rows], args.metrics).items():
                    cell = found.setdefault((name, per_class), {}).setdefault(task, [])
                    value = tau(values, truth, args.convention)
                    cell.extend([value] * (args.draws if whole else 1))
            write(args, found)  # hours may have gone into it
    if not found:
        raise SystemExit(f"no task with features and accuracies in {args.features}")
    paper = {name.lower(): row for name, row in paper_table(3).items()}
    header = ["metric", "N/K", *classes]
    for group in GROUPS:
        header += [f"{group}: ours", "paper", "difference"]
    rows = [header]
    for name in args.metrics:
        for per_class in PER_CLASS:
            cells = {task: summary(taus) for task, taus in found[name, per_class].items()}
            row = [name, str(per_class), *(text for text, _ in cells.values())]
            for group, (low, high) in GROUPS.items():
                within = [cells[t][1] for t, k in classes.items() if low <= k <= high]
                ours = mean(within) if within else None
                theirs = paper.get(name, {}).get(str(per_class), {}).get(group, {}).get(args.zoo)
                row += [ours, theirs, difference(ours, theirs)]
            rows.append(row)
    print(f"weighted Kendall tau, convention {args.convention!r}, {args.draws} draws")
    print_table(rows, args.markdown)


def write(args, found):
    """The taus of all draws so far, where --json asks for them."""
    if args.json:
        table = {f"{name} {n}": cells for (name, n), cells in found.items()}
        args.json.write_text(json.dumps({"convention": args.convention, "tau": table}, indent=1))


if __name__ == "__main__":
    main()
