"""Print how close ranking a zoo comes to the slower of reading its files and scoring them.

Per metric and kind of file: seconds to read all models, to score them with everything in memory,
to rank the zoo, to do so into a new store, and again out of it. The ratios are of the ranking to
the slower of reading and scoring. Files come from the page cache.
"""

import argparse
import contextlib
import os
import pathlib
import random
import statistics
import tempfile
import time

import numpy as np
from data import backbone_features
from environment import headline

import lead_fast
from lead_fast.zoo.ahead import read_model
from lead_fast.zoo.buffers import Buffers
from lead_fast.zoo.read import open_zoo
from lead_fast.zoo.work import Work

LIMIT = 1.15


def write(folder, kind, name, features, labels):
    """A model as a file of a kind."""
    path = pathlib.Path(folder) / f"{name}.{kind}"
    if kind == "npz":
        np.savez(path, features=features, labels=labels)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        save_file({"features": features, "labels": labels}, path)
    else:
        np.save(path.with_name(f"{name}_bench_feature.npy"), features)
        np.save(path.with_name(f"{name}_bench_label.npy"), labels)


def seconds(work):
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(folder, metric, rounds):
    """Medians of (read, score, rank, rank into a store, out of it), in a new order each round."""
    zoo, rng = open_zoo(folder), random.Random(0)
    found = [[] for _ in range(5)]
    work = Work([metric], {metric: {}}, None)
    store = pathlib.Path(folder) / ".store.db"

    def read():
        buffers = Buffers()
        for model in zoo.models:
            got = read_model(model, empty=buffers.empty)
            del got

    def score():
        for got in held:
            (outcome,) = work.score(got, {}).values()
            assert outcome.error is None, outcome.error

    held = [read_model(model) for model in zoo.models]
    for got in held:
        got.features = np.array(got.features)  # not in a memory map
    work.score(held[0], {})

    def rank_twice():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store)
        for place in (3, 4):
            found[place].append(seconds(lambda: lead_fast.rank(folder, metric=metric, store=store)))

    def timed(place, work):
        return lambda: found[place].append(seconds(work))

    steps = [
        timed(0, read), timed(1, score), timed(2, lambda: lead_fast.rank(folder, metric=metric)),
        rank_twice,
    ]  # fmt: skip
    for _ in range(rounds):
        for step in rng.sample(steps, len(steps)):  # what came before may matter
            step()
    os.unlink(store)
    return [statistics.median(values) for values in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=3, default=[20000, 1024, 10])
    parser.add_argument("--metrics", nargs="+", default=["lead", "logme"])
    parser.add_argument("--kinds", nargs="+", default=["npz", "safetensors", "npy"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(headline())
    print(f"{options.models} models of {options.size[0]} x {options.size[1]} float32")
    print(f"{'metric':>8} {'file':>12} {'read':>6} {'score':>6} {'rank':>6} {'ratio':>6}"
          f" {'store':>6} {'ratio':>6} {'again':>6}")  # fmt: skip
    worst = {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory(prefix="lead_fast_bench_") as folder:
            features, labels = backbone_features(*options.size)
            rng = np.random.default_rng(1)
            for number in range(options.models):  # the same labels: their side is done once
                shifted = features + np.float32(0.1) * rng.random(options.size[1], np.float32)
                write(folder, kind, f"m{number}", shifted, labels)
            os.sync()
            for metric in options.metrics:
                read, score, rank, stored, again = measure(folder, metric, options.rounds)
                slower = max(read, score)
                worst[metric, kind] = rank / slower
                print(f"{metric:>8} {kind:>12} {read:>6.2f} {score:>6.2f} {rank:>6.2f}"
                      f" {rank / slower:>6.2f} {stored:>6.2f} {stored / slower:>6.2f}"
                      f" {again:>6.2f}", flush=True)  # fmt: skip
    late = [f"{m} from {k} ({r:.2f})" for (m, k), r in worst.items() if not r <= LIMIT]
    if late:
        print(f"above {LIMIT}: {', '.join(late)}")


if __name__ == "__main__":
    main()
