"""The command line: ``lead-fast rank | score | tau | info`` and those of ``cli_zoo``.

Results go to stdout; messages, warnings and progress go to stderr, one line each. NumPy and the
native core are imported by the commands that need them, so that ``--help`` does not wait for them.
"""

from __future__ import annotations

import os
import sys
import warnings

from . import cli_extract, cli_zoo
from ._arguments import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Parser,
    command,
    metric_arguments,
    metric_names,
    metric_options,
    read_truth,
)
from ._console import as_json, plain, print_text, say, show_warning
from ._text import one_line
from ._version import __version__
from .errors import InputError, LeadFastError

_DEBUG = "LEAD_FAST_DEBUG"


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
            warnings.showwarning = show_warning
            return arguments.run(arguments)
    except KeyboardInterrupt:
        say("error", "interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        if isinstance(error, LeadFastError):
            say("error", one_line(error))
            return EXIT_USAGE
        say("error", f"{type(error).__name__}: {one_line(error)} ({_DEBUG}=1 shows where)")
        return EXIT_FAILED


# Commands


def _score(arguments):
    from .scorer import Scorer
    from .zoo.formats import ARCHIVES, read_array
    from .zoo.read import read_features, read_labels

    label_file = arguments.features if arguments.labels is None else arguments.labels
    if arguments.labels is None and not arguments.features.endswith(ARCHIVES):
        raise InputError(f"{arguments.features} holds no labels; give a file of labels after it")
    metric = metric_names(arguments.metric)
    options = metric_options(arguments)
    for name in ("source", "reference"):  # a file here, as there is no zoo to take it from
        path = getattr(arguments, name, None) or options.get(name)
        if path is not None:
            options[name] = read_array(path, "output" if name == "source" else "features")
    scorer = Scorer(read_labels(label_file), metric=metric, device=arguments.device, **options)
    score = scorer(read_features(arguments.features))
    if isinstance(score, dict):
        if arguments.json:
            print_text(as_json({"metrics": list(score), "device": scorer.device, "scores": score}))
        else:
            print_text("\n".join(f"{name}: {value!r}" for name, value in score.items()))
    elif arguments.json:
        print_text(as_json({"metric": metric, "device": scorer.device, "score": float(score)}))
    else:
        print_text(repr(float(score)))
    return EXIT_OK


def _tau(arguments):
    from .evaluation import agreement, read_table, ties
    from .zoo.lines import agreement_dict, agreement_lines

    scores = read_table(arguments.scores)
    truth = read_truth(arguments.truth, scores)
    common = [model for model in scores if model in truth]
    pair = [scores[model] for model in common], [truth[model] for model in common]
    found = agreement(*pair, n_boot=arguments.bootstrap, seed=arguments.seed)
    if arguments.json:
        print_text(as_json(agreement_dict(found, ties(*pair))))
    else:
        print_text("\n".join(agreement_lines(found, ties(*pair))))
    return EXIT_OK


def _info(arguments):
    from . import build_info, metrics

    info = {"version": __version__, "metrics": metrics.names(), **build_info()}
    if arguments.json:
        print_text(as_json(info))
    else:
        lines = (f"{key.replace('_', ' ')}: {plain(value)}" for key, value in info.items())
        print_text("\n".join(lines))
    return EXIT_OK


# Arguments


def _parser():
    parser = Parser(
        prog="lead-fast",
        description="Rank pre-trained models by how well their features transfer to a data set.",
        epilog="Exit status: 0 all scored, 1 some failed, 2 wrong usage or input, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lead-fast {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")

    cli_zoo.add_commands(commands)
    cli_extract.add_commands(commands)
    score = command(commands, "score", _score, "score one model")
    score.add_argument("features", metavar="FEATURES", help=".npy, .npz or .safetensors")
    score.add_argument(
        "labels",
        metavar="LABELS",
        nargs="?",
        help=".npy, .npz, .safetensors or .txt; may be left out if FEATURES holds labels",
    )
    metric_arguments(score)
    score.add_argument(
        "--source", metavar="FILE", help="outputs of the source classifier, for leep and nce"
    )

    tau = command(commands, "tau", _tau, "compare scores with true accuracies")
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

    command(commands, "info", _info, "say how this package was built and what it found")
    return parser
