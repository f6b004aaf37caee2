"""LEAD's options beyond the paper: the expected head and the preset."""

import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast
from lead_fast.errors import InputError
from lead_fast.lead import PRESETS

LABELS = class_labels([20, 30, 9])


@pytest.mark.parametrize("hidden", [(), (37,), (40, 60)])
def test_expected_rates_are_the_mean_over_heads(hidden):
    x = relu_features(LABELS, 24)
    exact = lead_fast.lead(x, LABELS, head="expected", hidden=hidden, n_samples=10).rates
    drawn = []
    for seed in range(600):
        head = lead_fast.Head(24, 3, hidden, seed)
        drawn.append(lead_fast.class_rates(x, LABELS, head, n_samples=10, seed=0))
    error = np.std(drawn, axis=0) / np.sqrt(len(drawn))
    # Five standard errors, and the float32 rounding where there is nothing random.
    assert np.all(np.abs(np.mean(drawn, axis=0) - exact) <= 5 * error + 1e-5 * exact)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_expected_head_of_other_dtypes_needs_no_seed(dtype):
    x = relu_features(LABELS, 24).astype(np.float16).astype(dtype)
    found = lead_fast.lead(x, LABELS, head="expected")
    assert found.score < 0
    other = lead_fast.lead(x.astype(np.float32), LABELS, head="expected")
    np.testing.assert_allclose(found.rates, other.rates, rtol=1e-6)
    by_hand = [
        3 * (3 + (1 + 3072 / 24) * np.mean((x[LABELS == c].astype(float) ** 2).sum(axis=1)))
        for c in range(3)
    ]
    np.testing.assert_allclose(found.rates, by_hand, rtol=1e-6)


def test_head_refuses_other_words():
    with pytest.raises(InputError, match=r"head: 'mean' does not exist.*expected"):
        lead_fast.lead(relu_features(LABELS, 5), LABELS, head="mean")


def test_preset_is_its_options():
    x = relu_features(LABELS, 24, spread=0.3)
    named = lead_fast.score(x, LABELS, preset="held-out")
    assert named == lead_fast.score(x, LABELS, **PRESETS["held-out"])
    assert named == lead_fast.score(x, LABELS, preset="held-out", time=0)
    assert named != lead_fast.score(x, LABELS)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"preset": "best"}, "preset: 'best' does not exist"),
        ({"preset": "held-out", "time": 2.0}, "time: the preset 'held-out' sets it to 0"),
        ({"preset": "held-out", "cross_fit": 5}, "cross_fit: the preset"),
    ],
)
def test_preset_refuses(options, words):
    with pytest.raises(InputError, match=words):
        lead_fast.Scorer(LABELS, **options)
