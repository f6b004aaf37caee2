"""Run the tests of the CUDA backend on a processor: ``python tests/emulated_cuda/run.py``.

What is not known here is for pytest, as in ``... run.py --sanitize thread -k evolve``.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import build

TESTS = build.HERE.parent


def environment(module, sanitize, order):
    """What the process of the tests needs."""
    found = {
        **os.environ,
        "EMULATED_CUDA": str(module),
        "EMULATED_ORDER": order,
        "LEAD_FAST_REQUIRE_GPU": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        # Many large arrays come and go: without these, half of the time is the kernel's.
        "MALLOC_MMAP_THRESHOLD_": "200000000",
        "MALLOC_TRIM_THRESHOLD_": "400000000",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if sanitize != "none":
        # Python has no sanitizer, so its library comes first; libstdc++ with it, as Python has none
        # when the library looks for what it intercepts there.
        short = {"address": "asan", "thread": "tsan"}[sanitize]
        names = (f"lib{short}.so", "libstdc++.so.6")
        found["LD_PRELOAD"] = ":".join(
            subprocess.run(
                [*build.compiler(), f"-print-file-name={name}"],
                check=True, capture_output=True, text=True,
            ).stdout.strip()
            for name in names
        )  # fmt: skip
        found["ASAN_OPTIONS"] = "detect_leaks=0"  # Python's
        found["TSAN_OPTIONS"] = "die_after_fork=0"  # some tests fork
    return found


def main():
    """Build what is not built yet, and run pytest."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--sanitize", choices=build.SANITIZERS, default="none")
    parser.add_argument(
        "--order",
        default="forward",
        help="of threads: forward, backward, or a number for a random one",
    )
    parser.add_argument(
        "--folder", default=os.path.join(tempfile.gettempdir(), f"emulated_cuda-{os.getuid()}"),
        help="for what is built (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--build", action="store_true", help="nothing else; prints the module's path"
    )
    given, rest = parser.parse_known_args()
    reason = build.missing() or build.sanitizer_missing(given.sanitize)
    if reason:
        sys.exit(reason)
    os.makedirs(given.folder, mode=0o700, exist_ok=True)
    if os.stat(given.folder).st_uid != os.getuid():
        sys.exit(f"{given.folder} belongs to somebody else; name another --folder")
    module = build.build(given.folder, given.sanitize)
    if given.build:
        print(module)
        return
    files = [str(path) for path in sorted(TESTS.glob("test_*_cuda.py"))]
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "emulated_cuda.plugin", "-m", "gpu",
        "--capture=sys",  # sanitizers write past Python
        *files, str(TESTS / "test_svm_arrays.py"), *rest,
    ]  # fmt: skip
    found = environment(module, given.sanitize, given.order)
    sys.exit(subprocess.run(command, cwd=TESTS.parent, env=found, check=False).returncode)


if __name__ == "__main__":
    main()
