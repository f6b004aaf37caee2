"""How well can any score of this kind rank? lead+'s form with 1512 settings, chosen with hindsight.

    python bench/linear_scores.py --also DIR --also DIR    # the features at hand, and made zoos

The leave-one-out outputs of ridge regression on principal components: four ways to prepare the
features, six numbers of components, seven penalties, nine losses. Prints the settings with the best
mean weighted tau over all tasks, and how lead+'s setting misjudges each model: mean true rank and
mean rank by the score, over the tasks of a zoo.
"""

import collections
import itertools
import pathlib

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata
from tables import arguments, load, mean, print_table, say, tasks, tau

COMPONENTS = (8, 16, 32, 64, 128, None)  # None: all
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TEMPERATURES = (0.05, 0.1, 0.2, 0.4)
LEAD_PLUS = ("standardised", 64, 0.1, "squared error")


def standardised(x):
    """Columns of mean 0 and variance 1; constant ones are 0."""
    size = x.std(axis=0)
    varies = size > 1e-7 * np.abs(x.mean(axis=0))
    return np.where(varies, (x - x.mean(axis=0)) / np.where(varies, size, 1.0), 0.0)


def prepared(x):
    """``{name: features}``, columns of mean 0."""
    z = standardised(x)
    long = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return {
        "standardised": z,
        "centred": x - x.mean(axis=0),
        "equal length": long - long.mean(axis=0),
        "square root": standardised(np.sign(x) * np.sqrt(np.abs(x))),
    }


def losses(outputs, codes):
    """``{name: score}`` of leave-one-out outputs (N, K), higher is better."""
    rows = np.arange(len(codes))
    own, others = outputs[rows, codes], outputs.copy()
    others[rows, codes] = -np.inf
    margin = own - others.max(axis=1)
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    found = {
        "squared error": -(np.square(outputs).sum(axis=1) - 2 * own + 1).mean(),
        "accuracy": (margin > 0).mean(),
        "margin": np.clip(margin, -1, 1).mean(),
        "soft margin": np.tanh(4 * margin).mean(),
        "correlation": (centred[rows, codes] / np.linalg.norm(centred, axis=1)).mean(),
    }
    for temperature in TEMPERATURES:
        scaled = outputs / temperature
        found[f"likelihood at {temperature}"] = (scaled[rows, codes] - logsumexp(scaled, 1)).mean()
    return found


def study(x, labels):
    """``{(preparation, components, penalty, loss): score}`` of one model."""
    codes = np.unique(labels, return_inverse=True)[1]
    hot = np.eye(codes.max() + 1)[codes]
    shares, n, found = hot.mean(axis=0), len(codes), {}
    for name, z in prepared(np.asarray(x, np.float64)).items():
        left, size, _ = np.linalg.svd(z, full_matrices=False)
        kept = size > 1e-6 * size[0]
        left, square = left[:, kept], size[kept] ** 2
        along = left.T @ (hot - shares)
        for count, penalty in itertools.product(COMPONENTS, PENALTIES):
            part = slice(count)
            shrunk = square[part] / (square[part] + penalty * square[part].sum() / n)
            errors = (left[:, part] * shrunk) @ along[part] + shares - hot
            leverage = np.square(left[:, part]) @ shrunk + 1.0 / n
            outputs = hot + errors / (1.0 - leverage)[:, None]
            for loss, value in losses(outputs, codes).items():
                found[name, count, penalty, loss] = value
    return found


def main(argv=None):
    """Print both tables; see the module."""
    also = {"type": pathlib.Path, "action": "append", "default": []}
    args = arguments(__doc__.split("\n", 1)[0], argv, ("--also", also))
    taus, misjudged = collections.defaultdict(list), collections.defaultdict(list)
    for folder in (args.features, *args.also):
        for task, models, truth in tasks(folder, "supervised", args.tasks):
            say(f"{folder.name}/{task}")
            features, labels = load(models)
            values = {model: study(x, labels) for model, x in features.items()}
            for setting in next(iter(values.values())):
                found = {model: values[model][setting] for model in values}
                taus[setting].append(tau(found, truth, args.convention))
            true = rankdata([-truth[model] for model in truth])
            ours = rankdata([-values[model][LEAD_PLUS] for model in truth])
            for model, *ranks in zip(truth, true, ours, strict=True):
                misjudged[folder.name, model].append(ranks)
    best = sorted(taus, key=lambda setting: -mean(taus[setting]))[:15]
    rows = [["setting", "mean", "lowest"]]
    for setting in (*best, LEAD_PLUS):
        name = ", ".join("all" if part is None else str(part) for part in setting)
        rows.append([name, mean(taus[setting]), min(taus[setting])])
    say(f"{len(taus)} settings")
    print_table(rows, args.markdown)
    rows = [["model", "true rank", "rank by lead+'s setting"]]
    for (folder, model), ranks in misjudged.items():
        rows.append([f"{folder}/{model}", *np.mean(ranks, axis=0)])
    print_table(rows, args.markdown)


if __name__ == "__main__":
    main()
