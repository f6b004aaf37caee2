"""The CUDA module as far as it goes without a GPU: loading, linking, refusing."""

import importlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import gpu_missing, one_line

import lead_fast as lf
from lead_fast import backend
from lead_fast.errors import DeviceError

INFO = lf.build_info()
REQUIRED = os.environ.get("LEAD_FAST_REQUIRE_CUDA") == "1"

built = pytest.mark.skipif(
    not INFO["cuda"] and not REQUIRED, reason=f"no CUDA backend: {INFO['cuda_reason']}"
)
without_gpu = pytest.mark.skipif(
    INFO["cuda"] and gpu_missing() is None, reason="there is a GPU here"
)


@pytest.fixture
def cuda():
    """The module, or a skip where its libraries are not installed."""
    try:
        return backend.cuda()
    except DeviceError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(lf.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )


# -------------------------------------------------------------------------------------- the build


@built
def test_the_build_says_what_it_was_made_for():
    assert re.fullmatch(r"1[23]\.\d+", INFO["cuda_version"])
    names = INFO["cuda_architectures"]
    assert names and all(re.fullmatch(r"\d+a?(-real|-virtual)?|native", name) for name in names)
    if REQUIRED:  # the default list
        assert {"80-real", "86-real", "89-real", "90-real"} <= set(names)
        assert names[-1].endswith("-virtual")


@built
def test_module_and_build_agree(cuda):
    found = cuda.build_info()
    assert found["cuda_version"] == INFO["cuda_version"]
    assert found["cuda_architectures"].split() == INFO["cuda_architectures"]
    assert found["cublas"].split(".")[0] == INFO["cuda_version"].split(".")[0]


