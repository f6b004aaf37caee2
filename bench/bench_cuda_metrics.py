"""Each metric on a GPU against the package's own CPU path, with the floor of its arithmetic.

The floor counts the products that the metric cannot do without, at the rate of a float32 product
measured in the same run, and one read of the features. Factorisations and eigensystems of D x D are
not in it, as there is no rate for them but their own.
"""

import functools
import time
import warnings

import numpy as np
import pytest
from data import backbone_features
from environment import FULL

import lead_fast as lf
from lead_fast import metrics
from lead_fast.errors import ConvergenceWarning, ScoreWarning

pytestmark = pytest.mark.gpu

SIZE = (20000, 2048, 10)
SAMPLES_OF_PARC = 15000
REACH = 10.0  # times faster than on the CPU
ROUNDS = 5
# Products with the features that a metric needs, as multiples of 2 N D^2, N D K and N^2 D.
SQUARE = {"logme": 1, "hscore": 1, "hscore_regularized": 1, "transrate": 1, "sfda": 2, "ped": 2,
          "gbc": 1, "nleep": 1, "pactran": 1}  # fmt: skip
NAMES = [
    "logme", "parc", "nleep", "pactran", "sfda", "gbc", "etran", "ped", "hscore",
    "hscore_regularized", "transrate", "knn",
]  # fmt: skip
if FULL:
    NAMES += ["rsa", "dds"]
AGREE = dict.fromkeys(NAMES, 1e-4) | {"nleep": 3e-2, "parc": 1e-3, "rsa": 1e-3, "knn": 1e-3}


@functools.cache
def drawn():
    return backbone_features(*SIZE)


def given(name):
    """Features on the host, two copies on the GPU (each larger than its cache), labels."""
    import gpu_timing

    features, labels = drawn()
    if name == "parc":
        features, labels = features[:SAMPLES_OF_PARC], labels[:SAMPLES_OF_PARC]
    first = gpu_timing.torch().from_numpy(features).cuda()
    return features, [first, first.clone()], labels


def options(name, features):
    return {"reference": features[:, :512].copy()} if name in ("rsa", "dds") else {}


def work(name, labels, device, **more):
    """What is timed: a score, or for etran its parts."""
    metric = metrics.get(name)(labels, device=device, **more)
    if name != "etran":
        return metric

    def parts(features):
        shared = metric.share(features)
        with shared.active():
            return metric.parts(shared)

    return parts


def floor(name, n, d):
    """Milliseconds of one read of the features, and of the operations."""
    import gpu_timing

    operations = 2.0 * n * d * d * SQUARE.get(name, 0)
    if name == "knn":
        operations = 2.0 * n * n * d
    nbytes = 4.0 * n * d
    return 1e3 * nbytes / gpu_timing.read_bandwidth(), 1e3 * operations / gpu_timing.sgemm_rate()


@pytest.mark.parametrize("name", NAMES)
def test_metric(benchmark, report, name):
    import gpu_timing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        features, inputs, labels = given(name)
        more = options(name, features)
        ours, cpu = work(name, labels, "cuda", **more), work(name, labels, "cpu", **more)
        found, slow = ours(inputs[0]), []
        for _ in range(2):
            start = time.perf_counter()
            expected = cpu(features)
            slow.append(1e3 * (time.perf_counter() - start))
        np.testing.assert_allclose(found, expected, rtol=AGREE[name])
        median, spread = gpu_timing.summary(gpu_timing.event_times(ours, inputs, ROUNDS, 1))
        wall, wall_spread = gpu_timing.summary(gpu_timing.wall_times(ours, inputs, ROUNDS))
        benchmark.pedantic(ours, (inputs[1],), rounds=2)
    nbytes, operations = floor(name, *features.shape)
    ratio = min(slow) / wall
    report(
        f"GPU {name}, {'x'.join(map(str, features.shape))}: {median:.1f} ms (IQR {spread:.1f}), "
        f"call {wall:.1f} ms (IQR {wall_spread:.1f}); floors {nbytes:.2f} ms of bytes, "
        f"{operations:.1f} ms of products; CPU {min(slow):.0f} ms, ratio {ratio:.1f}; "
        f"reach {REACH:.0f}",
        median_ms=median, iqr_ms=spread, wall_ms=wall, wall_iqr_ms=wall_spread, cpu_ms=min(slow),
        ratio=ratio, floor_bytes_ms=nbytes, floor_operations_ms=operations, reach=REACH,
    )  # fmt: skip
    assert ratio >= REACH


def test_all_at_once(benchmark, report):
    """Several metrics of one model share their work."""
    import gpu_timing

    _, inputs, labels = given("logme")
    names = [name for name in NAMES if name not in ("etran", "parc", "rsa", "dds")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        scorer = lf.Scorer(labels, names, device="cuda")
        scorer(inputs[0])
        together, _ = gpu_timing.summary(gpu_timing.wall_times(scorer, inputs, 3))
        apart = 0.0
        for name in names:
            one = lf.Scorer(labels, name, device="cuda")
            apart += gpu_timing.summary(gpu_timing.wall_times(one, inputs, 3))[0]
        benchmark.pedantic(scorer, (inputs[1],), rounds=1)
    report(
        f"GPU {', '.join(names)} at once: {together:.0f} ms; one after the other {apart:.0f} ms",
        together_ms=together, apart_ms=apart,
    )  # fmt: skip
    assert together <= apart
