"""Each metric against the public algorithm written plainly, and against a calibration loop.

The calibration is a fixed mix of what the metrics consist of (a float32 product, a copy); a
metric's time divided by it is what `compare.py` follows from run to run and machine to machine.
"""

import time
import warnings

import numpy as np
import plain_metrics
import pytest
from environment import FULL

import lead_fast
from lead_fast import metrics

SIZE = (20000, 2048, 10) if FULL else (3000, 256, 10)
SIZE_OF_ALL = (10000, 1024, 10) if FULL else SIZE
SAMPLES_OF_PARC = 15000  # the public code's limit, and ours
ROUNDS = 3
# How many times faster than the plain version a metric is to be, at the full size.
TARGETS = {
    "logme": 5, "sfda": 5, "ped": 5, "pactran": 5, "etran": 5, "transrate": 5, "hscore": 5,
    "parc": 15, "nleep": 15,
}  # fmt: skip
NAMES = [name for name in metrics.names() if name in plain_metrics.PLAIN]
# The plain version makes the public code's ten steps from the same start; the default goes on to
# the optimum, and is compared with those ten steps, too, but has no target.
PUBLIC_STEPS = 10
NAMES.append("pactran converged")
# How far float32 may be from the plain float64 score; None: another optimum or random start.
AGREE = dict.fromkeys(NAMES, 1e-4) | {
    "parc": 2e-2, "pactran converged": None, "nleep": None, "gbc": 5e-2,
}  # fmt: skip


def calibrate():
    """Seconds of the calibration, the best of five."""
    a = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(4):
            (a @ a).copy()
        best = min(best, time.perf_counter() - start)
    return best


@pytest.fixture(scope="session")
def calibration():
    calibrate()
    return calibrate()


def work(name, features, labels):
    """What is timed: a score, or for etran its parts."""
    if name == "pactran":
        return lambda: lead_fast.score(features, labels, name, steps=PUBLIC_STEPS)
    if name == "pactran converged":
        return lambda: lead_fast.score(features, labels, "pactran")
    if name != "etran":
        return lambda: lead_fast.score(features, labels, name)

    def parts():
        etran = metrics.get("etran")(labels)
        return etran.parts(etran.share(features))

    return parts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ConvergenceWarning")
def test_metric(benchmark, report, dataset, calibration, name):
    features, labels = dataset(*SIZE)
    if name == "parc":
        features, labels = features[:SAMPLES_OF_PARC], labels[:SAMPLES_OF_PARC]
    ours = work(name, features, labels)
    score = ours()
    benchmark.group = "metrics " + "x".join(map(str, SIZE))
    benchmark.extra_info["name"] = f"{name} {'x'.join(map(str, features.shape))}"
    benchmark.pedantic(ours, rounds=ROUNDS)
    median = benchmark.stats.stats.median

    double = features.astype(np.float64)
    start = time.perf_counter()
    expected = plain_metrics.PLAIN[name.split()[0]](double, labels)
    plain = time.perf_counter() - start
    if AGREE[name] is not None:
        np.testing.assert_allclose(score, expected, rtol=AGREE[name])
    ratio = plain / median
    report(
        f"{name} {features.shape}: {median:.3f} s, plain {plain:.2f} s, {ratio:.1f} times faster"
        + (f" (target {TARGETS[name]})" if name in TARGETS else ""),
        calibrated=median / calibration,
        calibration=calibration,
        plain=plain,
        ratio=ratio,
    )
    if FULL and name in TARGETS:
        assert ratio >= TARGETS[name]


def test_all_at_once(benchmark, report, dataset, calibration):
    features, labels = dataset(*SIZE_OF_ALL)
    left_out = ("etran", "nleep", "parc", "pactran", "pactran converged")
    names = [n for n in NAMES if n not in left_out]
    if FULL:
        names = list(lead_fast.Scorer(labels, "all").metric)
    alone = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lead_fast.score(features[:600], labels[:600], names)
        for name in names:
            start = time.perf_counter()
            lead_fast.score(features, labels, name)
            alone[name] = time.perf_counter() - start
        benchmark.group = "metrics " + "x".join(map(str, SIZE_OF_ALL))
        benchmark.extra_info["name"] = "several at once"
        benchmark.pedantic(lead_fast.score, (features, labels, names), rounds=1 if FULL else ROUNDS)
    median, apart = benchmark.stats.stats.median, sum(alone.values())
    report(
        f"{len(names)} metrics at once: {median:.2f} s; one after the other {apart:.2f} s ("
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in alone.items())
        + ")",
        calibrated=median / calibration,
        calibration=calibration,
        apart=apart,
    )
