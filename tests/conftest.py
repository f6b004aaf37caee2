"""Fixtures and the gpu marker; plain functions are in helpers.py."""

import importlib
import os
import pathlib
import sys

import numpy as np
import pytest
import strict_cupy
from helpers import ZOO_LABELS, gpu_missing, zoo_features

from lead_fast import cli

BENCH = pathlib.Path(__file__).parent.parent / "bench"


def pytest_runtest_setup(item):
    """Skip gpu tests where there is no GPU; fail them under LEAD_FAST_REQUIRE_GPU=1."""
    if item.get_closest_marker("gpu") is None:
        return
    reason = gpu_missing()
    if reason and os.environ.get("LEAD_FAST_REQUIRE_GPU") == "1":
        pytest.fail(f"LEAD_FAST_REQUIRE_GPU=1, but {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def zoo(tmp_path):
    """A directory of three models, m1 to m3; some files have a zoo of their own."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for seed in (1, 2, 3):
        np.savez(folder / f"m{seed}.npz", features=zoo_features(seed), labels=ZOO_LABELS)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Images in directories: four of each of two classes, of several sizes and modes."""
    pil = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i, (mode, channels) in enumerate([("RGB", 3), ("L", 0), ("RGBA", 4), ("RGB", 3)]):
            shape = (30 + i, 40 - i, channels) if channels else (30 + i, 40 - i)
            image = pil.fromarray(rng.integers(0, 256, shape, np.uint8), mode)
            image.save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "notes.txt").write_text("not a class")
    (tmp_path / "data" / "empty").mkdir()
    return tmp_path / "data"


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20240617)


@pytest.fixture(params=["numpy", "cupy"])
def xp(request):
    """NumPy, and a stand-in for CuPy that is as strict."""
    if request.param == "numpy":
        yield np
    else:
        with strict_cupy.installed() as cupy:
            yield cupy


@pytest.fixture
def call(capsys):
    """The command in this process: (status, stdout, stderr)."""

    def call(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def bench():
    """How to import a script of bench/ by its name."""
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCH))
