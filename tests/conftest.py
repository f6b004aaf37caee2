"""Fixtures and the gpu marker; plain functions are in helpers.py."""

import os

import numpy as np
import pytest
from helpers import gpu_missing


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
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20240617)
