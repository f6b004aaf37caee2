"""Every example in a docstring or in the README runs and shows what it says."""

import doctest
import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import lead_fast

ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(lead_fast.__path__, "lead_fast.")
    if not m.name.endswith(("._cpu", "._cuda"))
)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_doctests(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_public_functions_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    for name in lead_fast.__all__:
        value = getattr(lead_fast, name)
        if callable(value) and name not in WITHOUT_EXAMPLE:
            assert any(test.examples for test in finder.find(value, name)), name


WITHOUT_EXAMPLE = ("LeadResult", "Ranking", "evolve_samples", "class_kernels")


@pytest.mark.parametrize("name", ["README.md", "docs/zoo.md"])
def test_python_in_pages_runs(name):
    if name != "README.md":
        pytest.importorskip("torch", reason="torch is not installed")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60
