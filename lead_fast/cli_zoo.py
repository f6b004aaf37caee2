"""The commands about a zoo: ``lead-fast rank | runs``."""

from __future__ import annotations

from pathlib import Path

from ._arguments import (
    EXIT_FAILED,
    EXIT_OK,
    command,
    metric_arguments,
    metric_names,
    metric_options,
    read_truth,
)
from ._console import as_json, print_text, say
from ._output import Output, ScoreFiles
from ._text import printable
from .errors import InputError


def add_commands(commands):
    """Add the commands and their arguments to the parser."""
    rank = command(commands, "rank", _rank, "rank the models of a directory")
    rank.add_argument(
        "zoo", metavar="ZOO", help="directory of feature files, in any of the layouts"
    )
    metric_arguments(rank)
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
    rank.add_argument(
        "--store", metavar="FILE", help="SQLite file of results: what is in it is not scored again"
    )
    rank.add_argument(
        "--repeats",
        type=int,
        default=1,
        metavar="R",
        help="draws of head and samples; gives each score's spread, and groups of ties (1)",
    )

    runs = command(commands, "runs", _runs, "list the runs of a store, show one or compare two")
    runs.add_argument("store", metavar="STORE", help="file that rank --store wrote")
    runs.add_argument(
        "run", metavar="RUN", type=int, nargs="*", help="number of a run to show, or two to compare"
    )


def _rank(arguments):
    from .zoo.read import open_zoo, read_labels
    from .zoo.run import rank_models
    from .zoo.runner import describe_zoo

    zoo = open_zoo(arguments.zoo, arguments.dataset)
    truth = None if arguments.truth is None else read_truth(arguments.truth, zoo.names)
    metric = metric_names(arguments.metric)
    if arguments.format == "sfda":
        out = ScoreFiles(arguments.out, arguments.dataset or zoo.dataset or Path(arguments.zoo))
    else:
        out = None if arguments.out is None else Output(arguments.out)
    ranking = rank_models(
        zoo,
        None if arguments.labels is None else read_labels(arguments.labels),
        metric,
        device=arguments.device,
        store=arguments.store,
        repeats=arguments.repeats,
        title=describe_zoo(arguments.zoo),
        **metric_options(arguments),
    )
    for model, error in ranking.failed.items():
        say("error", f"{printable(model)}: {error}")
    rankings = [ranking] if isinstance(metric, str) and metric != "all" else list(ranking)
    if truth and all(len(one.scores.keys() & truth.keys()) < 2 for one in rankings):
        say("warning", "no weighted tau: fewer than 2 models have a score and an accuracy")
        truth = None

    def result(json):
        return as_json(ranking.to_dict(truth)) if json else ranking.table(truth)

    try:
        if arguments.format == "sfda":
            out.write(rankings)
        elif out:
            out.write(result(arguments.json or out.is_json))
    finally:
        print_text(result(arguments.json))
    return EXIT_FAILED if ranking.failed else EXIT_OK


def _runs(arguments):
    from .zoo import runs
    from .zoo.store import Store

    if len(arguments.run) > 2:
        raise InputError("runs: give no run, one to show or two to compare")
    with Store(arguments.store, create=False) as store:
        if not arguments.run:
            found = store.runs()
            text = as_json(runs.list_dict(found)) if arguments.json else runs.list_table(found)
        else:
            found = [runs.Results(store, number) for number in arguments.run]
            what = found[0] if len(found) == 1 else runs.Comparison(*found)
            text = as_json(what.to_dict()) if arguments.json else what.table()
    print_text(text)
    return EXIT_OK
