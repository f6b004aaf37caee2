"""A pytest plugin: tests marked gpu, with the emulator for the GPU. See run.py."""

import functools
import importlib.util
import os
import sys

import gpu
import strict_cupy

from lead_fast import backend

LEFT_OUT = {
    "test_a_process_ends_while_it_uploads",  # starts a process that has no emulator
    # Minutes each: launches of many threads, hundreds of times.
    "test_many_classes_on_the_gpu", "test_the_example_is_ranked_as_on_the_cpu",
    "test_more_rows_than_one_group", "test_tf32_is_off_unless_asked_for",
    "test_numbers_of_times[float32-(150001, 40)]", "test_numbers_of_times[float16-(150001, 40)]",
}  # fmt: skip


def pytest_configure(config):
    """Put the module and the stand-in for CuPy in place, for the whole session."""
    spec = importlib.util.spec_from_file_location("lead_fast._cuda", os.environ["EMULATED_CUDA"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["lead_fast._cuda"] = module
    backend.cuda = functools.cache(lambda: module)
    sys.modules.update(strict_cupy.modules())
    gpu.instead["torch"] = "cupy"


def pytest_collection_modifyitems(config, items):
    """Each once, and nothing of LEFT_OUT."""
    left_out = [item for item in items if _left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _left_out(item):
    given = getattr(item, "callspec", None)
    twice = given is not None and "torch" in given.params.values()
    return twice or not LEFT_OUT.isdisjoint({item.name, item.originalname})
