"""GBC against the public code and a double loop over classes."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import reference_metrics as reference
from lead_fast.errors import ScoreWarning


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("gaussian", ["spherical", "diagonal"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, gaussian, dtype):
    features, labels = golden.load(model)
    score = lf.score(features, labels, "gbc", gaussian=gaussian, n_components=None, dtype=dtype)
    golden.assert_golden(score, model, f"gbc_{gaussian}_nopca", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "options", [{"gaussian": "spherical"}, {"gaussian": "diagonal"}, {"log_terms": "paper"}]
)
@pytest.mark.parametrize(
    "counts, d", [([40, 50], 8), ([200, 5, 3], 30), ([30] * 10, 64), ([5] * 97, 33)]
)
def test_reference(counts, d, options, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3, spread=0.3)
    expected = reference.gbc(
        x, labels, options.get("gaussian", "spherical"), options.get("log_terms", "public")
    )
    limit = 1e-9 if dtype == "float64" else 1e-4
    score = lf.score(x, labels, "gbc", n_components=None, dtype=dtype, **options)
    assert abs(score - expected) <= limit * abs(expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n, d, count", [(300, 40, 5), (300, 40, 64), (50, 80, 5), (50, 80, 64)])
@pytest.mark.parametrize("gaussian", ["spherical", "diagonal"])
def test_principal_components(n, d, count, gaussian, dtype):
    labels = np.arange(n) % 4
    x = relu_features(labels, d, seed=1, spread=0.3).astype(np.float64)
    _, _, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    z = (x - x.mean(axis=0)) @ vt[:count].T
    expected = reference.gbc(z, labels, gaussian)
    score = lf.score(x, labels, "gbc", n_components=count, gaussian=gaussian, dtype=dtype)
    limit = 1e-7 if dtype == "float64" else 1e-3
    assert abs(score - expected) <= limit * abs(expected)


def test_constant_column_changes_nothing():
    labels = class_labels([30, 40])
    x = relu_features(labels, 6, spread=0.3)
    wider = np.hstack([x, np.full((70, 1), 3.0, np.float32)])
    options = {"gaussian": "diagonal", "n_components": None}
    assert (
        abs(lf.score(x, labels, "gbc", **options) - lf.score(wider, labels, "gbc", **options))
        <= 1e-12
    )


def test_close_means_keep_their_digits():
    labels = np.repeat([0, 1], 50)
    x = np.repeat([[1e4], [1e4 + 1e-3]], 50, axis=0)
    expected = reference.gbc(x, labels)  # the variance is the floor
    assert expected > -2
    score = lf.score(x, labels, "gbc", n_components=None, dtype="float64")
    assert abs(score - expected) <= 1e-9


def test_warnings(rng):
    x = rng.standard_normal((41, 5))
    with pytest.warns(ScoreWarning, match="1 of 3 classes have one sample"):
        lf.score(x, [0] * 20 + [1] * 20 + [2], "gbc")
    far = x[:40] + 1e4 * np.eye(5)[np.arange(40) % 2]
    with pytest.warns(ScoreWarning, match="no two classes overlap"):
        assert lf.score(far, np.arange(40) % 2, "gbc") == 0.0


def test_a_constant_column_is_a_term_of_a_spherical_variance(rng):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 4)) + np.eye(3, 4)[labels]
    wider = np.column_stack([x, np.ones(90)])
    found = lf.score(wider, labels, "gbc", n_components=None, dtype="float64")
    assert abs(found - reference.gbc(wider, labels)) <= 1e-9
    assert found > lf.score(x, labels, "gbc", n_components=None) + 0.1
