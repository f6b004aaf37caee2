"""Figures 3 to 6 of the LEAD paper on a zoo, as tables and, with matplotlib, as plots.

    python bench/figures.py                          # tables, of the real features at hand
    python bench/figures.py --plots DIR              # and DIR/TASK-*.png

- Figs. 3 and 5: distance between the soft-max of the really fine-tuned logits (array `finetuned` of
  MODEL.npz) and what LEAD, SFDA and PED predict for it; quantiles of the true class's value.
- Fig. 4: weighted tau against the time and against the samples per class.
- Fig. 6: ranks by the initial state and by the evolved one beside the true ranks.
"""

import json
import pathlib

import numpy as np
import plain_metrics
import scipy.special
import scipy.stats
from tables import arguments, cell, load, print_table, say, tasks

import lead_fast
from lead_fast.evaluation import weighted_tau

TIMES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SAMPLES = (4, 8, 16, 32, 64, 128, 256)
SHOWN = (0.01, 0.1, 1.0, 10.0)  # times at which the evolved state is compared with the truth
QUANTILES = (0.1, 0.5, 0.9)


def initial_state(features, labels):
    """Soft-max (N, K) of LEAD's SVM, trained and evaluated on the features."""
    model = lead_fast.MultiClassSVM(scale="unit").fit(features, labels)
    values = model.decision_function(features)
    if values.ndim == 1:
        values = np.column_stack([np.zeros_like(values), values])
    return scipy.special.softmax(values.astype(np.float64), axis=1)


def sfda_state(x, y):
    """Posteriors (N, K) of SFDA's second analysis, by the plain code."""
    first, amount = plain_metrics._fisher(x, y, None)
    soft = scipy.special.softmax(first, axis=1)[np.arange(len(y)), y][:, None]
    means = plain_metrics._class_means(x, y)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    return plain_metrics._fisher(soft * x + (1 - soft) * others[y], y, amount)[0]


def predictions(features, labels, initial, rates):
    """``{name: (N, K)}``, what each method predicts; without those that fail."""
    found = {"initial state": initial}
    for time in SHOWN:
        found[f"LEAD, time {time:g}"] = lead_fast.evolve(initial, labels, rates, time)
    x = np.asarray(features, np.float64)
    for name, predict in (
        ("SFDA", lambda: sfda_state(x, labels)),
        ("PED", lambda: plain_metrics.ped(x, labels, over=sfda_state)),
    ):
        try:
            state = predict()
        except (np.linalg.LinAlgError, ValueError) as error:
            say(f"{name}: skipped, {error}")
            continue
        if np.isfinite(state).all():
            found[name] = state
    return found


def compare_states(final, states, labels):
    """Mean Euclidean distance and quantiles of the true class's value, per state."""
    own = np.arange(len(labels)), labels
    return {
        name: (
            float(np.linalg.norm(state - final, axis=1).mean()),
            *np.quantile(state[own], QUANTILES).tolist(),
        )
        for name, state in {"fine-tuned": final, **states}.items()
    }


def finetuned(model, shape):
    """Soft-max of the fine-tuned logits (N, K); None where the file has none."""
    path = pathlib.Path(model.features)
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as file:
        if "finetuned" not in file:
            return None
        logits = file["finetuned"].astype(np.float64)
    return scipy.special.softmax(logits, axis=1) if logits.shape == shape else None


def study(models, truth, convention):
    """All tables of one task, as a dictionary."""
    features, labels = load(models)
    labels = np.unique(labels, return_inverse=True)[1]
    n_classes, names = labels.max() + 1, [model.name for model in models]
    evolved, by_samples, start, states = {}, {s: {} for s in SAMPLES}, {}, {}
    for model in models:
        x = np.asarray(features[model.name], np.float32)
        initial = initial_state(x, labels)
        head = lead_fast.Head(x.shape[1], n_classes)
        for size in SAMPLES:
            rates = lead_fast.class_rates(x, labels, head, n_samples=size)
            score = lead_fast.evolved_score(initial, labels, rates, [1.0])
            by_samples[size][model.name] = float(score[0])
            if size == 64:
                paper = rates
        scores = lead_fast.evolved_score(initial, labels, paper, [0.0, *TIMES])
        start[model.name], evolved[model.name] = float(scores[0]), scores[1:].tolist()
        final = finetuned(model, initial.shape)
        if final is not None:
            states[model.name] = compare_states(
                final, predictions(x, labels, initial, paper), labels
            )
    accuracies = [truth[name] for name in names]

    def tau(values):
        return weighted_tau([values[name] for name in names], accuracies, convention)

    at_one = {name: values[TIMES.index(1.0)] for name, values in evolved.items()}
    return {
        "time": {
            f"{time:g}": tau({name: values[i] for name, values in evolved.items()})
            for i, time in enumerate(TIMES)
        },
        "samples": {str(size): tau(values) for size, values in by_samples.items()},
        "ranks": {
            name: ranks
            for name, *ranks in zip(
                names, *(_ranks([v[n] for n in names]) for v in (truth, start, at_one)), strict=True
            )
        },
        "tau of the initial state": tau(start),
        "states": states,
    }


