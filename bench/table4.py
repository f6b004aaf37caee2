"""Table 4 of the LEAD paper: average running time of each metric on CIFAR10's features.

    python bench/table4.py                       # ours, generated features, some minutes
    python bench/table4.py --plain --markdown    # beside the plain versions: hours for all of it
    python bench/table4.py --features ZOO --plot times.svg

Generated features have the shape of CIFAR10's: 50000 samples, 10 classes, the widths of the paper's
12 supervised models. A column is left empty where its device is not there. LEAD is split as in the
paper's text; its score needs no spectrum, so that stage is measured beside it and not counted.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time
import warnings

import numpy as np
from data import backbone_features
from environment import environment, headline

import lead_fast
from lead_fast import metrics
from lead_fast.errors import DeviceError

PAPER = {"parc": 111, "nleep": 1430, "pactran": 77, "sfda": 92, "gbc": 26, "ped": 97, "lead": 45}
PAPER_LEAD = {"kernel and spectrum": 3, "SVM and evolution": 42}
WIDTHS = {
    "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048, "densenet121": 1024,
    "densenet161": 2208, "densenet169": 1664, "densenet201": 1920, "mnasnet1_0": 1280,
    "mobilenet_v2": 1280, "googlenet": 1024, "inception_v3": 2048,
}  # fmt: skip
STAGES = ("kernel", "spectrum", "SVM", "evolution")
PARC_LIMIT = 15000  # samples that the public code of PARC looks at


def main(argv=None):
    """Measure and print; see the module."""
    arguments = _arguments(argv)
    times = {column: {} for column in ("plain", "cpu", "cuda")}
    stages, total = {}, {"cpu": 0.0, "cuda": 0.0}
    warnings.simplefilter("ignore", UserWarning)
    missing = None
    for number, (model, features, labels) in enumerate(_models(arguments)):
        if number == 0:  # load libraries, start threads
            for device in ("cpu", "cuda"):
                with contextlib.suppress(DeviceError):
                    for name in arguments.metrics:
                        _ours(name, features[:600, :64], labels[:600], device)
        for device in ("cpu", "cuda"):
            if device == "cuda" and missing:
                continue
            for name in arguments.metrics:
                try:
                    seconds, split = _ours(name, features, labels, device)
                except DeviceError as error:
                    missing = str(error)
                    break
                _say(f"{model} {name} {device}: {seconds:.2f} s")
                times[device].setdefault(name, []).append(seconds)
                total[device] += seconds
                for stage, value in split.items():
                    stages.setdefault((device, stage), []).append(value)
        if arguments.plain:
            for name in arguments.metrics:
                seconds = _plain(name, features, labels)
                if seconds is not None:
                    _say(f"{model} {name} plain: {seconds:.1f} s")
                    times["plain"].setdefault(name, []).append(seconds)
    if missing:
        _say(f"no GPU column: {missing}")
    rows = _rows(arguments.metrics, times, stages, total)
    print(headline())
    print(_table(rows, arguments.markdown))
    if arguments.plot:
        pathlib.Path(arguments.plot).write_text(_chart(arguments.metrics, times))
    if arguments.json:
        result = {"rows": rows, "environment": environment()}
        pathlib.Path(arguments.json).write_text(json.dumps(result, indent=1))


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--features", metavar="DIR", help="a zoo, in place of generated features")
    parser.add_argument("--samples", type=int, default=50000)
    parser.add_argument("--models", type=int, default=len(WIDTHS), help="only the first so many")
    parser.add_argument("--metrics", default=",".join(PAPER), help="names, separated by commas")
    parser.add_argument("--plain", action="store_true", help="time the plain versions as well")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--plot", metavar="FILE.svg", help="bar chart, logarithmic")
    parser.add_argument("--json", metavar="FILE", help="numbers, machine, command")
    arguments = parser.parse_args(argv)
    arguments.metrics = arguments.metrics.split(",")
    for name in arguments.metrics:
        metrics.get(name)
    if arguments.plot and not arguments.plot.endswith(".svg"):
        parser.error("--plot writes .svg")
    return arguments


def _models(arguments):
    """Name, features and labels of each model; one of them in memory at a time."""
    if arguments.features:
        from lead_fast.zoo.read import open_zoo

        for model in open_zoo(arguments.features).models[: arguments.models]:
            labels = np.unique(model.read_labels(), return_inverse=True)[1]
            yield model.name, np.asarray(model.read_features()), labels
        return
    for seed, (model, width) in enumerate(list(WIDTHS.items())[: arguments.models]):
        yield (model, *backbone_features(arguments.samples, width, 10, seed=seed))


def _ours(name, features, labels, device):
    """Seconds of our metric, and those of LEAD's stages."""
    start = time.perf_counter()
    if name == "lead":
        found = lead_fast.lead(features, labels, device=device).seconds
        elapsed = time.perf_counter() - start
        head = lead_fast.Head(features.shape[1], int(labels.max()) + 1)
        kernels = lead_fast.class_kernels(features, labels, head)
        begin = time.perf_counter()
        lead_fast.spectrum(kernels)
        return elapsed, {
            "kernel": found["head"] + found["rates"],
            "spectrum": time.perf_counter() - begin,
            "SVM": found["statistics"] + found["svm"],
            "evolution": found["evolution"],
        }
    if name == "etran":
        etran = metrics.get(name)(labels, device=device)
        etran.parts(etran.share(features))
    else:
        lead_fast.score(features, labels, name, device=device)
    return time.perf_counter() - start, {}


