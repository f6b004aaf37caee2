"""Print how the cost of a score grows with the samples and with the classes.

One table for each; the last column, nanoseconds of the SVM for each pair of sample and class,
stays level where the cost is linear.
"""

import argparse
import math
import statistics

from data import backbone_features
from environment import headline

import lead_fast

FORMS = ("ww", "ovr")


def separation(n_classes):
    """Distance of class means at which about 0.8 of held-out samples are got right, whatever K.

    Between the generator's values for 10 and for 100 classes, along log K: a table over K would
    otherwise compare problems of different difficulty.
    """
    return 4.7 + (7.2 - 4.7) * math.log10(n_classes / 10)


def measure(n, d, n_classes, form, rounds):
    """Median seconds of the score and of its SVM, and passes."""
    features, labels = backbone_features(n, d, n_classes, separation=separation(n_classes))
    results = [lead_fast.lead(features, labels, svm=form) for _ in range(rounds + 1)][1:]
    total, svm = (
        statistics.median(r.seconds[stage] for r in results) for stage in ("total", "svm")
    )
    return total, svm, results[0].svm.passes


def table(title, sizes, d, rounds):
    """Print one line for each (N, K) and form."""
    print(f"\n{title}, D = {d}, median of {rounds}")
    print(f"{'svm':>4} {'N':>8} {'K':>5} {'score s':>9} {'svm s':>9} {'passes':>7}"
          f" {'score ns/(N K)':>15} {'svm ns/(N K)':>13}")  # fmt: skip
    for form in FORMS:
        for n, k in sizes:
            total, svm, passes = measure(n, d, k, form, rounds)
            pairs = n * k / 1e9
            print(f"{form:>4} {n:>8} {k:>5} {total:>9.3f} {svm:>9.3f} {passes:>7.1f}"
                  f" {total / pairs:>15.0f} {svm / pairs:>13.0f}", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[10000, 20000, 40000])
    parser.add_argument("--classes", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(headline())
    fewest, middle = min(options.classes), sorted(options.samples)[len(options.samples) // 2]
    samples = [(n, fewest) for n in options.samples]
    classes = [(middle, k) for k in options.classes]
    table("Seconds against N", samples, options.features, options.rounds)
    table("Seconds against K", classes, options.features, options.rounds)


if __name__ == "__main__":
    main()
