"""The comparators and the gpu marker do what the other tests rely on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close, gpu_missing, plain_kernel, relu_features, tolerance

from lead_fast import reference


@pytest.mark.parametrize(
    "bad", [np.nan, np.inf, -np.inf, 2.0], ids=["nan", "inf", "minus inf", "far"]
)
def test_assert_close_rejects(bad):
    values = np.array([1.0, bad, 1.0])
    with pytest.raises(AssertionError):
        assert_close(values, np.ones(3), 0.5)


def test_assert_close_rejects_other_shapes():
    with pytest.raises(AssertionError):
        assert_close(np.ones((3, 1)), np.ones(3), 0.5)


def test_assert_close_accepts_the_limit():
    assert_close([1.5, 1.0], [1.0, 1.0], 0.5)


def test_tolerance_is_never_zero_and_never_loose():
    exact = np.array([1.0, -100.0])
    assert 0 < tolerance(exact, exact) <= 1e-3
    assert tolerance(exact, exact + 1.0) >= 4.0


def test_plain_kernel_in_float64_is_the_reference():
    labels = np.zeros(9, int)
    features = relu_features(labels, 7)
    head = reference.Head(7, 3, (5, 4), seed=1)
    exact = reference.class_kernels(features, labels, head)[0]
    got = plain_kernel(features, head.weights, head.biases, np.float64)
    assert_close(got, exact, 1e-13 * exact.max())


def test_relu_features_look_like_features():
    features = relu_features(np.arange(400) % 10, 300)
    assert features.min() == 0
    assert 0.6 <= np.mean(features == 0) <= 0.8
    values = np.linalg.svd(features - features.mean(0), compute_uv=False)
    assert values[0] >= 3 * values[100]


def gpu_run(tmp_path, require):
    test = tmp_path / "test_marked.py"
    test.write_text("import pytest\n@pytest.mark.gpu\ndef test_it():\n    pass\n")
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "LEAD_FAST_REQUIRE_GPU": require}
    environment["PYTHONPATH"] = os.pathsep.join([tests, str(Path(tests).parent)])
    command = [sys.executable, "-m", "pytest", "-rsf", "-p", "conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), str(test)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("require", ["0", "1"])
def test_gpu_marker(tmp_path, require):
    reason = gpu_missing()
    ran = gpu_run(tmp_path, require)
    if reason is None:
        assert ran.returncode == 0 and "1 passed" in ran.stdout
    elif require == "1":
        assert ran.returncode == 1 and "LEAD_FAST_REQUIRE_GPU" in ran.stdout
    else:
        assert ran.returncode == 0 and "1 skipped" in ran.stdout and reason in ran.stdout