def _plain(name, features, labels):
    """Seconds of the plain version; None where there is none."""
    import plain_metrics

    if name not in plain_metrics.PLAIN:
        return None
    if name == "parc" and len(features) > PARC_LIMIT:
        rows = np.random.default_rng(0).permutation(len(features))[:PARC_LIMIT]
        features, labels = features[rows], labels[rows]
    double = features.astype(np.float64)
    start = time.perf_counter()
    plain_metrics.PLAIN[name](double, labels)
    return time.perf_counter() - start


def _rows(names, times, stages, total):
    """Header and lines: metric, paper, plain, CPU, GPU; numbers are average seconds."""
    rows = [["metric", "paper", "plain", "CPU", "GPU"]]
    for name in names:
        columns = [times[column].get(name) for column in ("plain", "cpu", "cuda")]
        rows.append([name, PAPER.get(name), *(c and float(np.mean(c)) for c in columns)])
        if name == "lead":
            for stage in STAGES:
                values = [stages.get((device, stage)) for device in ("cpu", "cuda")]
                label = f"  {stage}" + (" (not needed)" if stage == "spectrum" else "")
                rows.append([label, None, None, *(v and float(np.mean(v)) for v in values)])
            for label, seconds in PAPER_LEAD.items():
                rows.append([f"  paper: {label}", seconds, None, None, None])
    rows.append(["whole zoo, all of these", None, None, total["cpu"], total["cuda"] or None])
    return rows


def _table(rows, markdown):
    text = [
        [c if isinstance(c, str) else "-" if c is None else f"{c:.3g} s" for c in row]
        for row in rows
    ]
    if markdown:
        rule = ["---", *["---:"] * (len(rows[0]) - 1)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [text[0], rule, *text[1:]])
    widths = [max(len(line[i]) for line in text) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in text
    )


def _chart(names, times):
    """Bars of seconds on a logarithmic axis, as SVG."""
    colours = {"paper": "#999999", "plain": "#d08a4e", "cpu": "#3b6fb6", "cuda": "#3f9b57"}
    bars = []
    for name in names:
        group = {"paper": PAPER.get(name)}
        group |= {c: np.mean(times[c][name]) if times[c].get(name) else None for c in times}
        bars.append((name, {c: v for c, v in group.items() if v}))
    values = [v for _, group in bars for v in group.values()]
    low = np.floor(np.log10(min(values)))
    high = np.ceil(np.log10(max(values)))
    left, width, step = 90, 560, 14

    def x(value):
        return left + width * (np.log10(value) - low) / max(high - low, 1)

    y, parts = 30, []
    for name, group in bars:
        top = y + step * len(group) / 2 + 4
        parts.append(f'<text x="{left - 8}" y="{top:.0f}" text-anchor="end">{name}</text>')
        for column, value in group.items():
            parts.append(
                f'<rect x="{left}" y="{y}" width="{x(value) - left:.1f}" height="{step - 3}" '
                f'fill="{colours[column]}"/><text x="{x(value) + 4:.1f}" y="{y + step - 5}" '
                f'font-size="9">{value:.3g} s</text>'
            )
            y += step
        y += 8
    for power in range(int(low), int(high) + 1):
        place = x(10.0**power)
        parts.insert(
            0,
            f'<line x1="{place:.1f}" y1="24" x2="{place:.1f}" y2="{y}" stroke="#dddddd"/>'
            f'<text x="{place:.1f}" y="{y + 14}" text-anchor="middle">{10.0**power:g} s</text>',
        )
    for number, (column, colour) in enumerate(colours.items()):
        parts.append(f'<text x="{left + 90 * number}" y="14" fill="{colour}">{column}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{y + 24}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
