"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import json

from ._console import say
from ._text import name_list, one_line
from .errors import InputError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# Flags that are handed on to the metric, only where they are given: (flag, type, help). A metric
# refuses options that it does not have.
METRIC_OPTIONS = (
    ("--time", float, "evolution time in the paper's unit of 1e-6 (1)"),
    ("--n-samples", int, "samples per class for the kernel (64)"),
    ("--svm", str, "multi-class form of the SVM: ww, ovr or cs (ww)"),
    ("--hinge", int, "power of the SVM's hinge loss: 1 or 2 (1)"),
    ("--C", float, "weight of the SVM's loss (1)"),
    ("--scale", str, "scaling of the features the SVM sees: unit, standard or none (unit)"),
    ("--cross-fit", int, "initial logits out of this many folds, not from the fitted data (off)"),
    ("--tol", float, "relative duality gap at which the SVM stops (1e-3)"),
    ("--seed", int, "seed of the random head and of the choice of samples (0)"),
    ("--dtype", str, "precision of the other metrics' products: float32 or float64 (float32)"),
    (
        "--reference",
        str,
        "what a metric compares with: for ped a data set of MODEL_REFERENCE_feature.npy or another "
        "zoo, for rsa and dds a model of the zoo or a file of features",
    ),
)


# What the functions behind the commands take beside options of metrics.
_NO_OPTIONS = {
    "zoo", "features", "labels", "metric", "device", "dataset", "progress", "store", "jobs",
    "title",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        say("error", f"{one_line(message)} (see {self.prog} --help)")
        raise SystemExit(EXIT_USAGE)


def command(commands, name, run, summary):
    """A command of the parser, with ``--json``."""
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def metric_arguments(parser):
    """Add the choice of metrics, device and options."""
    parser.add_argument(
        "--metric",
        metavar="NAME[,NAME...]",
        help="which metric or metrics; all for every one that can be computed (lead)",
    )
    parser.add_argument("--device", help="where to compute (where the features are)")
    group = parser.add_argument_group("options of the metric")
    for flag, kind, text in METRIC_OPTIONS:
        name = flag.removeprefix("--").replace("-", "_")
        group.add_argument(
            flag, type=kind, dest=f"option_{name}", default=None, metavar=name.upper(), help=text
        )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        type=_named_option,
        metavar="NAME=VALUE",
        help="any other option of a metric, the value as JSON or a plain word; may be repeated",
    )


def _named_option(text):
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    if name in _NO_OPTIONS:
        raise argparse.ArgumentTypeError(f"{name} is no option of a metric")
    if value in ("True", "False"):
        return name, value == "True"
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def metric_names(text):
    """What ``metric=`` takes: a name, ``"all"``, or a list of names; lead where None is given."""
    if text is None:
        return "lead"
    names = [name.strip() for name in text.split(",")]
    return names[0] if len(names) == 1 else [name for name in names if name]


def metric_options(arguments):
    """The options of metrics that were given: ``{name: value}``."""
    given = vars(arguments).items()
    prefix = "option_"
    options = {
        name.removeprefix(prefix): value
        for name, value in given
        if name.startswith(prefix) and value is not None
    }
    for name, value in arguments.option:
        if name == "repeats" and hasattr(arguments, name):
            raise InputError(f"--option {name}: it has a flag of its own, --{name}")
        if name in options:
            raise InputError(f"--option {name}: {name} is given twice")
        options[name] = value
    return options


def read_truth(path, models):
    """The truth table, checked against the models; those that it leaves out are pointed out."""
    from .evaluation import match_truth, read_table

    truth = read_table(path)
    _, unmatched = match_truth(models, truth, source=path)
    if unmatched:
        say("warning", f"{path} has no accuracy for {name_list(unmatched)}; tau leaves them out")
    return truth
