"""The emulator of emulated_cuda/ finds what it is there to find, and nothing where all is right."""

import os
import re
import subprocess

import pytest
from emulated_cuda import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

SAID = {  # by the emulator itself, whatever the sanitizer
    "never_waited": "ends with copies that nothing waited for",
    "misaligned_copy": "from or to where none may begin",
    "apart": r"is at the barrier of faults.cu:\d+, others at that of faults.cu:\d+",
    "lanes_apart": r"is at faults.cu:\d+, other lanes of its warp at faults.cu:\d+",
    "lanes_gone": "names lanes at .* that are not there",
    "not_of_the_mask": "names lanes at .* or not its own",
    "for_ever": r"thread \(0, 0, 0\) of block \(0, 0, 0\) waits for ever at faults.cu:\d+",
    "some_ended": r"threads have ended before the barrier of faults.cu:\d+",
    "too_much_static": "static and dynamic shared memory are more than",
    "too_much_shared": "more dynamic shared memory than was asked for",
    "too_many_threads": "a grid or block that no GPU takes",
}
OF_MEMORY = {
    "outside_dynamic_shared": "heap-buffer-overflow",
    "outside_static_shared": "index 64 out of bounds",
    "outside_of_a_template": "global-buffer-overflow",
    "outside_by_atomics": "heap-buffer-overflow",
    "outside_global": "heap-buffer-overflow",
    "freed": "heap-use-after-free",
    "misaligned": "misaligned address",
}
RACES = (
    "race_in_shared", "race_in_a_warp", "race_in_global_memory", "race_with_atomics",
    "race_with_a_copy",
)  # fmt: skip


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """Run one kernel of faults.cu: (status, what it printed)."""
    folder = tmp_path_factory.mktemp("emulated")
    reasons = {}

    def run(name, sanitize="none", order="forward"):
        if sanitize not in reasons:
            reasons[sanitize] = build.sanitizer_missing(sanitize)
        if reasons[sanitize]:
            pytest.skip(reasons[sanitize])
        program = build.build_program(build.HERE / "faults.cu", folder, sanitize)
        done = subprocess.run(
            [program, name], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "EMULATED_ORDER": order, "ASAN_OPTIONS": "detect_leaks=0"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


RIGHT = {"right": 2016, "right_after_a_fault": 2016, "attribute": 2016, "all_right": 2 * 64 * 8}


@pytest.mark.parametrize("sanitize", build.SANITIZERS)
@pytest.mark.parametrize("order", ["forward", "backward", "1"])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(faults, name, sanitize, order):
    assert faults(name, sanitize, order) == (0, f"{RIGHT[name]}\n")


def test_orders(faults):
    last = {
        order: faults("last_thread", order=order) for order in ("forward", "backward", "1", "2")
    }
    assert last["forward"] == (0, "127\n") and last["backward"] == (0, "0\n")
    assert last["1"] != last["2"] and last["1"] == faults("last_thread", order="1")


@pytest.mark.parametrize("name", SAID)
def test_the_emulator_says_what_is_wrong(faults, name):
    status, text = faults(name)
    assert status == 1 and re.search(SAID[name], text), text


@pytest.mark.parametrize("name", ["unwritten", "unwritten_static", "unwaited"])
def test_what_was_not_written_is_nan(faults, name):
    status, text = faults(name)
    assert status == 0 and text.strip().removeprefix("-") == "nan", text


@pytest.mark.parametrize("name", OF_MEMORY)
def test_memory_that_is_not_the_kernels(faults, name):
    status, text = faults(name, "address")
    assert status != 0 and OF_MEMORY[name] in text, text


@pytest.mark.parametrize("name", RACES)
def test_races(faults, name):
    status, text = faults(name, "thread")
    assert status != 0 and "data race" in text and re.search(rf"\b{name}\b", text), text


@pytest.mark.parametrize("name", RACES)
def test_a_race_is_silent_without_the_sanitizer(faults, name):
    """So nothing but the sanitizer found it."""
    assert faults(name)[0] == 0
