"""Make a zoo whose truth is known: small networks, really pre-trained and really fine-tuned.

    pip install torch matplotlib             # scikit-learn comes with the package
    python bench/make_zoo.py DIR             # 16 models, five tasks, on a CPU
    python bench/table1.py --features DIR    # and whatever else takes --features

    pip install scikit-image mlxtend         # for the others: 16 models, six tasks each
    python bench/make_zoo.py DIR --zoo second
    python bench/make_zoo.py DIR --zoo third
    python bench/make_zoo.py DIR --zoo fourth    # of other architectures, as the next
    python bench/make_zoo.py DIR --zoo fifth

DIR/TASK/MODEL.npz holds `features` (N, D) float16, `hidden`, those that lead-fast extract --join
takes from layers before the last, `labels` (N,), `finetuned` (N, K) float16 (the logits of the
fine-tuned network on the training images), `accuracy` (rates, seeds), percent on the test images,
`parameters`, the number of the backbone's weights, and `operations`, floating-point ones per image;
DIR/TASK/truth.json the best of the learning rates' means over seeds. Models are named
ARCHITECTURE-SOURCE-OBJECTIVE. A run that was stopped goes on where it was: what is complete in DIR
is kept. Nothing is downloaded; see zoo_images.py and those beside it for where the images come
from.
"""

import argparse
import functools
import importlib
import json
import multiprocessing
import os
import pathlib
import time

import numpy as np

ZOOS = {
    "first": "zoo_images",
    "second": "zoo_images_second",
    "third": "zoo_images_third",
    "fourth": "zoo_images_fourth",
    "fifth": "zoo_images_fifth",
}
SEEDS = (1, 2)
_DEAR = ("res", "cnn_m", "wide", "dense", "deep", "vgg", "grouped", "nin")  # architectures


def _zoo(name):
    return importlib.import_module(ZOOS[name])


@functools.cache
def _images(zoo, kind, name):
    return (_zoo(zoo).TASKS if kind == "task" else _zoo(zoo).SOURCES)[name]()


def _whole(path, save):
    """Write a file under another name first, so that there is never half of one."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        save(file)
    os.replace(part, path)


def make_model(job):
    """Pre-train one model and fine-tune it on every task that lacks it; seconds it took."""
    import torch
    import zoo_backbones
    import zoo_nets

    torch.set_num_threads(1)
    folder, zoo, model, tasks, epochs = job
    start, number = time.perf_counter(), _zoo(zoo).FIRST_SEED + _zoo(zoo).MODELS.index(model)
    missing = [task for task in tasks if not (folder / task / f"{model}.npz").exists()]
    if not missing:
        return model, 0.0
    architecture, source, objective = model.split("-")
    images = None if source == "none" else _images(zoo, "source", source)
    parameters, operations = zoo_backbones.size(architecture)
    state = zoo_nets.pretrain(architecture, images, objective, epochs[0], number)
    for task in missing:
        data, accuracy, best = _images(zoo, "task", task), [], None
        for rate in zoo_nets.LEARNING_RATES:
            runs = [
                zoo_nets.finetune(architecture, state, data, rate, epochs[1], seed)
                for seed in SEEDS
            ]
            accuracy.append([found for found, _ in runs])
            if best is None or np.mean(accuracy[-1]) > best[0]:
                best = np.mean(accuracy[-1]), runs[0][1]
        last, hidden = zoo_nets.features(architecture, state, data)
        arrays = {
            "features": last.astype(np.float16),
            "hidden": hidden,
            "labels": data.train_labels.astype(np.int16),
            "finetuned": best[1].astype(np.float16),
            "accuracy": np.array(accuracy),
            "parameters": np.int64(parameters),
            "operations": np.int64(operations),
        }
        (folder / task).mkdir(parents=True, exist_ok=True)
        _whole(folder / task / f"{model}.npz", functools.partial(np.savez_compressed, **arrays))
    return model, time.perf_counter() - start


def write_truth(folder, models, task):
    """truth.json of a task, {model: percent}, from the archives that are there."""
    truth = {}
    for model in models:
        path = folder / task / f"{model}.npz"
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as file:
            truth[model] = round(float(file["accuracy"].mean(axis=1).max()), 2)
    text = json.dumps(truth, indent=1)
    _whole(folder / task / "truth.json", lambda file: file.write(text.encode()))
    return truth


def main(argv=None):
    """Make the zoo; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--zoo", default="first", choices=ZOOS)
    parser.add_argument("--tasks", help="with commas between; by default all")
    parser.add_argument("--models", help="with commas between; by default all")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--epochs", type=int, nargs=2, default=(6, 15), metavar=("PRE", "FINE"))
    args = parser.parse_args(argv)
    zoo = _zoo(args.zoo)
    tasks = args.tasks.split(",") if args.tasks else list(zoo.TASKS)
    models = args.models.split(",") if args.models else list(zoo.MODELS)
    for what, given, known in (("task", tasks, zoo.TASKS), ("model", models, zoo.MODELS)):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is no {what}; there are: {', '.join(known)}")
    if min(args.epochs) < 1 or args.jobs < 1:
        parser.error("--epochs and --jobs start at 1")
    args.folder.mkdir(parents=True, exist_ok=True)
    # The dear ones first, so that no process is left with one of them at the end.
    order = sorted(models, key=lambda name: not name.startswith(_DEAR))
    jobs = [(args.folder, args.zoo, model, tasks, tuple(args.epochs)) for model in order]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for model, seconds in pool.imap_unordered(make_model, jobs):
            print(f"{model}: {seconds:.0f} s", flush=True)
    for task in tasks:
        values = list(write_truth(args.folder, zoo.MODELS, task).values())
        print(f"{task}: accuracies {min(values):.1f} to {max(values):.1f} %")
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
