"""A zoo of files on a GPU: how fast features arrive there, and models scored end to end.

Files come from the page cache: what is measured is the package, not a disk. The ceiling is the
rate at which the bus copies pinned memory, measured in the same run. Lines are reported before
anything is asserted, with the parts that explain them.
"""

import functools
import time

import numpy as np
import pytest
from data import backbone_features
from environment import FULL
from zoo_ahead import write

import lead_fast as lf
from lead_fast.device import resolve
from lead_fast.zoo import upload
from lead_fast.zoo.ahead import read_ahead, read_model
from lead_fast.zoo.buffers import Buffers
from lead_fast.zoo.read import open_zoo

pytestmark = pytest.mark.gpu

SHARE = 0.5  # of the bus's rate, to reach
MODELS_PER_SECOND = 20.0
LARGE = (50000, 2048, 10) if FULL else (20000, 2048, 10)
ROUNDS = 7
MODELS, COMPARED = 40, 4  # of a ranking, and those of them that the CPU scores as well

drawn = functools.cache(backbone_features)


@functools.cache
def bus_rate():
    """Bytes per second of copying 256 MiB of pinned memory to the GPU."""
    import gpu_timing

    torch = gpu_timing.torch()
    host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    times = gpu_timing.event_times(lambda x: there.copy_(x, non_blocking=True), [host], rounds=10)
    return host.nbytes / min(times) * 1e3


def milliseconds(call):
    """Median and quartile distance of the wall time, the device's work included."""
    import gpu_timing

    return gpu_timing.summary(gpu_timing.wall_times(lambda _: call(), [None], ROUNDS))


@pytest.mark.parametrize("lies", ["in memory", "in a map of a file"])
def test_upload(benchmark, report, tmp_path, lies):
    features, labels = drawn(*LARGE)
    if lies != "in memory":
        write(tmp_path, "npy", "m", features, labels)
        (model,) = open_zoo(tmp_path).models
    place = resolve("cuda")
    send = upload.Uploads(place)

    def copy(send=send):
        return send(features if lies == "in memory" else model.read_features())

    started = time.perf_counter()
    found = copy().array[::997].get()
    first = 1e3 * (time.perf_counter() - started)
    median, spread = milliseconds(copy)
    others = {}
    most = send._threads
    for threads, piece in (
        (1, 512), (4, 512), (8, 512), (16, 512),
        (most, 256), (most, 1024), (most, 2048), (most, 4096),
    ):  # fmt: skip
        other = upload.Uploads(place, piece << 10, threads)
        copy(other)
        others[threads, piece] = milliseconds(lambda other=other: copy(other))[0]
        other.release()
    parts = ", ".join(f"{threads} x {piece} {ms:.1f}" for (threads, piece), ms in others.items())
    benchmark.pedantic(copy, rounds=2)
    rate = features.nbytes / median * 1e3
    report(
        f"GPU upload of {features.nbytes / 1e6:.0f} MB {lies}: {median:.1f} ms (IQR {spread:.1f}), "
        f"{rate / 1e9:.1f} GB/s, {rate / bus_rate():.0%} of the bus's {bus_rate() / 1e9:.1f}; "
        f"by {most} threads in pieces of {send._piece >> 10} KiB ({parts} ms); "
        f"first {first:.0f}; reach {SHARE:.0%}",
        median_ms=median, rate=rate, bus_rate=bus_rate(), others_ms=parts, first_ms=first,
        reach=SHARE,
    )  # fmt: skip
    assert np.array_equal(found, features[::997])
    assert rate >= SHARE * bus_rate()


@pytest.mark.parametrize("kind", ["safetensors", "npy"])
def test_rates_of_a_zoo(benchmark, report, tmp_path, kind):
    """LEAD's rates of every model, the next one's features on their way meanwhile."""
    features, labels = drawn(*LARGE)
    for number in range(6):
        write(tmp_path, kind, f"m{number}", features, labels)
    models, buffers = open_zoo(tmp_path).models, Buffers()
    send, head = upload.Uploads(resolve("cuda")), lf.Head(features.shape[1], 10, device="cuda")

    def read(model):
        got = read_model(model, empty=buffers.empty, touch=False)
        got.there = send(got.features)
        return got

    def run():
        found = []
        for _, got in read_ahead(models, read):
            found.append(lf.class_rates(got.there, labels, head))
            del got
        return found

    first = run()
    median, spread = milliseconds(run)
    there = read(models[0]).there
    reading = milliseconds(lambda: [read(model) for model in models])[0]
    rates = milliseconds(lambda: [lf.class_rates(there, labels, head) for _ in models])[0]
    benchmark.pedantic(run, rounds=1)
    rate = len(models) * features.nbytes / median * 1e3
    report(
        f"GPU rates of {len(models)} .{kind} files of {features.nbytes / 1e6:.0f} MB: "
        f"{median:.1f} ms (IQR {spread:.1f}), {rate / 1e9:.1f} GB/s, {rate / bus_rate():.0%} of "
        f"the bus's {bus_rate() / 1e9:.1f}; reading and sending alone {reading:.1f} ms, rates "
        f"alone {rates:.1f}; reach {SHARE:.0%}",
        median_ms=median, rate=rate, bus_rate=bus_rate(), reading_ms=reading, rates_ms=rates,
        reach=SHARE,
    )  # fmt: skip
    expected = lf.class_rates(features, labels, lf.Head(features.shape[1], 10))
    for found in first:
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert rate >= SHARE * bus_rate()


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_rank(benchmark, report, tmp_path, kind):
    """Whole LEAD scores of 40 models of 5000 x 1024."""
    features, labels = drawn(5000, 1024, 10)
    rng, some = np.random.default_rng(1), {}
    for number in range(MODELS):
        shifted = features + np.float32(0.1) * rng.random(1024, np.float32)
        write(tmp_path, kind, f"m{number}", shifted, labels)
        if number < COMPARED:
            some[f"m{number}"] = shifted
    expected = lf.rank(some, labels, progress=False)
    lf.rank(some, labels, device="cuda", progress=False)  # compiles what has to be
    rankings, seconds = [], []

    def run():
        started = time.perf_counter()
        rankings.append(lf.rank(tmp_path, device="cuda", progress=False))
        seconds.append(time.perf_counter() - started)

    benchmark.pedantic(run, rounds=2)
    models, buffers = open_zoo(tmp_path).models[:8], Buffers()
    send = upload.Uploads(resolve("cuda"))

    def read(model):
        return send(read_model(model, empty=buffers.empty, touch=False).features)

    reading = milliseconds(lambda: [read(model) for model in models])[0] / len(models)
    scorer, there = lf.Scorer(labels, device="cuda"), read(models[0])
    scoring, _ = milliseconds(lambda: scorer(there))
    rate = MODELS / min(seconds)
    report(
        f"GPU rank of {MODELS} .{kind} files of 5000 x 1024, LEAD: {rate:.1f} models a second, "
        f"{1e3 / rate:.1f} ms a model; reading and sending alone {reading:.1f} ms, scoring alone "
        f"{scoring:.1f}; reach {MODELS_PER_SECOND:.0f}",
        rate=rate, reading_ms=reading, scoring_ms=scoring, reach=MODELS_PER_SECOND,
    )  # fmt: skip
    for found in rankings:
        assert not found.failed
        for model, score in expected.scores.items():
            assert abs(found.scores[model] - score) <= 1e-2 * abs(score)
    assert rate >= MODELS_PER_SECOND
