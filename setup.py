"""Hands the C++ build to CMake; all metadata is in pyproject.toml.

Environment: CMAKE_ARGS (further arguments of the configure step), LEAD_FAST_CUDA (AUTO, ON or OFF),
CMAKE_BUILD_PARALLEL_LEVEL (number of compile jobs), CMAKE_GENERATOR (default: Ninja where it is
found), DEBUG=1 (an unoptimised build with symbols).
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CUDA = "_cuda*.so"  # the extension that may or may not be built


class CMakeExtension(Extension):
    """The extension modules that CMake builds, by the name of the one that is always there.

    Whether lead_fast._cuda is built beside it is known only once CMake has looked for a toolkit.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


def find_tool(name: str, attribute: str) -> str | None:
    """The program from the package of the same name if that is installed, else the one on PATH.

    The package comes first because it is the one that pyproject.toml asks for; in a virtual
    environment that is not activated it is not on PATH at all.
    """
    try:
        folder = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError):
        return shutil.which(name)
    return shutil.which(name, path=folder) or shutil.which(name)


class CMakeBuild(build_ext):
    """Configure and build with CMake."""

    def build_extension(self, ext: CMakeExtension) -> None:
        import pybind11

        cmake = find_tool("cmake", "CMAKE_BIN_DIR")
        if cmake is None:
            raise RuntimeError("CMake is needed to build lead_fast: pip install cmake")
        target = (Path.cwd() / self.get_ext_fullpath(ext.name)).resolve()
        for old in target.parent.glob(CUDA):  # of a build with other options
            old.unlink()
        # Not self.build_temp: that is a new folder for each editable install, and in a lasting one
        # the next build compiles only what has changed.
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        build_dir.mkdir(parents=True, exist_ok=True)

        debug = self.debug or os.environ.get("DEBUG", "0") not in ("", "0")
        arguments = [
            f"-DCMAKE_BUILD_TYPE={'Debug' if debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLEAD_FAST_CUDA={os.environ.get('LEAD_FAST_CUDA') or 'AUTO'}",
        ]
        ninja = find_tool("ninja", "BIN_DIR")
        if "CMAKE_GENERATOR" not in os.environ and ninja is not None:
            arguments += ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        arguments += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        # --fresh: the cache may name tools of a build environment that is gone. Objects stay.
        self.spawn([cmake, "--fresh", "-S", str(ROOT), "-B", str(build_dir), *arguments])

        build = [cmake, "--build", str(build_dir)]
        if "CMAKE_BUILD_PARALLEL_LEVEL" not in os.environ:
            build += ["--parallel", str(self.jobs())]
        self.spawn(build)

    def cuda_modules(self) -> list[Path]:
        """What was built beside the extension."""
        folder = Path(self.build_lib) / "lead_fast"
        return sorted(folder.glob(CUDA))

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        package = Path(self.get_finalized_command("build_py").get_package_dir("lead_fast"))
        for old in package.glob(CUDA):
            old.unlink()
        for module in self.cuda_modules():
            self.copy_file(str(module), str(package / module.name))

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), *map(str, self.cuda_modules())]

    def jobs(self) -> int:
        """Number of compile jobs: what `build_ext -j` says, else the processors we may use."""
        if self.parallel:
            return int(self.parallel)
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


setup(ext_modules=[CMakeExtension("lead_fast._cpu")], cmdclass={"build_ext": CMakeBuild})