@built
def test_module_links_neither_the_driver_nor_a_folder_of_the_builder(cuda):
    if shutil.which("readelf") is None:
        pytest.skip("readelf (binutils) is not installed")
    text = subprocess.run(
        ["readelf", "-d", cuda.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", text)
    major = int(INFO["cuda_version"].split(".")[0])
    assert f"libcublas.so.{major}" in needed and f"libcusolver.so.{major - 1}" in needed
    assert not [name for name in needed if re.match(r"lib(cuda|cudart|nvidia)", name)]
    assert "RPATH" not in text and "RUNPATH" not in text


@built
def test_exports_only_its_entry_point(cuda):
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not installed")
    rows = subprocess.run(
        ["nm", "-D", "--defined-only", cuda.__file__], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    exported = [row.split()[-1] for row in rows]
    assert "PyInit__cuda" in exported
    assert [name for name in exported if "lead_fast" in name] == []


# ------------------------------------------------------------------------------------- the driver


@built
def test_loading_the_module_starts_nothing(cuda):
    code = """
import lead_fast
from lead_fast import backend
backend.cuda()
lead_fast.build_info()
maps = open("/proc/self/maps").read()
assert "libcublas" in maps and "libcuda.so" not in maps, "the driver was loaded"
import sys
assert "cupy" not in sys.modules and "torch" not in sys.modules
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@without_gpu
@pytest.mark.parametrize(
    "call",
    [
        lambda: lf.Head(3, 2, device="cuda"),
        lambda: lf.class_rates(np.eye(4, 3), [0, 0, 1, 1], lf.Head(3, 2), device="cuda"),
        lambda: lf.class_kernels(np.eye(4, 3), [0, 0, 1, 1], lf.Head(3, 2), device="cuda:0"),
        lambda: lf.spectrum({"a": np.eye(2)}, device="cuda"),
        lambda: lf.spectrum(np.eye(2)[None], device="cuda"),
        lambda: lf.evolve(np.eye(2), [0, 1], [1.0, 1.0], device="cuda"),
        lambda: lf.evolved_score(np.eye(2), [0, 1], [1.0, 1.0], 1.0, device="cuda"),
        lambda: lf.lead(np.eye(4, 3), [0, 0, 1, 1], device="cuda"),
        lambda: lf.Scorer([0, 1], device="cuda"),
    ],
)
def test_without_a_gpu_the_device_is_refused_in_one_line(call):
    with pytest.raises(DeviceError, match="devices here: cpu") as caught:
        call()
    assert "not available" in one_line(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "tpu", "CUDA"])
def test_unknown_devices(device):
    with pytest.raises(DeviceError, match="unknown device") as caught:
        backend.check_device(device)
    one_line(caught.value)


def test_devices_that_are_no_names():
    with pytest.raises(lf.errors.InputTypeError):
        backend.check_device(0)
    assert backend.check_device(None) == backend.check_device("cpu") == "cpu"


def _ask_in_child(queue):
    try:
        queue.put(f"{backend.cuda().forked_after_use()} {backend.cuda().device_count()}")
    except DeviceError as error:
        queue.put(str(error))


@built
@without_gpu
def test_a_fork_before_any_use_is_no_reason_to_refuse(cuda):
    """The child says what the parent says, not that CUDA was used before."""
    with pytest.raises(DeviceError) as caught:
        cuda.device_count()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_ask_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == str(caught.value)
    child.join(timeout=60)
    assert child.exitcode == 0


@pytest.mark.gpu
def test_a_fork_after_use_is_refused_and_leaves_the_parent_alone():
    before = lf.spectrum({"a": np.eye(3)}, device="cuda")["a"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_ask_in_child, args=(queue,))
    child.start()
    assert "spawn" in queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    after = lf.spectrum({"a": np.eye(3)}, device="cuda")["a"]
    assert (before == after).all()


@pytest.mark.gpu
def test_handles_are_kept_and_memory_is_given_back():
    module = backend.cuda()
    features = np.ones((64, 33), np.float32)
    head = lf.Head(33, 2, (65,), device="cuda")
    for _ in range(5):
        lf.class_kernels(features, np.arange(64) % 2, head, device="cuda")
    made = module.usage()["handles_made"]
    for _ in range(5):
        lf.class_kernels(features, np.arange(64) % 2, head, device="cuda")
    assert module.usage()["handles_made"] == made
    assert module.usage()["used"] == 0
    module.release()
    found = module.usage()
    assert found["handles_idle"] == 0 and found["reserved"] == 0
    lf.class_kernels(features, np.arange(64) % 2, head, device="cuda")


@pytest.mark.gpu
def test_lead_says_that_cupy_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="CuPy is needed") as caught:
        lf.lead(np.eye(4, 3), [0, 0, 1, 1], device="cuda")
    one_line(caught.value)


# ------------------------------------------------------------------------------- missing libraries


@built
@pytest.mark.parametrize("missing", ["pathfinder", "library", "module"])
def test_what_is_missing_is_named_with_its_extra(monkeypatch, missing):
    backend.cuda.cache_clear()
    major = INFO["cuda_version"].split(".")[0]
    if missing == "pathfinder":
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
        words = "cuda-pathfinder"
    else:
        pathfinder = pytest.importorskip("cuda.pathfinder")

        def load(name):
            raise RuntimeError(f"no {name}\nat all")

        fake = load if missing == "library" else (lambda name: None)
        monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", fake)
        words = "cublas was not found"
    if missing == "module":
        monkeypatch.setitem(sys.modules, "lead_fast._cuda", None)
        monkeypatch.delattr(lf, "_cuda", raising=False)
        words = "cannot be loaded"
    try:
        with pytest.raises(DeviceError, match=words) as caught:
            backend.cuda()
    finally:
        backend.cuda.cache_clear()
    assert f"lead-fast[cuda{major}]" in one_line(caught.value)


def test_a_build_without_cuda_says_why(monkeypatch):
    class Core:
        @staticmethod
        def build_info():
            return {"cuda": False, "cuda_reason": "switched off by a test", "cuda_version": ""}

    backend.cuda.cache_clear()
    monkeypatch.setattr(backend, "cpu", lambda: Core)
    try:
        with pytest.raises(DeviceError, match="switched off by a test"):
            backend.check_device("cuda")
    finally:
        backend.cuda.cache_clear()


def test_import_of_the_package_does_not_load_the_module():
    code = (
        "import lead_fast, sys; lead_fast.build_info(); assert 'lead_fast._cuda' not in sys.modules"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------- the GPU's eigenvalues, on the processor


def test_eigenvalues_by_a_team_of_threads():
    """The algorithm of csrc/tridiagonal.h, which a block of the GPU runs, by threads here."""
    test_eigh = importlib.import_module("test_eigh")
    for kind, make in test_eigh.MATRICES.items():
        rng = np.random.default_rng(5)
        for n in (1, 2, 3, 31, 33, 64, 97, 128):
            matrix = np.ascontiguousarray(make(n, rng))
            expected = np.linalg.eigvalsh(matrix)
            limit = test_eigh.FACTOR * n * test_eigh.EPS64 * np.max(np.abs(expected))
            for team in (1, 2, 7) if n > 3 else (1, 4, 64):
                values = backend.cpu().team_eigenvalues(matrix, team)
                assert np.all(np.diff(values) >= 0)
                test_eigh.assert_close(values, expected, limit, f"{kind} {n} by {team}")
