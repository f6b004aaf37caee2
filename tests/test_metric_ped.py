"""PED against the public code, and against moving every sample pair of classes by pair."""

import warnings

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import reference_metrics as reference
from lead_fast.errors import InputError, ScoreWarning

PED = lf.metrics.get("ped")
MNIST = golden.SHARED / "zoo" / "mnist"


@pytest.mark.skipif(not MNIST.exists(), reason="the reference features are not here")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("over", ["sfda", "logme"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, over, dtype):
    features, labels = golden.load(model)
    general, _ = golden.load("mnist/" + model.split("/")[1])
    score = lf.score(features, labels, "ped", over=over, reference=general, dtype=dtype)
    golden.assert_golden(score, model, f"ped_{over}", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "counts, d", [([40, 50], 8), ([200, 5, 3], 30), ([1, 40, 97], 31), ([30] * 10, 64)]
)
def test_motion(counts, d, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3, spread=0.5)
    general = relu_features(labels, d, seed=4, spread=1.5)
    x[:, 0] = 1.0  # scaled by the floor
    for options in ({}, {"n_sigma": 0.3}, {"step": 0.5, "exit_ratio": 0.9}, {"max_steps": 2}):
        for given in (None, general):
            moved, steps = reference.ped_move(x, labels, given, **options)
            metric = PED(labels, dtype=dtype, **options)
            shared = metric.share(x)
            shift, made = metric.displacement(shared, given)
            assert made == steps
            assert np.abs(x + shift[labels] - moved).max() <= 1e-9


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("over", ["sfda", "gbc", "logme"])
@pytest.mark.parametrize("n, d", [(300, 20), (60, 80)])
def test_metric_of_moved_features(over, n, d, dtype):
    labels = np.arange(n) % 4
    x = relu_features(labels, d, seed=3, spread=0.5)
    moved, steps = reference.ped_move(x, labels)
    assert steps > 0
    score = lf.score(x, labels, "ped", over=over, dtype=dtype)
    expected = lf.score(moved, labels, over, dtype="float64")
    limit = 1e-8 if dtype == "float64" else 1e-4
    assert abs(score - expected) <= limit * abs(expected)


def test_classes_far_apart_stay_and_warn(rng):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 5)) + 50 * np.eye(3, 5)[labels]
    with pytest.warns(ScoreWarning, match="no two classes overlap"):
        score = lf.score(x, labels, "ped", over="gbc")
    assert score == lf.score(x, labels, "gbc")


def test_equal_means_do_not_repel(rng):
    half = rng.standard_normal((20, 4))
    x = np.vstack([half, half, half + 0.5])
    labels = np.repeat([0, 1, 2], 20)
    shift, steps = PED(labels).displacement(PED(labels).share(x))
    assert steps > 0 and np.isfinite(shift).all()
    assert np.abs(shift[0] - shift[1]).max() <= 1e-12


def test_errors(rng):
    x = rng.standard_normal((20, 4))
    labels = np.arange(20) % 2
    with pytest.raises(InputError, match="3 features wide, but the model's are 4"):
        lf.score(x, labels, "ped", reference=x[:, :3])
    with pytest.raises(InputError, match="reference: NaN"):
        lf.score(x, labels, "ped", reference=np.full((5, 4), np.nan))
    with pytest.raises(InputError, match="over"):
        lf.score(x, labels, "ped", over="leep")


def test_no_motion_is_not_no_overlap(rng):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 5)) + np.eye(3, 5)[labels]
    for options in ({"max_steps": 0}, {"exit_ratio": 1.0}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ScoreWarning)
            assert lf.score(x, labels, "ped", **options) == lf.score(x, labels, "sfda")


def test_a_huge_step_is_the_whole_way(rng):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 5)) + np.eye(3, 5)[labels]
    assert lf.score(x, labels, "ped", step=1e300) == lf.score(x, labels, "ped", step=1e3)
