"""Eigenvalues of many small kernels against `numpy.linalg.eigvalsh` on the stack."""

import statistics
import time

import numpy as np

import lead_fast

COUNT, SIZE = 400, 64
ROUNDS = 9


def test_spectrum(benchmark, report):
    factors = np.random.default_rng(0).normal(size=(COUNT, SIZE, SIZE))
    stack = factors @ factors.transpose(0, 2, 1)
    kernels = dict(enumerate(stack))
    expected = np.linalg.eigvalsh(stack)
    found = np.array(list(lead_fast.spectrum(kernels).values()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())

    numpy_seconds = []

    def measure_numpy():
        # Before each round, so that both see the same of what else the machine does.
        start = time.perf_counter()
        np.linalg.eigvalsh(stack)
        numpy_seconds.append(time.perf_counter() - start)

    benchmark.pedantic(lead_fast.spectrum, (kernels,), setup=measure_numpy, rounds=ROUNDS)
    median, iqr = benchmark.stats.stats.median, benchmark.stats.stats.iqr
    theirs = statistics.median(numpy_seconds)
    report(
        f"spectrum of {COUNT} kernels of {SIZE}x{SIZE}: {median * 1e3:.1f} ms (IQR "
        f"{iqr * 1e3:.1f}, {ROUNDS} rounds); eigvalsh {theirs * 1e3:.1f} ms; ratio "
        f"{theirs / median:.1f}",
        median=median, iqr=iqr, numpy_seconds=theirs, ratio=theirs / median,
    )  # fmt: skip
