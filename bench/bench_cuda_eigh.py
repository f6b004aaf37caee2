"""Eigenvalues of many small kernels on a GPU, beside CuPy, torch and cuSOLVER's batched solver."""

import numpy as np
import pytest

import lead_fast

pytestmark = pytest.mark.gpu

COUNT, SIZE = 400, 64
REACH, BEYOND = 2.0, 5.0  # times the faster of CuPy and torch


def test_spectrum(benchmark, report):
    import cupy
    import gpu_timing

    from lead_fast.device import resolve
    from lead_fast.eigh import _stack_on

    torch = gpu_timing.torch()
    factors = np.random.default_rng(0).normal(size=(COUNT, SIZE, SIZE))
    stack = factors @ factors.transpose(0, 2, 1)
    first = torch.from_numpy(stack).cuda()
    copies = gpu_timing.copies_for_cold_cache(stack.nbytes)
    inputs = [first] + [first * (1.0 + 0.01 * i) for i in range(1, copies)]
    place = resolve(None, first)
    calls = {
        "lead_fast": lead_fast.spectrum,
        "cuSOLVER batched": lambda x: _stack_on(place, place.bring(x, "kernels"), False, own=False),
        "torch": torch.linalg.eigvalsh,
        "CuPy": lambda x: cupy.linalg.eigvalsh(cupy.from_dlpack(x)),
    }
    expected = np.linalg.eigvalsh(stack)
    for name, call in calls.items():
        found = cupy.asnumpy(cupy.from_dlpack(call(first)))
        limit = 1e-12 * expected.max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=name)
    rounds = 15
    found = {
        name: gpu_timing.summary(gpu_timing.event_times(call, inputs, rounds))
        for name, call in calls.items()
    }
    kernels = {i: first[i] for i in range(COUNT)}
    wall, _ = gpu_timing.summary(gpu_timing.wall_times(lead_fast.spectrum, inputs, rounds))
    named, _ = gpu_timing.summary(gpu_timing.wall_times(lead_fast.spectrum, [kernels], rounds))
    benchmark.pedantic(lead_fast.spectrum, (first,), rounds=rounds, warmup_rounds=2)
    median, spread = found["lead_fast"]
    ratio = min(found["torch"][0], found["CuPy"][0]) / median
    # Reduction 4/3 n^3, counts of about 30 cuts for n eigenvalues and n rows, 3 operations each.
    operations = COUNT * (4 / 3 * SIZE**3 + 3 * 30 * SIZE**2)
    others = ", ".join(
        f"{name} {value:.3f} ms (IQR {iqr:.3f})" for name, (value, iqr) in found.items()
    )
    floor = 1e3 * stack.nbytes / gpu_timing.read_bandwidth()
    report(
        f"GPU eigenvalues of {COUNT} x {SIZE} x {SIZE} float64: {others}; ratio to the faster of "
        f"torch and CuPy {ratio:.1f}, reach {REACH}, beyond {BEYOND}; call {wall:.3f} ms, from a "
        f"dictionary {named:.3f} ms; floor {floor:.4f} ms of bytes; "
        f"{operations / median / 1e6:.0f} GFLOP/s float64",
        median_ms=median, iqr_ms=spread, ratio=ratio, floor_bytes_ms=floor, wall_ms=wall,
        dictionary_ms=named, reach=REACH, beyond=BEYOND,
        others_ms={name: value for name, (value, _) in found.items()},
    )  # fmt: skip
    assert ratio >= REACH
