"""The build: what build_info() says about it, and what the options of CMake and setup.py do."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lead_fast
from lead_fast import _cpu

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTION_SETS = (
    ["baseline", "avx2", "avx512"] if os.uname().machine == "x86_64" else ["baseline"]
)


def run_python(code, **environment):
    """Run `code` in a new interpreter, away from the source tree; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


def tool(name, *options):
    """Output of a binutils program, or a skip that names it."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} (binutils) is not installed")
    return subprocess.run([name, *options], capture_output=True, text=True, check=True).stdout


# ---- build_info ---------------------------------------------------------------------------------


def test_build_info_describes_this_build():
    info = lead_fast.build_info()
    assert info["version"] == lead_fast.__version__ == importlib.metadata.version("lead-fast")
    assert re.fullmatch(r"(GNU|Clang|AppleClang|IntelLLVM) \d+\.\d+.*", info["compiler"])
    assert "-std=c++17" in info["flags"]
    assert info["build_type"] in ("Release", "Debug")
    assert sorted(info["instruction_sets_compiled"]) == sorted(INSTRUCTION_SETS)
    assert info["instruction_set"] in INSTRUCTION_SETS
    assert info["openmp_threads"] >= 1
    assert re.fullmatch(r"\d+(\.\d+)?", str(info["openmp_version"]))
    assert isinstance(info["cuda"], bool)
    assert info["cuda_reason"]


def test_build_info_is_a_fresh_copy():
    lead_fast.build_info()["compiler"] = "changed by the caller"
    assert lead_fast.build_info()["compiler"] != "changed by the caller"


def test_flags_are_portable():
    flags = lead_fast.build_info()["flags"].split()
    assert not [f for f in flags if f.startswith(("-march", "-mtune", "-mavx", "-mfma"))]
    assert "-ffast-math" not in flags and "-Ofast" not in flags


def test_blas_is_scipys():
    blas = lead_fast.build_info()["blas"]
    assert "scipy" in str(blas).lower()


def test_no_cuda_comes_with_its_reason():
    info = lead_fast.build_info()
    if info["cuda"]:
        pytest.skip("built with CUDA")
    assert any(word in info["cuda_reason"] for word in ("no CUDA", "switched off", "but no"))


# ---- importing ----------------------------------------------------------------------------------


def test_neither_import_nor_numpy_input_loads_a_gpu_or_deep_learning_library():
    code = """
import sys
import numpy as np
import lead_fast
def loaded():
    return sorted({"torch", "cupy", "tensorflow", "jax"} & set(sys.modules))
assert loaded() == [], loaded()
for name in lead_fast.__all__:
    getattr(lead_fast, name)
assert loaded() == [], loaded()
rng = np.random.default_rng(0)
score = lead_fast.score(rng.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 4)
assert np.isfinite(score)
assert loaded() == [], loaded()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


# ---- instruction sets ---------------------------------------------------------------------------

CHOSEN = "import lead_fast; print(lead_fast.build_info()['instruction_set'])"


@pytest.fixture(scope="module")
def usable():
    """The instruction sets up to the widest that this processor has, narrowest first."""
    done = run_python(CHOSEN, LEAD_FAST_ISA="")
    assert done.returncode == 0, done.stderr
    return INSTRUCTION_SETS[: INSTRUCTION_SETS.index(done.stdout.strip()) + 1]


def test_instruction_set_can_be_lowered(usable):
    for isa in usable:
        done = run_python(CHOSEN, LEAD_FAST_ISA=isa)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == isa


def test_unusable_instruction_set_is_refused(usable):
    for isa in ["sse9", *INSTRUCTION_SETS[len(usable) :]]:
        done = run_python(CHOSEN, LEAD_FAST_ISA=isa)
        assert done.returncode != 0
        message = done.stderr.strip().splitlines()[-1]
        assert "LEAD_FAST_ISA" in message and isa in message and "baseline" in message


