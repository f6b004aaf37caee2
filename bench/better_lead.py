"""Which options of LEAD rank better, chosen on the other tasks; and whether averages of metrics do.

    python bench/better_lead.py                                     # the real features at hand
    python bench/better_lead.py --also DIR                          # and those of make_zoo.py
    python bench/better_lead.py --features DIR --also FILE          # FILE: --json of another run

Every line is a weighted tau per task. The last part chooses, for each task, what did best on all
the other tasks, among fewer and among more candidates: what such a choice is worth on a task it has
not seen. With --also, what did best on the tasks of the first directory is shown on the others'.

- "components": the features' first 32 principal components at variance 1, each sample at unit
  length (as PARC prepares them), before LEAD.
- "relaxation time 1": when the mean kernel of a random head has learnt 1 - 1/e, which on samples of
  one length is the same for all classes.
- "pooled rates": every class at the mean of all rates. "class-balanced": the mean over the classes
  of their samples' mean log-probability. "three heads": the mean score of three draws.
- "temperature 0.1": the SVM's logits ten times as large. "Eq. 6": the samples of each class that
  its kernel was taken of, through all of the kernel's eigenvectors, not by the mean eigenvalue.
- "relative time 1": when a rate that is the median of the zoo's models' has learnt 1 - 1/e.
- "lead+": leave-one-out errors of the least-squares SVM on principal components, see the metric.
- "mean rank": the mean of the models' ranks. "sum": the share of log K by which the held-out logits
  are better than guessing, plus PARC's correlation; a score of one model alone.
"""

import json
import math
import pathlib

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata
from tables import arguments, load, mean, print_table, say, scores, tasks, tau

import lead_fast
from lead_fast.evaluation import agreement
from lead_fast.ntk import sample_rows

HELD_OUT = {"preset": "held-out"}
FEW = {
    "paper": {},
    "time 0": {"time": 0.0},
    "cross_fit 3": {"cross_fit": 3},
    "held-out": HELD_OUT,
}
MORE = {
    "expected head": {"head": "expected"},
    "three heads": {"repeats": 3},
    "held-out, standard, C 0.1": HELD_OUT | {"C": 0.1, "scale": "standard"},
}
FORMS = ("pooled rates", "class-balanced", "temperature 0.1", "Eq. 6")
RELATIVE = "relative time 1"
COMPONENTS = {
    "components, held-out": HELD_OUT,
    "components, cross_fit 3, relaxation time 1": {"cross_fit": 3, "head": "expected"},
}
LEAST_SQUARES = {
    f"lead+, {count} components, penalty {penalty:g}": {"n_components": count, "penalty": penalty}
    for count in (16, 32, 64)
    for penalty in (0.1, 0.3, 1.0)
    if (count, penalty) != (64, 0.1)  # which are those of lead+ itself
}
OTHERS = ("parc", "logme", "gbc", "etran", "knn")
AVERAGES = {
    "mean rank: parc, logme": ("parc", "logme"),
    "mean rank: parc, logme, gbc, etran": OTHERS[:4],
    "mean rank: these four and held-out": (*OTHERS[:4], "held-out"),
    "mean rank: parc, held-out": ("parc", "held-out"),
    "mean rank: held-out, components": ("held-out", "components, held-out"),
    "mean rank: parc, lead+": ("parc", "lead+"),
    "mean rank: parc, logme, lead+": ("parc", "logme", "lead+"),
}
SUM = "sum: parc, held-out"
HIDDEN = (1024, 2048)


def unit_components(x, count=32):
    """Principal components (N, C) float32 of variance 1, then each sample at unit length."""
    left, size, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    z = left[:, :count] * (size[:count] > 1e-3 * size[0])  # the rest is rounding
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def relaxation_time(features, n_classes):
    """LEAD's time at which exp(-rate * time) is 1/e, for samples of unit length; see `ntk`."""
    width = next(iter(features.values())).shape[1]
    rate = n_classes * (len(HIDDEN) + 1 + 1 + sum(HIDDEN) / width)
    return 1e6 / rate


def other_forms(features, labels, tol):
    """The scores of FORMS of one model: the paper's setting but for one thing."""
    model = lead_fast.MultiClassSVM(scale="unit", tol=tol).fit(features, labels)
    logits = model.decision_function(features)
    start = softmax(logits, axis=1)
    head = lead_fast.Head(features.shape[1], len(model.classes_))
    rates = lead_fast.class_rates(features, labels, head)
    pooled = np.full_like(rates, rates.mean())
    columns = np.searchsorted(model.classes_, labels)
    known = lead_fast.evolve(start, labels, rates)[np.arange(len(labels)), columns]
    by_class = np.bincount(columns, np.log(known)) / np.bincount(columns)
    kernels, known = lead_fast.class_kernels(features, labels, head), []
    for column, (name, rows) in enumerate(sample_rows(labels).items()):
        evolved = lead_fast.evolve_samples(start[rows], column, kernels[name])
        known.append(np.clip(evolved[:, column], 1e-6, 1.0))  # it may leave the simplex
    return (
        float(lead_fast.evolved_score(start, labels, pooled, 1.0)[0]),
        by_class.mean(),
        float(lead_fast.evolved_score(softmax(logits / 0.1, axis=1), labels, rates, 1.0)[0]),
        float(np.log(np.concatenate(known)).mean()),
    )


