"""Data, the description of the run, and the lines printed at the end."""

import os
import pathlib
import tempfile

import numpy as np
import pipeline
import pytest
import threadpoolctl
import torch
from data import backbone_features
from environment import environment, headline, threads

import lead_fast
from lead_fast.backend import device_number
from lead_fast.errors import DeviceError

_LINES = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[_LINES] = []


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none; fail it under LEAD_FAST_REQUIRE_GPU=1."""
    if item.get_closest_marker("gpu") is None:
        return
    try:
        device_number("cuda")
    except DeviceError as error:
        if os.environ.get("LEAD_FAST_REQUIRE_GPU") == "1":
            pytest.fail(f"LEAD_FAST_REQUIRE_GPU=1, but {error}", pytrace=False)
        pytest.skip(f"no CUDA: {error}")
    pytest.importorskip("cupy")
    if not torch.cuda.is_available():
        pytest.skip("torch without CUDA")


def pytest_benchmark_update_machine_info(config, machine_info):
    for name in ("node", "release"):  # which machine it was is nobody's business
        machine_info.pop(name, None)
    machine_info.get("cpu", {}).pop("flags", None)
    machine_info["lead_fast"] = environment()
    if torch.cuda.is_available():
        import gpu_timing

        machine_info["gpu"] = gpu_timing.gpu()


def pytest_benchmark_update_commit_info(config, commit_info):
    described = environment()
    commit_info["command"] = described["command"]
    commit_info["uncommitted_changes"] = described["uncommitted_changes"]


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[_LINES]
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write_line(headline())
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def report(request, benchmark):
    """Print a line in the summary, also when the benchmark fails; store the numbers behind it."""
    benchmark.extra_info["environment"] = environment()

    def add(line, **numbers):
        request.config.stash[_LINES].append(line)
        if os.environ.get("LEAD_FAST_BENCH_LINES"):  # what stays if the run is cut off
            with open(os.environ["LEAD_FAST_BENCH_LINES"], "a") as file:
                print("-", line, file=file)
        benchmark.extra_info["line"] = line
        benchmark.extra_info.update(numbers)

    return add


@pytest.fixture(scope="session", autouse=True)
def same_threads():
    """The package, torch and every BLAS use the same number of threads; torch.func is warm."""
    torch.set_num_threads(threads())
    tiny = lead_fast.Head(3, 2, hidden=(4, 4))
    pipeline.class_kernels(np.ones((2, 3), np.float32), [np.arange(2)], tiny)
    with threadpoolctl.threadpool_limits(limits=threads(), user_api="blas"):
        yield


@pytest.fixture(scope="session")
def dataset():
    """Features (n, d) float32 and labels for (n, d, n_classes), drawn once and kept on disk."""
    with tempfile.TemporaryDirectory(prefix="lead_fast_bench_") as folder:

        def load(n, d, n_classes):
            path = pathlib.Path(folder) / f"{n}x{d}x{n_classes}"
            files = [path.with_suffix(f".{part}.npy") for part in ("features", "labels")]
            if not files[1].exists():
                for file, array in zip(files, backbone_features(n, d, n_classes), strict=True):
                    np.save(file, array)
            return tuple(np.load(file) for file in files)

        yield load