@pytest.mark.skipif(len(INSTRUCTION_SETS) == 1, reason="only x86-64 has more than the baseline")
def test_wider_instruction_sets_stay_in_their_own_functions():
    """No merged symbol in the objects that use more than the baseline.

    An inline function or template instance is a weak symbol: the linker keeps one copy for the
    whole module. Were that the AVX-512 copy, the module would crash on a processor without it.
    """
    build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
    objects = sorted(build.glob("csrc/cpu/CMakeFiles/_cpu.dir/*_avx*.o"))
    if not objects:
        pytest.skip(f"no objects in {build}: not built in this source tree")
    for path in objects:
        rows = [line.split() for line in tool("nm", "--defined-only", str(path)).splitlines()]
        assert rows, f"{path.name} defines nothing"
        merged = [row[-1] for row in rows if row[-2] in "VWuvw"]
        assert merged == [], f"{path.name} defines {merged}"


# ---- what the module links ----------------------------------------------------------------------


def test_module_links_no_blas_of_its_own():
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-d", _cpu.__file__))
    assert any(name.startswith("libc.so") for name in needed), needed
    pattern = "blas|lapack|mkl|atlas|blis|cuda|cublas|cusolver|python"
    assert [name for name in needed if re.search(pattern, name)] == []


def test_module_exports_only_its_entry_point():
    rows = tool("nm", "-D", "--defined-only", _cpu.__file__).splitlines()
    exported = [row.split()[-1] for row in rows]
    assert "PyInit__cpu" in exported
    assert [name for name in exported if "lead_fast" in name] == []


# ---- options of the configure step --------------------------------------------------------------


@pytest.fixture(scope="module")
def configure(tmp_path_factory):
    """Return a function that configures a copy of the tree without CUDA sources, with options."""
    try:
        import cmake

        program = str(Path(cmake.CMAKE_BIN_DIR) / "cmake")
    except ImportError:
        program = shutil.which("cmake")
    if program is None:
        pytest.skip("cmake is not installed")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed")
    if not (ROOT / "CMakeLists.txt").exists():
        pytest.skip("not in a source tree")

    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "csrc", tree / "csrc", ignore=shutil.ignore_patterns("cuda"))
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    (tree / "lead_fast").mkdir()
    shutil.copy(ROOT / "lead_fast" / "_version.py", tree / "lead_fast")

    def run(*options, cuda_sources=False, **environment):
        if cuda_sources:
            (tree / "csrc" / "cuda").mkdir()
            (tree / "csrc" / "cuda" / "CMakeLists.txt").write_text("")
        try:
            return subprocess.run(
                [
                    program,
                    *("-S", str(tree), "-B", str(tmp_path_factory.mktemp("build"))),
                    f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                    f"-DPython_EXECUTABLE={sys.executable}",
                    *options,
                ],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=300,
            )
        finally:
            shutil.rmtree(tree / "csrc" / "cuda", ignore_errors=True)

    return run


def test_summary_names_every_feature(configure):
    done = configure()
    assert done.returncode == 0, done.stderr
    assert f"lead_fast {lead_fast.__version__}" in done.stdout
    for feature in ("compiler", "flags", "build type", "instruction sets", "OpenMP"):
        assert re.search(rf"^--   {feature} +\S", done.stdout, re.M), feature
    assert re.search(r"^--   CUDA +no \(no CUDA sources in this version\)$", done.stdout, re.M)


def test_cuda_on_without_sources_fails_with_the_reason(configure):
    done = configure("-DLEAD_FAST_CUDA=ON")
    assert done.returncode != 0
    assert "no CUDA sources in this version" in done.stderr


def test_cuda_off_is_reported(configure):
    done = configure("-DLEAD_FAST_CUDA=OFF")
    assert done.returncode == 0, done.stderr
    assert re.search(r"CUDA +no \(switched off by LEAD_FAST_CUDA=OFF\)", done.stdout)


@pytest.mark.parametrize("value", ["maybe", "", "on", "AUTO;ON"])
def test_unknown_cuda_value_fails(configure, value):
    done = configure(f"-DLEAD_FAST_CUDA={value}")
    assert done.returncode != 0
    assert "use AUTO, ON or OFF" in done.stderr


def test_missing_cuda_compiler_degrades_unless_requested(configure):
    missing = {"cuda_sources": True, "CUDACXX": "/nonexistent/nvcc"}
    done = configure(**missing)
    assert done.returncode == 0, done.stderr
    assert re.search(r"CUDA +no \(no CUDA compiler found\)", done.stdout)
    done = configure("-DLEAD_FAST_CUDA=ON", **missing)
    assert done.returncode != 0
    assert "no CUDA compiler found" in done.stderr
