"""Timing on a GPU by events, ceilings measured in the same run, and what describes the device."""

import functools
import statistics
import subprocess
import time

import numpy as np

from lead_fast import backend

BUSY = 2_000_000  # cycles, about a millisecond
L2_FACTOR = 4  # inputs rotate through at least this many times the cache


@functools.cache
def torch():
    import torch as module

    return module


@functools.cache
def gpu():
    """Describe the device: a flat dict."""
    found = dict(backend.cuda().device_info(0))
    found.update({f"build_{k}": v for k, v in backend.cuda().build_info().items()})
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0"]
        found["driver"] = subprocess.run(
            query, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["driver"] = "unknown"
    return found


def event_times(call, inputs, rounds=30, warm=3):
    """Milliseconds of the device for each of `rounds` runs of `call(input)`, by CUDA events.

    Inputs take turns. The device is kept busy while the host prepares a run, so that what lies
    between the events is work, not waiting for the host; see `wall_times` for both.
    """
    cuda = torch().cuda
    for i in range(warm):
        call(inputs[i % len(inputs)])
    cuda.synchronize()
    times = []
    for i in range(rounds):
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        cuda._sleep(BUSY)
        start.record()
        call(inputs[i % len(inputs)])
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def wall_times(call, inputs, rounds=30):
    """Milliseconds of each run by the host's clock, from the call to the device at rest."""
    cuda = torch().cuda
    times = []
    for i in range(rounds):
        cuda.synchronize()
        start = time.perf_counter()
        call(inputs[i % len(inputs)])
        cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def copies_for_cold_cache(nbytes, most=64):
    """How many inputs of this size it takes for the cache to be cold at each turn."""
    return int(np.clip(-(-L2_FACTOR * gpu()["l2_bytes"] // max(nbytes, 1)), 2, most))


def summary(times):
    """Median and quartile distance, milliseconds."""
    low, high = np.percentile(times, [25, 75])
    return statistics.median(times), float(high - low)


@functools.cache
def read_bandwidth():
    """Bytes per second of reading 4 GiB once (a sum), the best of torch's and of a copy's read."""
    t = torch()
    data = t.ones(2**30, dtype=t.float32, device="cuda")
    read = min(event_times(lambda x: x.sum(), [data], rounds=10))
    other = t.empty_like(data)
    copy = min(event_times(lambda x: other.copy_(x), [data], rounds=10))
    return max(data.nbytes / read, 2 * data.nbytes / copy) * 1e3


@functools.cache
def sgemm_rate(tf32=False):
    """Operations per second of a float32 product of 8192, perhaps in TF32."""
    t = torch()
    t.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (t.randn((8192, 8192), device="cuda") for _ in range(2))
    found = 2 * 8192**3 / min(event_times(lambda x: t.mm(x, b), [a], rounds=5)) * 1e3
    t.backends.cuda.matmul.allow_tf32 = False
    return found


_EXPONENTIALS = r"""
extern "C" __global__ void exponentials(float* out, int rounds) {
    float x[8];
    for (int i = 0; i < 8; ++i) x[i] = -1e-3f * (threadIdx.x + i);
    for (int r = 0; r < rounds; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
    }
    float sum = 0.0f;
    for (int i = 0; i < 8; ++i) sum += x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""


@functools.cache
def exp_rate():
    """Exponentials per second of the special-function units: a kernel of nothing else."""
    import cupy

    kernel = cupy.RawKernel(_EXPONENTIALS, "exponentials")
    blocks, threads, rounds = 16 * gpu()["processors"], 256, 2000
    out = cupy.empty(blocks * threads, cupy.float32)
    times = []
    for _ in range(6):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        kernel((blocks,), (threads,), (out, np.int32(rounds)))
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end))
    return 8 * rounds * blocks * threads / min(times[1:]) * 1e3
