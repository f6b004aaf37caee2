"""The evolved score on a GPU against the memory's read bandwidth and the exponentials' rate."""

import numpy as np
import pytest
from environment import FULL

import lead_fast
from lead_fast.labels import encode

pytestmark = pytest.mark.gpu

ROWS, CLASSES = 1_000_000, 1000
TIMES = np.linspace(0.25, 2.0, 8)
REACH, BEYOND = 0.8, 0.9  # of the read bandwidth, one time
REACH_PASSES = 3.0  # times faster than eight passes
DTYPES = ("float32", "float16", "bfloat16") if FULL else ("float32", "float16")


@pytest.fixture(scope="module")
def problem():
    import gpu_timing

    torch = gpu_timing.torch()
    torch.manual_seed(0)
    initial = torch.randn((ROWS, CLASSES), device="cuda") * 3
    rng = np.random.default_rng(0)
    labels = encode(rng.integers(0, CLASSES, ROWS), classes=np.arange(CLASSES))
    yield initial, labels, rng.uniform(1e5, 1e6, CLASSES)
    del initial
    torch.cuda.empty_cache()


@pytest.mark.parametrize("dtype", DTYPES)
def test_evolved_score(benchmark, report, problem, dtype):
    import gpu_timing

    initial, labels, rates = problem
    torch = gpu_timing.torch()
    given = initial.to(getattr(torch, dtype))

    def score(times):
        return lead_fast.evolved_score(given, labels, rates, times, cross_entropy="logits")

    part = given[:2000].float().cpu().numpy()
    few = encode(labels.codes[:2000], classes=np.arange(CLASSES))
    exact = lead_fast.evolved_score(part, few, rates, TIMES, cross_entropy="logits")
    found = lead_fast.evolved_score(given[:2000], few, rates, TIMES, cross_entropy="logits")
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert np.array_equal(score(TIMES), score(TIMES))

    one, spread = gpu_timing.summary(gpu_timing.event_times(score, [TIMES[:1]]))
    eight, eight_spread = gpu_timing.summary(gpu_timing.event_times(score, [TIMES]))
    wall, _ = gpu_timing.summary(gpu_timing.wall_times(score, [TIMES[:1]]))
    benchmark.pedantic(score, (TIMES[:1],), rounds=20, warmup_rounds=2)
    nbytes = given.element_size() * given.numel()
    floor = 1e3 * nbytes / gpu_timing.read_bandwidth()
    exponentials = 1e3 * len(TIMES) * given.numel() / gpu_timing.exp_rate()
    ratio = len(TIMES) * one / eight
    report(
        f"GPU evolved_score {ROWS} x {CLASSES} {dtype}, logits: one time {one:.3f} ms (IQR "
        f"{spread:.3f}), call {wall:.3f} ms, {floor / one:.0%} of the read bandwidth "
        f"{gpu_timing.read_bandwidth() / 1e9:.0f} GB/s, reach {REACH:.0%}, beyond {BEYOND:.0%}; "
        f"{len(TIMES)} times {eight:.3f} ms (IQR {eight_spread:.3f}), {ratio:.1f} times faster "
        f"than {len(TIMES)} passes, reach {REACH_PASSES}; floors {floor:.3f} ms of bytes, "
        f"{exponentials:.3f} ms of {len(TIMES)} times' exponentials",
        one_ms=one, one_iqr_ms=spread, eight_ms=eight, eight_iqr_ms=eight_spread, wall_ms=wall,
        floor_bytes_ms=floor, floor_exponentials_ms=exponentials, share=floor / one, ratio=ratio,
    )  # fmt: skip
    if dtype == "float32":
        assert floor / one >= REACH
        assert ratio >= REACH_PASSES
