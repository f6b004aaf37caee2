"""A zoo of files on a GPU: how fast features arrive there, and models scored end to end.

Files come from the page cache: what is measured is the package, not a disk. The ceiling is the
rate at which the bus copies pinned memory, measured in the same run.
"""

import functools

import numpy as np
import pytest
from data import backbone_features
from environment import FULL
from zoo_ahead import write

import lead_fast as lf
from lead_fast.device import resolve
from lead_fast.zoo.ahead import read_ahead, read_model
from lead_fast.zoo.buffers import Buffers
from lead_fast.zoo.read import open_zoo
from lead_fast.zoo.upload import Uploads

pytestmark = pytest.mark.gpu

SHARE = 0.5  # of the bus's rate, to reach
MODELS_PER_SECOND = 20.0
LARGE = (50000, 2048, 10) if FULL else (20000, 2048, 10)
ROUNDS = 5


@functools.cache
def bus_rate():
    """Bytes per second of copying 256 MiB of pinned memory to the GPU."""
    import gpu_timing

    torch = gpu_timing.torch()
    host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device="cuda")
    times = gpu_timing.event_times(lambda x: there.copy_(x, non_blocking=True), [host], rounds=10)
    return host.nbytes / min(times) * 1e3


@pytest.mark.parametrize("lies", ["in memory", "in a map of a file"])
def test_upload(benchmark, report, tmp_path, lies):
    import gpu_timing

    features, labels = backbone_features(*LARGE)
    if lies != "in memory":
        write(tmp_path, "npy", "m", features, labels)
        (model,) = open_zoo(tmp_path).models
    upload = Uploads(resolve("cuda"))

    def copy(_):
        return upload(features if lies == "in memory" else model.read_features())

    assert np.array_equal(copy(None).array[:100].get(), features[:100])
    median, spread = gpu_timing.summary(gpu_timing.wall_times(copy, [None], ROUNDS))
    benchmark.pedantic(copy, (None,), rounds=2)
    rate = features.nbytes / median * 1e3
    report(
        f"GPU upload of {features.nbytes / 1e6:.0f} MB {lies}: {median:.1f} ms (IQR {spread:.1f}), "
        f"{rate / 1e9:.1f} GB/s, {rate / bus_rate():.0%} of the bus's {bus_rate() / 1e9:.1f}; "
        f"reach {SHARE:.0%}",
        median_ms=median, rate=rate, bus_rate=bus_rate(), reach=SHARE,
    )  # fmt: skip
    assert rate >= SHARE * bus_rate()


@pytest.mark.parametrize("kind", ["safetensors", "npy"])
def test_rates_of_a_zoo(benchmark, report, tmp_path, kind):
    """LEAD's rates of every model, the next one's features on their way meanwhile."""
    import gpu_timing

    features, labels = backbone_features(*LARGE)
    for number in range(6):
        write(tmp_path, kind, f"m{number}", features, labels)
    models, buffers, upload = open_zoo(tmp_path).models, Buffers(), Uploads(resolve("cuda"))
    head = lf.Head(features.shape[1], 10, device="cuda")

    def read(model):
        got = read_model(model, empty=buffers.empty)
        got.there = upload(got.features)
        return got

    def run():
        found = []
        for _, got in read_ahead(models, read):
            found.append(lf.class_rates(got.there, labels, head))
            del got
        return found

    first = run()
    expected = lf.class_rates(features, labels, lf.Head(features.shape[1], 10))
    np.testing.assert_allclose(first[0], expected, rtol=1e-5)
    median, _ = gpu_timing.summary(gpu_timing.wall_times(lambda _: run(), [None], ROUNDS))
    benchmark.pedantic(run, rounds=1)
    rate = len(models) * features.nbytes / median * 1e3
    report(
        f"GPU rates of {len(models)} .{kind} files of {features.nbytes / 1e6:.0f} MB: "
        f"{rate / 1e9:.1f} GB/s, {rate / bus_rate():.0%} of the bus's {bus_rate() / 1e9:.1f}; "
        f"reach {SHARE:.0%}",
        rate=rate, bus_rate=bus_rate(), reach=SHARE,
    )  # fmt: skip
    assert rate >= SHARE * bus_rate()


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_rank(benchmark, report, tmp_path, kind):
    """Whole LEAD scores of 40 models of 5000 x 1024."""
    import gpu_timing

    features, labels = backbone_features(5000, 1024, 10)
    rng = np.random.default_rng(1)
    for number in range(40):
        shifted = features + np.float32(0.1) * rng.random(1024, np.float32)
        write(tmp_path, kind, f"m{number}", shifted, labels)
    expected = lf.rank(tmp_path, progress=False)

    def run():
        return lf.rank(tmp_path, device="cuda", progress=False)

    found = run()
    assert not found.failed
    for model, score in expected.scores.items():
        assert abs(found.scores[model] - score) <= 1e-2 * abs(score)
    times = gpu_timing.wall_times(lambda _: run(), [None], 3)
    benchmark.pedantic(run, rounds=1)
    rate = 40 / min(times) * 1e3
    report(
        f"GPU rank of 40 .{kind} files of 5000 x 1024, LEAD: {rate:.1f} models a second; "
        f"reach {MODELS_PER_SECOND:.0f}",
        rate=rate, reach=MODELS_PER_SECOND,
    )  # fmt: skip
    assert rate >= MODELS_PER_SECOND
