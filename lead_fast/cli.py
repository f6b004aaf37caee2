"""The command line: ``lead-fast rank | score | tau | info``.

Results go to stdout; messages, warnings and progress go to stderr, one line each. NumPy and the
native core are imported by the commands that need them, so that ``--help`` does not wait for them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from pathlib import Path

from ._text import name_list, one_line, printable
from ._version import __version__
from .errors import InputError, LeadFastError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
_DEBUG = "LEAD_FAST_DEBUG"

# Flags that are handed on to the metric, only where they are given: (flag, type, help). A metric
# refuses options that it does not have.
_METRIC_OPTIONS = (
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


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 if everything was scored, 1 if a model failed or something unforeseen
        happened, 2 for wrong usage or input, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name need not be printable
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            return arguments.run(arguments)
    except KeyboardInterrupt:
        _say("error", "interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        if isinstance(error, LeadFastError):
            _say("error", one_line(error))
            return EXIT_USAGE
        _say("error", f"{type(error).__name__}: {one_line(error)} ({_DEBUG}=1 shows where)")
        return EXIT_FAILED


# Commands


def _rank(arguments):
    from .zoo.read import open_zoo, read_labels
    from .zoo.run import rank_models

    zoo = open_zoo(arguments.zoo, arguments.dataset)
    truth = None if arguments.truth is None else _read_truth(arguments.truth, zoo.names)
    metric = _metric_names(arguments.metric)
    if arguments.format == "sfda":
        out = _ScoreFiles(arguments.out, arguments.dataset or zoo.dataset or Path(arguments.zoo))
    else:
        out = None if arguments.out is None else _Output(arguments.out)
    ranking = rank_models(
        zoo,
        None if arguments.labels is None else read_labels(arguments.labels),
        metric,
        device=arguments.device,
        progress=None,
        **_metric_options(arguments),
    )
    for model, error in ranking.failed.items():
        _say("error", f"{printable(model)}: {error}")
    rankings = [ranking] if isinstance(metric, str) and metric != "all" else list(ranking)
    if truth and all(len(one.scores.keys() & truth.keys()) < 2 for one in rankings):
        _say("warning", "no weighted tau: fewer than 2 models have a score and an accuracy")
        truth = None

    def result(as_json):
        return _json(ranking.to_dict(truth)) if as_json else ranking.table(truth)

    try:
        if arguments.format == "sfda":
            out.write(rankings)
        elif out:
            out.write(result(arguments.json or out.is_json))
    finally:
        _print(result(arguments.json))
    return EXIT_FAILED if ranking.failed else EXIT_OK


def _score(arguments):
    from .scorer import Scorer
    from .zoo.formats import ARCHIVES, read_array
    from .zoo.read import read_features, read_labels

    label_file = arguments.features if arguments.labels is None else arguments.labels
    if arguments.labels is None and not arguments.features.endswith(ARCHIVES):
        raise InputError(f"{arguments.features} holds no labels; give a file of labels after it")
    metric = _metric_names(arguments.metric)
    options = _metric_options(arguments)
    for name in ("source", "reference"):  # a file here, as there is no zoo to take it from
        path = getattr(arguments, name, None) or options.get(name)
        if path is not None:
            options[name] = read_array(path, "output" if name == "source" else "features")
    scorer = Scorer(read_labels(label_file), metric=metric, device=arguments.device, **options)
    score = scorer(read_features(arguments.features))
    if isinstance(score, dict):
        if arguments.json:
            _print(_json({"metrics": list(score), "device": scorer.device, "scores": score}))
        else:
            _print("\n".join(f"{name}: {value!r}" for name, value in score.items()))
    elif arguments.json:
        _print(_json({"metric": metric, "device": scorer.device, "score": float(score)}))
    else:
        _print(repr(float(score)))
    return EXIT_OK


def _tau(arguments):
    from .evaluation import agreement, read_table, ties
    from .zoo.report import agreement_dict, agreement_lines

    scores = read_table(arguments.scores)
    truth = _read_truth(arguments.truth, scores)
    common = [model for model in scores if model in truth]
    pair = [scores[model] for model in common], [truth[model] for model in common]
    found = agreement(*pair, n_boot=arguments.bootstrap, seed=arguments.seed)
    if arguments.json:
        _print(_json(agreement_dict(found, ties(*pair))))
    else:
        _print("\n".join(agreement_lines(found, ties(*pair))))
    return EXIT_OK


def _info(arguments):
    from . import build_info, metrics

    info = {"version": __version__, "metrics": metrics.names(), **build_info()}
    if arguments.json:
        _print(_json(info))
    else:
        lines = (f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in info.items())
        _print("\n".join(lines))
    return EXIT_OK


# Arguments


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        _say("error", f"{one_line(message)} (see {self.prog} --help)")
        raise SystemExit(EXIT_USAGE)


def _parser():
    parser = _Parser(
        prog="lead-fast",
        description="Rank pre-trained models by how well their features transfer to a data set.",
        epilog="Exit status: 0 all scored, 1 some failed, 2 wrong usage or input, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lead-fast {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")

    rank = _command(commands, "rank", _rank, "rank the models of a directory")
    rank.add_argument(
        "zoo", metavar="ZOO", help="directory of feature files, in any of the layouts"
    )
    _metric_arguments(rank)
    rank.add_argument("--labels", metavar="FILE", help="labels for every model, not the zoo's own")
    rank.add_argument("--dataset", help="which DATASET of MODEL_DATASET_feature.npy files")
    rank.add_argument("--truth", metavar="TRUTH.json", help="{model: accuracy}; adds weighted tau")
    rank.add_argument(
        "--out", metavar="FILE", help="also write the result here (as JSON if FILE ends in .json)"
    )
    rank.add_argument(
        "--format",
        choices=("own", "sfda"),
        default="own",
        help="of --out: own, or sfda for OUT/METRIC/DATASET_metrics.json of {model: score}",
    )

    score = _command(commands, "score", _score, "score one model")
    score.add_argument("features", metavar="FEATURES", help=".npy, .npz or .safetensors")
    score.add_argument(
        "labels",
        metavar="LABELS",
        nargs="?",
        help=".npy, .npz, .safetensors or .txt; may be left out if FEATURES holds labels",
    )
    _metric_arguments(score)
    score.add_argument(
        "--source", metavar="FILE", help="outputs of the source classifier, for leep and nce"
    )

    tau = _command(commands, "tau", _tau, "compare scores with true accuracies")
    tau.add_argument(
        "scores", metavar="SCORES.json", help="{model: score}, or what rank --json printed"
    )
    tau.add_argument("truth", metavar="TRUTH.json", help="{model: accuracy}")
    tau.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of the models for the 95 %% intervals; 0 for none (1000)",
    )
    tau.add_argument("--seed", type=int, default=0, help="seed of the resamples (0)")

    _command(commands, "info", _info, "say how this package was built and what it found")
    return parser


def _command(commands, name, run, summary):
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _metric_arguments(parser):
    parser.add_argument(
        "--metric",
        default="lead",
        metavar="NAME[,NAME...]",
        help="which metric or metrics; all for every one that can be computed (lead)",
    )
    parser.add_argument("--device", help="where to compute (where the features are)")
    group = parser.add_argument_group("options of the metric")
    for flag, kind, text in _METRIC_OPTIONS:
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
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()


def _metric_names(text):
    """What ``metric=`` takes: a name, ``"all"``, or a list of names."""
    names = [name.strip() for name in text.split(",")]
    return names[0] if len(names) == 1 else [name for name in names if name]


def _metric_options(arguments):
    given = vars(arguments).items()
    prefix = "option_"
    options = {
        name.removeprefix(prefix): value
        for name, value in given
        if name.startswith(prefix) and value is not None
    }
    return {**options, **dict(arguments.option)}


# Files


def _read_truth(path, models):
    """The truth table, checked against the models; those that it leaves out are pointed out."""
    from .evaluation import match_truth, read_table

    truth = read_table(path)
    _, unmatched = match_truth(models, truth, source=path)
    if unmatched:
        _say("warning", f"{path} has no accuracy for {name_list(unmatched)}; tau leaves them out")
    return truth


class _Output:
    """A file written in one step at the end; whether that can work is checked at the start."""

    def __init__(self, path):
        if str(Path(path).absolute()).startswith(("/dev/", "/proc/")):
            raise InputError(f"--out {path}: is not a regular file")
        self.path = Path(path).resolve()  # through a link, so that its target is replaced
        self.is_json = self.path.suffix == ".json"
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"--out {path}: is not a regular file")
        if not self.path.parent.is_dir():
            raise InputError(f"--out {path}: there is no directory {self.path.parent}")
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise InputError(f"--out {path}: cannot write to the directory {self.path.parent}")

    def write(self, text):
        """Write a temporary file beside `path` and rename it, so that no half file is ever seen."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            raise InputError(f"--out {self.path}: {error.strerror}") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


