"""Kernels, rates and spectra against `torch.func`, and the rate path against a plain sgemm."""

import statistics
import time

import numpy as np
import pipeline
from data import backbone_features
from environment import FULL, threads
from scipy.linalg.blas import sgemm

import lead_fast
from lead_fast.ntk import sample_rows

SAMPLES, WIDTH = 64, 2048
CLASSES = 100  # whose rates are compared with sgemm
TORCH_CLASSES = CLASSES if FULL else 10  # torch.func takes seconds for each
ROUNDS = 5 if FULL else 3
WANTED_RATIO = 10.0
WANTED_SHARE = 0.7  # of the sgemm rate
SQUARE = 4096  # side of the matrices of the sgemm


def problem(n_classes):
    """Features, labels and head: 64 samples of each class, all of which are used."""
    features, _ = backbone_features(n_classes * SAMPLES, WIDTH, n_classes)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(n_classes), SAMPLES))
    return features, labels, lead_fast.Head(WIDTH, n_classes)


def test_kernels_rates_spectra(benchmark, report):
    features, labels, head = problem(TORCH_CLASSES)
    theirs = pipeline.kernel_rates(features, sample_rows(labels).values(), head)
    theirs_seconds = sum(theirs.seconds.values())

    def compute():
        kernels = lead_fast.class_kernels(features, labels, head)
        return lead_fast.spectrum(kernels), lead_fast.class_rates(features, labels, head)

    spectra, rates = compute()
    np.testing.assert_allclose(rates, theirs.rates, rtol=1e-4)
    for ours, expected in zip(spectra.values(), theirs.spectra, strict=True):
        # Their kernel sums millions of float32 products: 2e-5 of the largest eigenvalue off.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * expected[-1])

    benchmark.pedantic(compute, rounds=ROUNDS)
    median, iqr = benchmark.stats.stats.median, benchmark.stats.stats.iqr
    ratio = theirs_seconds / median
    report(
        f"kernels, spectra and rates, {TORCH_CLASSES} x {SAMPLES}, D={WIDTH}: {median:.3f} s "
        f"(IQR {iqr:.3f}, {ROUNDS} rounds); torch.func and eigvalsh {theirs_seconds:.1f} s; "
        f"ratio {ratio:.1f}, wanted {WANTED_RATIO:g}",
        ratio=ratio, wanted=WANTED_RATIO, median=median, iqr=iqr, torch_seconds=theirs.seconds,
    )  # fmt: skip
    assert ratio >= WANTED_RATIO


def test_rates_share_of_sgemm(benchmark, report):
    features, labels, head = problem(CLASSES)
    rates = lead_fast.class_rates(features, labels, head)
    kernels = lead_fast.class_kernels(features, labels, head)
    means = [np.trace(kernel) / len(kernel) for kernel in kernels.values()]
    np.testing.assert_allclose(rates, means, rtol=1e-5)

    h1, h2 = head.hidden
    # Forward through both layers and back through the second; the rest is of lower order.
    operations = 2 * len(features) * (WIDTH * h1 + 2 * h1 * h2)
    rng = np.random.default_rng(0)
    a, b, c = (
        np.asfortranarray(rng.standard_normal((SQUARE, SQUARE), dtype=np.float32)) for _ in range(3)
    )
    plain = []

    def measure_sgemm():
        # Before each round, so that both see the same of what else the machine does.
        start = time.perf_counter()
        sgemm(1.0, a, b, c=c, overwrite_c=1)
        plain.append(2 * SQUARE**3 / (time.perf_counter() - start))

    measure_sgemm()
    plain.clear()
    benchmark.pedantic(
        lead_fast.class_rates, (features, labels, head), setup=measure_sgemm, rounds=2 * ROUNDS
    )
    reached = [operations / seconds for seconds in benchmark.stats.stats.sorted_data]
    gemm, ours = statistics.median(plain), statistics.median(reached)
    spread = [float(np.subtract(*np.percentile(x, [75, 25]))) / 1e9 for x in (reached, plain)]
    share = ours / gemm
    report(
        f"rates of {len(features)} samples, D={WIDTH}: {ours / 1e9:.1f} GFLOP/s (IQR "
        f"{spread[0]:.1f}, {2 * ROUNDS} rounds); sgemm of {SQUARE}^3 {gemm / 1e9:.1f} (IQR "
        f"{spread[1]:.1f}); {threads()} threads; share {share:.2f}, wanted {WANTED_SHARE}",
        gflops=ours / 1e9, gflops_iqr=spread[0], sgemm_gflops=gemm / 1e9,
        sgemm_gflops_iqr=spread[1], share=share, wanted=WANTED_SHARE,
    )  # fmt: skip
    assert share >= WANTED_SHARE
