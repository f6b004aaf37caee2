"""The metric lead+: LEAD's held-out initial state on standardised features."""

import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast
from lead_fast.errors import (
    DeviceError,
    InputError,
    InputTypeError,
    SaturationWarning,
    ScoreWarning,
)
from lead_fast.evaluation import weighted_tau

LABELS = class_labels([40, 50, 60], seed=1)
X = relu_features(LABELS, 24, seed=6, spread=0.4, dtype=np.float64)


def test_it_is_lead_with_these_options():
    options = {"cross_fit": 3, "time": 0, "scale": "standard", "C": 0.1}
    for more in ({}, {"seed": 4}, {"svm": "ovr", "hinge": 2}):
        expected = lead_fast.lead(X, LABELS, **options, **more).score
        assert lead_fast.score(X, LABELS, "lead+", **more) == expected
    assert lead_fast.score(X, LABELS, "lead+", C=1.0) != lead_fast.score(X, LABELS, "lead+")


def test_score_by_hand():
    """Held-out log-probabilities of SVMs of one's own, trained on standardised columns."""
    metric = lead_fast.metrics.get("lead+")(LABELS, tol=1e-6)
    log_p = np.empty(len(LABELS))
    for fold in range(3):
        outside = metric.folds == fold
        mean, deviation = X[~outside].mean(axis=0), X[~outside].std(axis=0)
        z = (X - mean) / deviation
        svm = lead_fast.MultiClassSVM(scale="none", C=0.1, tol=1e-6).fit(
            z[~outside], LABELS[~outside]
        )
        values = svm.decision_function(z[outside])
        top = values - values.max(axis=1, keepdims=True)
        soft = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
        log_p[outside] = soft[np.arange(outside.sum()), LABELS[outside]]
    # At a gap of 1e-6 of the objective decision values are good to some 1e-3.
    assert abs(metric(X) - log_p.mean()) <= 2e-3 * abs(log_p.mean())


def test_scales_of_columns_do_not_matter():
    scales = np.exp(np.random.default_rng(0).uniform(-5, 5, X.shape[1]))
    expected = lead_fast.score(X, LABELS, "lead+", tol=1e-6)
    for x in (1e3 * X, X * scales, X + 10.0):
        assert abs(lead_fast.score(x, LABELS, "lead+", tol=1e-6) - expected) <= 1e-3 * abs(expected)
    # The paper's setting does depend on them: its rates follow the features' norms.
    lead = lead_fast.score(X, LABELS, "lead")
    with pytest.warns(SaturationWarning):
        assert abs(lead_fast.score(1e3 * X, LABELS, "lead") - lead) > 0.1 * abs(lead)


def test_better_features_score_higher():
    spreads = (0.0, 0.3, 0.6, 1.2)
    zoo = {f"m{s}": relu_features(LABELS, 24, seed=6, spread=s) for s in spreads}
    scores = lead_fast.rank(zoo, LABELS, "lead+", progress=False).scores
    assert weighted_tau([scores[f"m{s}"] for s in spreads], spreads) == pytest.approx(1.0)
    assert scores["m0.0"] < np.log(0.4) < scores["m1.2"] < 0  # noise: no better than guessing


def test_options_are_those_of_its_own():
    with pytest.raises(InputError, match="cross_fit"):
        lead_fast.score(X, LABELS, "lead+", cross_fit=1)
    for option in ("time", "head", "n_samples"):  # without evolution they would mean nothing
        with pytest.raises(InputTypeError, match=f"'lead\\+' has no option '{option}'"):
            lead_fast.score(X, LABELS, "lead+", **{option: 2})
    with pytest.raises(DeviceError):
        lead_fast.score(X, LABELS, "lead+", device="gpu")


def test_edges():
    for counts, d in (([1] * 12, 5), ([1, 1, 30], 8), ([20, 20], 1)):
        labels = class_labels(counts, seed=3)
        score = lead_fast.score(relu_features(labels, d, seed=8), labels, "lead+")
        assert np.isfinite(score) and score <= 0
    with pytest.warns(ScoreWarning, match="fewer samples"):
        lead_fast.score(relu_features(LABELS, 400), LABELS, "lead+")
    flat = lead_fast.score(np.ones((150, 5)), LABELS, "lead+")
    assert np.log(1 / 3) * 1.5 < flat < np.log(0.5)  # nothing but the classes' shares
