"""Print what several threads bring, or cost, on a machine that is busy elsewhere.

Medians of a pass over the features (column statistics) and of the whole score with one thread, with
all, and with as many as ``backend.threads`` gives to work of that size; beside a number of
processes that do nothing but compute.
"""

import argparse
import multiprocessing
import statistics
import time

from data import backbone_features
from environment import headline

import lead_fast
from lead_fast import backend
from lead_fast.features import as_features

SIZES = [(500, 64, 5), (1000, 128, 5), (1500, 256, 5), (2000, 512, 10), (5000, 512, 10)]
ONE, ALL, CHOSEN = 1 << 62, 1, backend.BYTES_PER_THREAD


def compute():
    """What keeps a core busy."""
    while True:
        sum(range(10000))


def milliseconds(run, rounds):
    """Median time of a call, with one thread, all, and the chosen number; turn by turn."""
    times = {bytes_per_thread: [] for bytes_per_thread in (ONE, ALL, CHOSEN)}
    for _ in range(rounds):
        for backend.BYTES_PER_THREAD, found in times.items():
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(found) for found in times.values()]


def main():
    """Print a row per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=4, help="processes that compute beside")
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    print(headline())
    print(f"{given.busy} busy processes; ms with 1 thread / all / the chosen number\n")
    print("| N x D, K | column statistics | whole score |\n|---|---|---|")
    busy = [multiprocessing.Process(target=compute, daemon=True) for _ in range(given.busy)]
    for one in busy:
        one.start()
    for n, d, k in SIZES:
        features, labels = backbone_features(n, d, k, rank=min(d, 64))
        held = as_features(features)
        passes = milliseconds(held.column_statistics, 10 * given.rounds)
        scores = milliseconds(lambda x=features, y=labels: lead_fast.score(x, y), given.rounds)
        columns = [" / ".join(f"{one:.3g}" for one in found) for found in (passes, scores)]
        print(f"| {n} x {d}, {k} | {columns[0]} | {columns[1]} |", flush=True)
    for one in busy:
        one.terminate()


if __name__ == "__main__":
    main()