def _ranks(values):
    return scipy.stats.rankdata([-v for v in values], method="min").astype(int).tolist()


def show(task, found, markdown):
    """Print the tables of one task."""
    print(f"\n## {task}\n")
    if found["states"]:
        rows = [["state", "mean distance", *(f"true class, {q:.0%}" for q in QUANTILES)]]
        rows += [[name, *values] for name, values in average(found["states"]).items()]
        print(f"Figs. 3 and 5: mean over {len(found['states'])} models")
        print_table(rows, markdown)
    else:
        print("Figs. 3 and 5: skipped, no archive holds the fine-tuned logits")
    for key, title in (("time", "time"), ("samples", "samples per class")):
        print(f"\nFig. 4: weighted tau against the {title}")
        print_table([[title, *found[key]], ["tau", *found[key].values()]], markdown)
    print(f"\nFig. 6: ranks (tau of the initial state {cell(found['tau of the initial state'])})")
    rows = [["model", "true", "initial", "evolved"]]
    ranks = sorted(found["ranks"].items(), key=lambda item: item[1])
    print_table([*rows, *([name, *map(str, values)] for name, values in ranks)], markdown)


def average(states):
    """Mean over models of each state that all of them have."""
    common = set.intersection(*(set(found) for found in states.values()))
    first = next(iter(states.values()))
    return {
        name: np.mean([found[name] for found in states.values()], axis=0).tolist()
        for name in first
        if name in common
    }


def plot(task, found, folder, plt):
    """Three pictures of one task."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    for axes, key, title in ((left, "time", "time"), (right, "samples", "samples per class")):
        axes.semilogx([float(v) for v in found[key]], list(found[key].values()), "o-")
        axes.set(xlabel=title, ylabel="weighted tau", title=task)
    _save(figure, folder / f"{task}-ablation.png", plt)
    figure, axes = plt.subplots(figsize=(5, 6))
    for name, (true, initial, evolved) in found["ranks"].items():
        axes.plot([0, 1, 2], [initial, evolved, true], "o-")
        axes.text(2.05, true, name, fontsize=7, va="center")
    axes.set_xticks([0, 1, 2], ["initial", "evolved", "true"])
    axes.set(ylabel="rank", title=task, xlim=(-0.1, 3.2))
    axes.invert_yaxis()
    _save(figure, folder / f"{task}-ranks.png", plt)
    if not found["states"]:
        return
    rows = average(found["states"])
    figure, axes = plt.subplots(figsize=(6, 3.5))
    for place, (low, middle, high) in enumerate(values[1:] for values in rows.values()):
        axes.plot([low, high], [place, place], "-", linewidth=6, alpha=0.4)
        axes.plot([middle], [place], "k|", markersize=14)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="value of the true class: 10, 50 and 90 %", title=task)
    _save(figure, folder / f"{task}-states.png", plt)


def _save(figure, path, plt):
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _pyplot():
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plots needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def main(argv=None):
    """Print the tables and draw the plots; see the module."""
    args = arguments(
        __doc__.split("\n", 1)[0], argv, ("--plots", {"metavar": "DIR", "type": pathlib.Path})
    )
    plt = args.plots and _pyplot()
    result = {}
    for task, models, truth in tasks(args.features, "supervised", args.tasks):
        say(f"{task}: {len(models)} models")
        result[task] = study(models, truth, args.convention)
        show(task, result[task], args.markdown)
        if plt:
            args.plots.mkdir(parents=True, exist_ok=True)
            plot(task, result[task], args.plots, plt)
    if not result:
        raise SystemExit(f"no task with features and accuracies in {args.features}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
