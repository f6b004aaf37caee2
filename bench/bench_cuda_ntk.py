"""Kernels and rates on a GPU, against the arithmetic and the bytes that they need."""

import numpy as np
import pytest
from data import backbone_features

import lead_fast
from lead_fast.labels import encode
from lead_fast.ntk import kernels_and_rates

pytestmark = pytest.mark.gpu

CLASSES, SAMPLES, WIDTH = 10, 64, 2048
REACH, BEYOND = 3.0, 0.5  # milliseconds


def problem():
    """Distinct feature matrices on the GPU, more of them than its cache holds, labels, a head."""
    import gpu_timing

    features, _ = backbone_features(CLASSES * SAMPLES, WIDTH, CLASSES)
    labels = encode(np.arange(CLASSES * SAMPLES) % CLASSES)
    torch = gpu_timing.torch()
    first = torch.from_numpy(features).cuda()
    count = gpu_timing.copies_for_cold_cache(features.nbytes)
    inputs = [first] + [first * (1.0 + 0.01 * i) for i in range(1, count)]
    return features, inputs, labels, lead_fast.Head(WIDTH, CLASSES, device="cuda")


def floors(head, samples, n_classes, kernels):
    """Milliseconds of the operations and of the bytes at the ceilings of this run."""
    import gpu_timing

    h1, h2 = head.hidden
    operations = 2 * samples * (WIDTH * h1 + 2 * h1 * h2)
    parameters = WIDTH * h1 + h1 * h2 + h2 * n_classes
    nbytes = 4 * (samples * WIDTH + parameters)
    if kernels:
        operations += samples * SAMPLES * (WIDTH + 2 * h1 + 2 * h2)  # one triangle
        nbytes += 8 * samples * SAMPLES
    return 1e3 * operations / gpu_timing.sgemm_rate(), 1e3 * nbytes / gpu_timing.read_bandwidth()


@pytest.mark.parametrize("what", ["kernels and rates", "rates"])
def test_kernels_and_rates(benchmark, report, what):
    import gpu_timing

    features, inputs, labels, head = problem()
    both = what != "rates"
    work = kernels_and_rates if both else lead_fast.class_rates

    def call(x):
        return work(x, labels, head)

    plain = lead_fast.Head(WIDTH, CLASSES)
    exact = lead_fast.class_rates(features, labels, plain)
    found = call(inputs[0])
    np.testing.assert_allclose(found[1] if both else found, exact, rtol=1e-5)
    if both:
        expected = lead_fast.class_kernels(features, labels, plain)
        for name, kernel in found[0].items():
            limit = 1e-5 * np.abs(expected[name]).max()
            np.testing.assert_allclose(kernel.cpu(), expected[name], rtol=0, atol=limit)

    median, spread = gpu_timing.summary(gpu_timing.event_times(call, inputs))
    wall, wall_spread = gpu_timing.summary(gpu_timing.wall_times(call, inputs))
    benchmark.pedantic(call, (inputs[1],), rounds=20, warmup_rounds=2)
    operations, nbytes = floors(head, len(features), CLASSES, both)
    report(
        f"GPU {what}, {CLASSES} x {SAMPLES}, D={WIDTH}: {median:.3f} ms (IQR {spread:.3f}), call "
        f"{wall:.3f} ms (IQR {wall_spread:.3f}); floors {operations:.3f} ms of operations, "
        f"{nbytes:.3f} ms of bytes; {max(operations, nbytes) / median:.0%} of the larger; "
        f"reach {REACH} ms, beyond {BEYOND} ms",
        median_ms=median, iqr_ms=spread, wall_ms=wall, wall_iqr_ms=wall_spread,
        floor_operations_ms=operations, floor_bytes_ms=nbytes, reach_ms=REACH, beyond_ms=BEYOND,
    )  # fmt: skip
    assert median <= REACH