def relative_time(features, labels):
    """LEAD's time at which exp(-rate * time) is 1/e, for the median of the models' mean rates."""
    k = len(np.unique(labels))
    rates = [
        lead_fast.class_rates(x, labels, lead_fast.Head(x.shape[1], k)).mean()
        for x in features.values()
    ]
    return 1e6 / float(np.median(rates))


def study(features, labels, common):
    """``{candidate: {model: score}}`` of one task."""
    found = dict(scores(features, labels, (*OTHERS, "lead+")))
    for name, options in LEAST_SQUARES.items():
        found[name] = scores(features, labels, ["lead+"], **options)["lead+"]
    for name, options in {**FEW, **MORE}.items():
        say(f"  {name}")
        found[name] = scores(features, labels, ["lead"], **options, **common)["lead"]
    say("  " + ", ".join((*FORMS, RELATIVE)))
    time = relative_time(features, labels)
    found[RELATIVE] = scores(features, labels, ["lead"], time=time, **common)["lead"]
    values = {m: other_forms(np.float32(x), labels, **common) for m, x in features.items()}
    for place, name in enumerate(FORMS):
        found[name] = {m: value[place] for m, value in values.items()}
    n_classes = len(np.unique(labels))
    parts = {m: unit_components(np.asarray(x, np.float64)) for m, x in features.items()}
    for name, options in COMPONENTS.items():
        say(f"  {name}")
        if "relaxation" in name:
            options = options | {"time": relaxation_time(parts, n_classes)}
        found[name] = scores(parts, labels, ["lead"], **options, **common)["lead"]
    for name, members in AVERAGES.items():
        ranks = np.mean([rankdata([found[p][m] for m in features]) for p in members], axis=0)
        found[name] = dict(zip(features, ranks.tolist(), strict=True))
    found[SUM] = {
        m: 1.0 + found["held-out"][m] / math.log(n_classes) + found["parc"][m] / 100.0
        for m in features
    }
    return found


def best_of(table, places, among):
    """The candidate with the largest mean tau on these tasks."""
    return max(among, key=lambda name: np.mean([table[name][i] for i in places]))


def held_out_choice(table, names, among):
    """For each task the tau of what did best on the other tasks, and its name."""
    found = []
    for place in range(len(names)):
        best = best_of(table, [i for i in range(len(names)) if i != place], among)
        found.append((table[best][place], best))
    return found


def main(argv=None):
    """Print the table; see the module."""
    args = arguments(
        __doc__.split("\n", 1)[0], argv,
        ("--also", {"type": pathlib.Path, "action": "append", "default": []}),
        ("--tol", {"type": float, "default": 1e-3}),
    )  # fmt: skip
    table, names, lines, own = {}, [], [], 0
    for folder in (args.features, *args.also):
        if folder.is_file():
            earlier = json.loads(folder.read_text())
            names += [f"{folder.stem}/{task}" for task in earlier["tasks"]]
            for name, values in earlier["tau"].items():
                table.setdefault(name, []).extend(values)
            continue
        for task, models, truth in tasks(folder, "supervised", args.tasks):
            say(f"{folder.name}/{task}")
            names.append(task if folder == args.features else f"{folder.name}/{task}")
            values = study(*load(models), {"tol": args.tol})
            for name, found in values.items():
                table.setdefault(name, []).append(tau(found, truth, args.convention))
            for name in ("held-out", "lead+"):
                found = agreement(values[name], truth)[args.convention]
                limits = f"{found.low:.3f} to {found.high:.3f}"
                lines.append(f"{names[-1]}: {name} {found.value:.3f}, 95 % interval {limits}")
        own = own or len(names)
    rows = [["", *names, "mean"], *([n, *v, mean(v)] for n, v in table.items())]
    groups = {
        "few of LEAD": FEW,
        "all of LEAD but lead+": (*FEW, *MORE, *FORMS, RELATIVE, *COMPONENTS),
        "all of LEAD": ("lead+", *FEW, *MORE, *FORMS, RELATIVE, *COMPONENTS),
        "lead+ with other options": ("lead+", *LEAST_SQUARES),
        "LEAD's, other metrics, averages": table,
    }
    if len(names) > 1:
        for title, among in groups.items():
            chosen = held_out_choice(table, names, among)
            values = [value for value, _ in chosen]
            rows.append([f"chosen on the other tasks: {title}", *values, mean(values)])
            lines += [f"{title}, {n}: {c}" for n, (_, c) in zip(names, chosen, strict=True)]
    if own < len(names):
        for title, among in groups.items():
            best = best_of(table, range(own), among)
            value = np.mean(table[best][own:])
            lines.append(
                f"best of {title} on the first {own} tasks: {best}; {value:.3f} on the rest"
            )
    print_table(rows, args.markdown)
    print("\n" + "\n".join(lines))
    if args.json:
        args.json.write_text(json.dumps({"tasks": names, "tau": table}, indent=1))


if __name__ == "__main__":
    main()
