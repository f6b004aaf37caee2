"""SFDA against the public code and against whole generalised eigenproblems."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import reference_metrics as reference
from lead_fast.errors import InputError, SaturationWarning, ScoreWarning
from lead_fast.metrics import _fisher


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    features, labels = golden.load(model)
    score = lf.score(features, labels, "sfda", dtype=dtype)
    golden.assert_golden(score, model, "sfda", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "counts, d",
    [
        ([40, 50], 8),
        ([200, 5, 3], 30),
        ([1, 1, 97], 31),
        ([30] * 10, 64),
        ([2] * 33, 7),
        ([33] * 3, 1),
    ],
)
def test_reference(counts, d, log, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3, spread=0.5)
    expected = reference.sfda(x, labels, log=log)
    limit = 1e-9 if dtype == "float64" else 1e-4
    score = lf.score(x, labels, "sfda", dtype=dtype, log=log)
    assert abs(score - expected) <= limit * abs(expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_constant_columns_and_offsets(dtype):
    labels = class_labels([60, 50, 40])
    x = relu_features(labels, 12, spread=0.5)
    x[:, 3] = 7.0
    x[:, 5] += 1000.0
    expected = reference.sfda(x, labels)
    limit = 1e-8 if dtype == "float64" else 1e-4
    assert abs(lf.score(x, labels, "sfda", dtype=dtype) - expected) <= limit * expected


def test_float32_gives_way_to_float64_where_features_nearly_repeat(rng):
    labels = class_labels([80, 80, 80])
    x = 30.0 * relu_features(labels, 10, spread=0.3, dtype=np.float64)  # so large: no shrinkage
    x = np.hstack([x, x[:, :3] + 1e-3 * rng.standard_normal((240, 3))]).astype(np.float32)
    shared = lf.metrics.get("sfda")(labels).share(x)
    _, shrinkage, source = _fisher.first_analysis(shared)
    assert shrinkage == 1e-10 and source.dtype == np.float64
    expected = reference.sfda(x, labels)
    assert abs(lf.score(x, labels, "sfda") - expected) <= 1e-7 * expected


def test_fewer_samples_than_features_warn_and_saturate(rng):
    labels = np.arange(40) % 4
    x = 10 * rng.standard_normal((40, 64))
    with pytest.warns(ScoreWarning, match="any labels can be separated"):
        score = lf.score(x, labels, "sfda", dtype="float64")
    assert abs(score - reference.sfda(x, labels)) <= 1e-8
    far = np.eye(4)[labels] * 1e3 + rng.standard_normal((40, 4))
    with pytest.warns(SaturationWarning, match="saturated"):
        assert lf.score(far, labels, "sfda") > 1 - 1e-9


def test_no_scatter_is_an_error():
    with pytest.raises(InputError, match="do not vary within any class"):
        lf.score(np.arange(12.0).reshape(4, 3), [0, 1, 2, 3], "sfda")
    with pytest.raises(InputError, match="one label per sample"):
        lf.score(np.eye(4), np.eye(4, dtype=int), "sfda")


def test_input_is_not_modified():
    labels = class_labels([20, 30])
    x = relu_features(labels, 6)
    before = x.copy()
    lf.score(x, labels, "sfda")
    assert np.array_equal(x, before)