class _ScoreFiles:
    """``{model: score}`` files by metric and data set, as the public SFDA, PED and ETran code has.

    Parameters
    ----------
    path : str
        A directory, which gets METRIC/DATASET_metrics.json; or, for one metric, a .json file.
    dataset : str or Path
    """

    def __init__(self, path, dataset):
        if path is None:
            raise InputError("--format sfda writes files: give --out a directory or a .json file")
        self.path, self.dataset = Path(path), Path(dataset).resolve().name
        self.single = self.path.suffix == ".json"
        if self.single:
            _Output(self.path)
        elif self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {path}: is not a directory")

    def write(self, rankings):
        """Write one file for each ranking; models that failed are left out."""
        if self.single and len(rankings) > 1:
            raise InputError(f"--out {self.path}: several metrics need a directory")
        for ranking in rankings:
            path = self.path
            if not self.single:
                path = self.path / ranking.metric / f"{self.dataset}_metrics.json"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InputError(f"--out {path.parent}: {error.strerror}") from error
            _Output(path).write(_json(ranking.scores))


# Text


def _print(text):
    """Print to stdout; a reader that has gone away is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        raise InputError(f"cannot write to stdout: {error.strerror}") from error


def _drop_stdout():
    """Send what is still buffered nowhere, or the interpreter complains about it at exit."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _say(kind, text):
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            print(f"lead-fast: {kind}: {text}", file=sys.stderr, flush=True)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    _say("warning", one_line(message))


def _json(value):
    return json.dumps(value, indent=1, allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
