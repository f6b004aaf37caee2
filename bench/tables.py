"""What table1.py, table2.py and table3.py share: tasks with features and accuracies, and printing.

--features DIR is either one directory per task (DIR/TASK/, in any layout of lead-fast rank), or one
directory of MODEL_TASK_feature.npy files, as lead-fast extract and the public codes write them.
The accuracies of a task are those of DIR/TASK/truth.json, or else the published ones.
"""

import argparse
import json
import math
import pathlib
import re
import sys
import warnings

import numpy as np

import lead_fast
from lead_fast import metrics
from lead_fast.errors import LeadFastError
from lead_fast.evaluation import paper_table, true_accuracies, weighted_tau
from lead_fast.zoo.read import open_zoo

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = ("PARC", "LogME", "NLEEP", "PACTran", "SFDA", "GBC", "ETran", "PED", "LEAD")
EXTRA = ("knn", "hscore", "transrate")
USUAL = (*(name.lower() for name in COLUMNS), *EXTRA)
TIED = "no valid ranking"
CONVENTIONS = ("scipy", "paper")


def default_zoo():
    """The real features beside this checkout, else the example's."""
    beside = ROOT.parent / "shared" / "zoo"
    return beside if beside.is_dir() else ROOT / "examples" / "zoo"


def arguments(description, argv, *extra, metrics_of=USUAL):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--features", metavar="DIR", type=pathlib.Path, default=default_zoo())
    parser.add_argument("--tasks", help="only these, separated by commas")
    parser.add_argument(
        "--metrics",
        default=",".join(metrics_of),
        help="names of lead_fast.metrics, separated by commas",
    )
    parser.add_argument("--convention", choices=CONVENTIONS, default="scipy", help="of the tau")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path)
    for flag, options in extra:
        parser.add_argument(flag, **options)
    found = parser.parse_args(argv)
    found.metrics = found.metrics.split(",")
    found.tasks = found.tasks and found.tasks.split(",")
    try:
        for name in found.metrics:
            metrics.get(name)
        if not found.features.is_dir():
            raise LeadFastError(f"--features {found.features}: no such directory")
    except LeadFastError as error:
        parser.error(str(error))
    return found


def tasks(folder, published, wanted=None):
    """Name, open zoo and accuracies of each task; those without accuracies are named and skipped.

    Parameters
    ----------
    folder : Path
    published : {"supervised", "selfsupervised"}
    wanted : list of str, optional
    """
    known, found = true_accuracies(published), {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        if path.name in known or (path / "truth.json").exists():
            found[path.name] = (path, None)
    for path in sorted(folder.glob("*_feature.npy")):
        name = re.fullmatch(r".+_([^_]+)_feature\.npy", path.name)
        if name and name[1] in known:
            found[name[1]] = (folder, name[1])
    for task in wanted or found:
        if task not in found:
            say(f"{task}: skipped, no features and accuracies in {folder}")
            continue
        path, dataset = found[task]
        file = path / "truth.json"
        if dataset is None and file.exists():
            truth = json.loads(file.read_text())
        else:
            truth = known[task]
        zoo = open_zoo(path, dataset)
        usable = [model for model in zoo.models if model.name in truth]
        if len(usable) < 3:
            say(f"{task}: skipped, accuracies for {len(usable)} models")
            continue
        yield task, usable, {model.name: truth[model.name] for model in usable}


def load(models):
    """Features by model name, and their labels, which must be one and the same."""
    features = {model.name: np.asarray(model.read_features()) for model in models}
    labels = models[0].read_labels()
    for model in models[1:]:
        if not np.array_equal(model.read_labels(), labels):
            raise SystemExit(f"{model.name} has labels of its own; order the samples alike")
    return features, np.asarray(labels)


def scores(features, labels, names, **options):
    """``{metric: {model: score}}``; a metric that cannot be computed has fewer models, or none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = {}
        for name in names:  # one at a time, so that one that refuses these labels stops no other
            try:
                ranking = lead_fast.rank(features, labels, name, progress=False, **options)
                found[name] = ranking.scores
                error = next(iter(ranking.failed.values()), None)
            except LeadFastError as failure:
                found[name], error = {}, str(failure)
            if error:
                say(f"{name}: {len(features) - len(found[name])} models not scored: {error}")
    return found


def tau(found, truth, convention):
    """Weighted tau of the models; None without a score of every model, TIED where all tie."""
    if set(found) != set(truth):
        return None
    values = np.array([found[model] for model in truth])
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return TIED
    return weighted_tau(values, list(truth.values()), convention)


def print_table(rows, markdown):
    text = [[cell(value) for value in row] for row in rows]
    if markdown:
        rule = ["---", *["---:"] * (len(rows[0]) - 1)]
        print("\n".join("| " + " | ".join(line) + " |" for line in [text[0], rule, *text[1:]]))
        return
    widths = [max(len(line[i]) for line in text) for i in range(len(rows[0]))]
    for line in text:
        pairs = enumerate(zip(line, widths, strict=True))
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in pairs).rstrip())


def cell(value):
    if isinstance(value, str):
        return value
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def by_data_set(number, published, description, argv):
    """Tables 1 and 2: weighted tau by metric and data set; paper, ours, difference."""
    args = arguments(description, argv)
    paper, ours = paper_table(number), {}
    for task, models, truth in tasks(args.features, published, args.tasks):
        features, labels = load(models)
        say(f"{task}: {len(models)} models, {len(labels)} samples")
        for name, found in scores(features, labels, args.metrics).items():
            ours.setdefault(name, {})[task] = tau(found, truth, args.convention)
    if not ours:
        raise SystemExit(f"no task with features and accuracies in {args.features}")
    names = list(next(iter(ours.values())))
    rows = [["metric", *names, "mean"]]
    lower = {column.lower(): column for column in COLUMNS}
    for name, row in ours.items():
        theirs = [paper.get(lower.get(name), {}).get(task) for task in names]
        mine = [row[task] for task in names]
        rows.append([f"{name} (paper)", *theirs, mean(theirs)])
        rows.append([f"{name} (ours)", *mine, mean(mine)])
        gap = [difference(a, b) for a, b in zip(mine, theirs, strict=True)]
        rows.append(["  difference", *gap, mean(gap)])
    print(f"weighted Kendall tau, convention {args.convention!r}")
    print_table([row for row in rows if any(v is not None for v in row[1:])], args.markdown)
    if args.json:
        args.json.write_text(json.dumps({"convention": args.convention, "tau": ours}, indent=1))


def difference(ours, theirs):
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours - theirs
    return None


def mean(values):
    """Mean of the taus; None unless there is one for every task."""
    return float(np.mean(values)) if all(isinstance(v, float) for v in values) else None


def say(text):
    print(text, file=sys.stderr, flush=True)
