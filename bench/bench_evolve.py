"""The fused score of many times against NumPy, both cross-entropies."""

import time

import numpy as np
import pipeline
import pytest
from environment import FULL
from scipy.special import log_softmax, softmax

import lead_fast

SIZE = (50000, 100) if FULL else (10000, 100)
TIMES = np.array([0.0, 0.3, 1.0, 3.0])


def plain(initial, labels, rates, times, cross_entropy):
    """The same from whole N x K states."""
    if cross_entropy == "distribution":
        return [pipeline.score(initial, labels, rates, t) for t in times]
    rows = np.arange(len(labels))
    states = (pipeline.evolve(initial, labels, rates, t) for t in times)
    return [log_softmax(state, axis=1)[rows, labels].mean() for state in states]


@pytest.mark.parametrize("cross_entropy", ["distribution", "logits"])
def test_evolved_score(benchmark, report, cross_entropy):
    n, k = SIZE
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % k)
    initial = softmax(rng.normal(size=SIZE), axis=1)
    rates = rng.uniform(1e4, 1e6, k)
    arguments = initial, labels, rates, TIMES
    start = time.perf_counter()
    expected = plain(*arguments, cross_entropy)
    numpy_seconds = time.perf_counter() - start
    found = lead_fast.evolved_score(*arguments, cross_entropy=cross_entropy)
    np.testing.assert_allclose(found, expected, rtol=1e-10)

    benchmark.pedantic(
        lead_fast.evolved_score, arguments, {"cross_entropy": cross_entropy}, rounds=9
    )
    median, iqr = benchmark.stats.stats.median, benchmark.stats.stats.iqr
    report(
        f"evolved_score {SIZE}, {len(TIMES)} times, {cross_entropy}: {median * 1e3:.2f} ms (IQR "
        f"{iqr * 1e3:.2f}, 9 rounds); NumPy {numpy_seconds * 1e3:.1f} ms; ratio "
        f"{numpy_seconds / median:.1f}",
        median=median, iqr=iqr, numpy_seconds=numpy_seconds, ratio=numpy_seconds / median,
    )  # fmt: skip
