"""What lies beyond the features of the last layer: hidden layers, and the size of the model.

    python bench/beyond_last_layer.py --features DIR --also DIR    # zoos of make_zoo.py

First the published accuracies of the paper's supervised models: the weighted tau of their numbers
of parameters and of operations, beside those of the metrics in the paper. Then the tasks of zoos
whose files have hidden layers and sizes; others are named and skipped.

- "METRIC, hidden": on what lead-fast extract --join takes, outputs of at most four layers before
  the last, side by side. "both": these and the last.
- "parameters", "operations" alone: the order of the sizes; models of one architecture tie.
- "METRIC, size": the metric and the logarithm of the number of parameters, each standardised over
  the models, added. "operations": with those in place of the parameters.
"""

import json
import pathlib

import numpy as np
from tables import COLUMNS, arguments, load, mean, print_table, say, scores, tasks, tau

from lead_fast.evaluation import model_sizes, paper_table, true_accuracies
from lead_fast.zoo import formats

SIZES = ("parameters", "operations")
METRICS = ("lead+", "parc", "logme", "hscore", "gbc")


def published(convention):
    """Rows: weighted tau on the paper's data sets, of sizes and of what it reports."""
    truth, theirs = true_accuracies(), paper_table(1)
    names = [name for name in truth if name in theirs["LEAD"]]
    rows = [["", *names, "mean"]]
    for of in SIZES:
        values = [tau(model_sizes(of), truth[name], convention) for name in names]
        rows.append([f"{of} alone", *values, mean(values)])
    for metric in COLUMNS:
        values = [theirs[metric][name] for name in names]
        rows.append([f"{metric} (paper)", *values, mean(values)])
    return rows


def sizes(models, of):
    """``{model: size}`` of files; None unless all of them say it."""
    found = {
        model.name: formats.read_integer(model.features, of)
        for model in models
        if model.features.suffix == ".npz"
    }
    return found if found and len(found) == len(models) and None not in found.values() else None


def hidden_features(models):
    """``{model: features of hidden layers}``; None unless all files have them."""
    if not all("hidden" in formats.array_names(model.features) for model in models):
        return None
    return {model.name: formats.read_array(model.features, "hidden") for model in models}


def with_size(found, size):
    """``{model: score}`` of a metric and sizes, at equal scale."""
    values = np.array([[found[model], np.log(number)] for model, number in size.items()])
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return dict(zip(size, scaled.sum(axis=1).tolist(), strict=True))


def study(features, hidden, labels, size, names):
    """``{candidate: {model: score}}`` of one task; `size` is ``{of: {model: number}}``."""
    found = scores(features, labels, names)
    for name, values in scores(hidden, labels, names).items():
        found[f"{name}, hidden"] = values
    both = {model: np.hstack([x, hidden[model]]) for model, x in features.items()}
    found["lead+, both"] = scores(both, labels, ["lead+"])["lead+"]
    found |= {f"{of} alone": size[of] for of in SIZES}
    for name in (*names, "lead+, hidden"):
        if len(found.get(name, ())) == len(features):
            found[f"{name}, size"] = with_size(found[name], size["parameters"])
            found[f"{name}, operations"] = with_size(found[name], size["operations"])
    return found


def main(argv=None):
    """Print both tables; see the module."""
    args = arguments(
        __doc__.split("\n", 1)[0], argv,
        ("--also", {"type": pathlib.Path, "action": "append", "default": []}),
        metrics_of=METRICS,
    )  # fmt: skip
    print_table(published(args.convention), args.markdown)
    table, names = {}, []
    for folder in (args.features, *args.also):
        for task, models, truth in tasks(folder, "supervised", args.tasks):
            size = {of: sizes(models, of) for of in SIZES}
            hidden = hidden_features(models)
            if None in (*size.values(), hidden):
                say(f"{folder.name}/{task}: skipped, its files lack sizes or hidden layers")
                continue
            names.append(f"{folder.name}/{task}")
            say(names[-1])
            features, labels = load(models)
            for name, found in study(features, hidden, labels, size, args.metrics).items():
                table.setdefault(name, []).append(tau(found, truth, args.convention))
    if not names:
        return
    rows = [["", *names, "mean", "lowest"]]
    for name, values in table.items():
        lowest = min(values) if all(isinstance(value, float) for value in values) else None
        rows.append([name, *values, mean(values), lowest])
    print()
    print_table(rows, args.markdown)
    if args.json:
        args.json.write_text(json.dumps({"tasks": names, "tau": table}, indent=1))


if __name__ == "__main__":
    main()
