"""The commands about a zoo: ``lead-fast rank | runs | report``."""

from __future__ import annotations

import contextlib
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

BACKENDS = ("loky", "dask", "ray")


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
    rank.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes of this machine that score, -1 for one per core (this one)",
    )
    rank.add_argument(
        "--backend", choices=BACKENDS, default="loky", help="of joblib, for the processes (loky)"
    )
    rank.add_argument("--address", help="of a running cluster of dask or ray (one made here)")
    rank.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw a bar chart, of the first metric: .png, .svg or .pdf (matplotlib)",
    )

    report = command(commands, "report", _report, "write a page about a zoo or a run of a store")
    report.add_argument(
        "source", metavar="ZOO_OR_STORE", help="directory of feature files, or file of rank --store"
    )
    report.add_argument("--out", required=True, metavar="FILE", help="page of HTML")
    report.add_argument(
        "--run", dest="number", type=int, metavar="RUN", help="of a store: which run (the last)"
    )
    report.add_argument("--truth", metavar="TRUTH.json", help="{model: accuracy}")
    report.add_argument("--title", help="of the page (the name of the zoo)")
    report.add_argument("--store", metavar="FILE", help="of a zoo: as of rank")
    report.add_argument("--repeats", type=int, default=1, metavar="R", help="of a zoo: as of rank")
    report.add_argument("--labels", metavar="FILE", help="of a zoo: as of rank")
    report.add_argument("--dataset", help="of a zoo: as of rank")
    metric_arguments(report)

    runs = command(commands, "runs", _runs, "list the runs of a store, show one or compare two")
    runs.add_argument("store", metavar="STORE", help="file that rank --store wrote")
    runs.add_argument(
        "numbers",
        metavar="RUN",
        type=int,
        nargs="*",
        help="number of a run to show, or two to compare",
    )


def _rank(arguments):
    from .zoo.read import open_zoo, read_labels
    from .zoo.run import rank_models
    from .zoo.runner import describe_zoo

    zoo = open_zoo(arguments.zoo, arguments.dataset)
    truth = _truth(arguments, zoo.names)
    metric = metric_names(arguments.metric)
    several = metric == "all" or not isinstance(metric, str)
    if arguments.format == "sfda":
        dataset = arguments.dataset or zoo.dataset or Path(arguments.zoo)
        out = ScoreFiles(arguments.out, dataset, several)
    else:
        out = None if arguments.out is None else Output(arguments.out)
    plot = None if arguments.plot is None else _Plot(arguments.plot)
    labels = None if arguments.labels is None else read_labels(arguments.labels)
    with _processes(arguments):
        ranking = rank_models(
            zoo,
            labels,
            metric,
            device=arguments.device,
            store=arguments.store,
            repeats=arguments.repeats,
            jobs=arguments.jobs if arguments.backend == "loky" else None,
            title=describe_zoo(arguments.zoo),
            **metric_options(arguments),
        )
    for model, error in ranking.failed.items():
        say("error", printable(f"{model}: {error}"))
    rankings = list(ranking) if several else [ranking]
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
        if plot:
            plot.write(rankings[0])
    finally:
        print_text(result(arguments.json))
    return EXIT_FAILED if ranking.failed else EXIT_OK


def _processes(arguments):
    """The joblib backend that was asked for, as a context."""
    if arguments.backend == "loky" and arguments.address is None:
        return contextlib.nullcontext()  # without the import of joblib
    from .zoo.cluster import backend

    return backend(arguments.backend, arguments.address, arguments.jobs)


class _Plot:
    """A file with a bar chart; whether that can work is checked at the start."""

    def __init__(self, path):
        from ._optional import need

        self._out, self._kind = Output(path, "--plot"), Path(path).suffix.removeprefix(".")
        if self._kind not in ("png", "svg", "pdf"):
            raise InputError(f"--plot {path}: the name must end in .png, .svg or .pdf")
        need("matplotlib", "--plot")

    def write(self, ranking):
        """Draw a ranking, unless every model failed."""
        from .zoo.plots import save_bars

        if ranking.scores:
            self._out.write_bytes(save_bars(ranking, self._kind))


def _report(arguments):
    from ._optional import need
    from .zoo.page import page

    out = Output(arguments.out)
    need("matplotlib", "a report")
    rankings, truth, name = (_stored if Path(arguments.source).is_file() else _ranked)(arguments)
    out.write(page(rankings, truth, arguments.title or name))
    failed = rankings.failed
    for model, error in failed.items():
        say("error", printable(f"{model}: {error}"))
    if arguments.json:
        print_text(as_json({"report": str(out.path), "models": len(next(iter(rankings)))}))
    else:
        print_text(f"{out.path}")
    return EXIT_FAILED if failed else EXIT_OK


def _stored(arguments):
    """The rankings of a run, the truth, and the name of the run's zoo."""
    from .zoo.runs import Results
    from .zoo.store import Store

    for flag in ("metric", "device", "store", "labels", "dataset"):
        if getattr(arguments, flag) is not None:
            raise InputError(f"--{flag}: of a zoo; {arguments.source} holds runs that were made")
    if metric_options(arguments) or arguments.repeats != 1:
        raise InputError(f"options are of a zoo; {arguments.source} holds runs that were made")
    with Store(arguments.source, reading=True) as store:
        runs = store.runs()
        if not runs:
            raise InputError(f"{arguments.source}: no run in it yet")
        results = Results(store, runs[-1].id if arguments.number is None else arguments.number)
    models = {row.model for ranking in results.rankings for row in ranking}
    return results.rankings, _truth(arguments, sorted(models)), Path(results.run.zoo).name


def _ranked(arguments):
    """The rankings of a zoo, the truth, and the zoo's name."""
    from .zoo.read import open_zoo, read_labels
    from .zoo.report import Ranking, Rankings
    from .zoo.run import rank_models
    from .zoo.runner import describe_zoo

    if arguments.number is not None:
        raise InputError(f"--run: of a store; {arguments.source} is a zoo")
    zoo = open_zoo(arguments.source, arguments.dataset)
    truth = _truth(arguments, zoo.names)
    rankings = rank_models(
        zoo,
        None if arguments.labels is None else read_labels(arguments.labels),
        metric_names(arguments.metric),
        device=arguments.device,
        store=arguments.store,
        repeats=arguments.repeats,
        title=describe_zoo(arguments.source),
        **metric_options(arguments),
    )
    name = Path(arguments.source).resolve().name
    return Rankings([rankings]) if isinstance(rankings, Ranking) else rankings, truth, name


def _truth(arguments, models):
    return None if arguments.truth is None else read_truth(arguments.truth, models)


def _runs(arguments):
    from .zoo import runs
    from .zoo.store import Store

    if len(arguments.numbers) > 2:
        raise InputError("runs: give no run, one to show or two to compare")
    with Store(arguments.store, reading=True) as store:
        if not arguments.numbers:
            found = store.runs()
            text = as_json(runs.list_dict(found)) if arguments.json else runs.list_table(found)
        else:
            found = [runs.Results(store, number) for number in arguments.numbers]
            what = found[0] if len(found) == 1 else runs.Comparison(*found)
            text = as_json(what.to_dict()) if arguments.json else what.table()
    print_text(text)
    return EXIT_OK
