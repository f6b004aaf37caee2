"""Which options of LEAD rank better, chosen on the other tasks; and whether averages of metrics do.

    python bench/better_lead.py

Every line is a weighted tau per task. The last part chooses, for each task, the options that did
best on the other tasks, once among cross-fitting and time alone and once among all: what such a
choice is worth on a task it has not seen. The averages are of the models' ranks.
"""

import json

import numpy as np
from scipy.stats import rankdata
from tables import arguments, load, mean, print_table, say, scores, tasks, tau

from lead_fast.evaluation import agreement

FEW = {
    "paper": {},
    "time 0": {"time": 0.0},
    "cross_fit 3": {"cross_fit": 3},
    "held-out": {"preset": "held-out"},
}
ALL = FEW | {
    "expected head": {"head": "expected"},
    "cross_fit 3, time 0.1": {"cross_fit": 3, "time": 0.1},
    "held-out, C 0.1": {"preset": "held-out", "C": 0.1},
    "held-out, C 10": {"preset": "held-out", "C": 10.0},
    "held-out, standard": {"preset": "held-out", "scale": "standard"},
    "held-out, standard, C 0.1": {"preset": "held-out", "scale": "standard", "C": 0.1},
}
OTHERS = ("parc", "logme", "gbc", "etran")
AVERAGES = {
    "mean rank: parc, logme": ("parc", "logme"),
    "mean rank: parc, logme, gbc, etran": OTHERS,
    "mean rank: these four and held-out": (*OTHERS, "held-out"),
}


def held_out_choice(table, names, among):
    """For each task the tau of what did best on the other tasks, and its name."""
    found = []
    for place in range(len(names)):
        rest = [i for i in range(len(names)) if i != place]
        best = max(among, key=lambda name: np.mean([table[name][i] for i in rest]))
        found.append((table[best][place], best))
    return found


def main(argv=None):
    """Print the table; see the module."""
    args = arguments(__doc__.split("\n", 1)[0], argv)
    table, names, lines = {}, [], []
    for task, models, truth in tasks(args.features, "supervised", args.tasks):
        features, labels = load(models)
        names.append(task)
        values = dict(scores(features, labels, OTHERS))
        for name, options in ALL.items():
            say(f"{task}: {name}")
            values[name] = scores(features, labels, ["lead"], **options)["lead"]
        for name, parts in AVERAGES.items():
            ranks = np.mean([rankdata([values[p][m] for m in truth]) for p in parts], axis=0)
            values[name] = dict(zip(truth, ranks.tolist(), strict=True))
        for name, found in values.items():
            table.setdefault(name, []).append(tau(found, truth, args.convention))
        interval = agreement(values["held-out"], truth)[args.convention]
        lines.append(f"{task}: held-out {interval.value:.3f}, {interval.low:.3f} to "
                     f"{interval.high:.3f} in 95 % of the resamples of its models")  # fmt: skip
    rows = [["", *names, "mean"], *([n, *v, mean(v)] for n, v in table.items())]
    if len(names) > 1:
        for title, among in (("few", FEW), ("all", ALL)):
            chosen = held_out_choice(table, names, among)
            values = [value for value, _ in chosen]
            rows.append([f"chosen on the other tasks among {title}", *values, mean(values)])
            lines += [f"among {title}, {n}: {c}" for n, (_, c) in zip(names, chosen, strict=True)]
    print_table(rows, args.markdown)
    print("\n" + "\n".join(lines))
    if args.json:
        args.json.write_text(json.dumps({"tasks": names, "tau": table}, indent=1))


if __name__ == "__main__":
    main()
