"""What a measured number is worthless without: machine, threads, commit, command, versions."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys

import lead_fast

FULL = os.environ.get("LEAD_FAST_BENCH_FULL") == "1"
ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "cupy-cuda12x", "cupy-cuda13x")


def cpu_model():
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def threads():
    """Threads of the package's own loops."""
    return lead_fast.build_info()["openmp_threads"]


@functools.cache
def environment():
    """Describe the run; a flat dict of strings and numbers, and ``build`` from the package."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads(),
        "commit": _git("rev-parse", "HEAD") or os.environ.get("LEAD_FAST_COMMIT", "unknown"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": shlex.join([os.path.basename(sys.orig_argv[0]), *sys.orig_argv[1:]]),
        "variables": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("LEAD_FAST_", "OMP_", "OPENBLAS_"))
        },
        "full": FULL,
        "versions": {
            "python": platform.python_version(),
            "lead_fast": lead_fast.__version__,
            **{package: _version(package) for package in PACKAGES},
        },
        "build": lead_fast.build_info(),
    }


def headline():
    """One line for the top of a table."""
    e = environment()
    changed = " with changes" if e["uncommitted_changes"] else ""
    return (
        f"{e['cpu']}, {e['cores']} cores, {e['threads']} threads, "
        f"{e['build']['instruction_set']}, commit {e['commit'][:10]}{changed}"
    )
