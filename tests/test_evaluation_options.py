"""LEAD's options beyond the paper: the expected head, the preset, and how they are studied."""

import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers import class_labels, relu_features
from scipy.linalg import expm
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA

import lead_fast
from lead_fast.errors import InputError, SaturationWarning
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


HELD_OUT = {"cross_fit": 3, "time": 0.0, "scale": "standard", "C": 0.1}


def test_held_out_score_by_hand():
    """Held-out log-probabilities of SVMs of one's own, trained on standardised columns."""
    labels = class_labels([40, 50, 60], seed=1)
    x = relu_features(labels, 24, seed=6, spread=0.4, dtype=np.float64)
    folds = lead_fast.metrics.get("lead")(labels, **HELD_OUT).folds
    log_p = np.empty(len(labels))
    for fold in range(3):
        outside = folds == fold
        mean, deviation = x[~outside].mean(axis=0), x[~outside].std(axis=0)
        z = (x - mean) / deviation
        svm = lead_fast.MultiClassSVM(scale="none", C=0.1, tol=1e-6).fit(
            z[~outside], labels[~outside]
        )
        soft = log_softmax(svm.decision_function(z[outside]), axis=1)
        log_p[outside] = soft[np.arange(outside.sum()), labels[outside]]
    # At a gap of 1e-6 of the objective decision values are good to some 1e-3.
    found = lead_fast.score(x, labels, **HELD_OUT, tol=1e-6)
    assert abs(found - log_p.mean()) <= 2e-3 * abs(log_p.mean())


def test_scales_of_columns_matter_to_rates_alone():
    labels = class_labels([40, 50, 60], seed=1)
    x = relu_features(labels, 24, seed=6, spread=0.4, dtype=np.float64)
    scales = np.exp(np.random.default_rng(0).uniform(-5, 5, x.shape[1]))
    expected = lead_fast.score(x, labels, **HELD_OUT, tol=1e-6)
    for other in (1e3 * x, x * scales, x + 10.0):
        found = lead_fast.score(other, labels, **HELD_OUT, tol=1e-6)
        assert abs(found - expected) <= 1e-3 * abs(expected)
    # The paper's setting does depend on them: its rates follow the features' norms.
    lead = lead_fast.score(x, labels)
    with pytest.warns(SaturationWarning):
        assert abs(lead_fast.score(1e3 * x, labels) - lead) > 0.1 * abs(lead)


# ------------------------------------------------------------------ the study bench/better_lead.py


@pytest.fixture(scope="module")
def study():
    folder = str(pathlib.Path(__file__).parent.parent / "bench")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("better_lead")
    finally:
        sys.path.remove(folder)


def test_choice_never_sees_its_own_task(study):
    table = {"a": [0.9, 0.1, 0.2], "b": [0.0, 0.5, 0.6]}
    chosen = study.held_out_choice(table, ["x", "y", "z"], table)
    assert chosen == [(0.0, "b"), (0.1, "a"), (0.2, "a")]


def test_components_have_one_size(study):
    x = relu_features(LABELS, 40, dtype=np.float64)
    x[:, 7] = x[:, 3]  # of rank 39 at most
    z = study.unit_components(x, 32)
    assert z.shape == (len(x), 32)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, rtol=1e-6)
    white = PCA(32, svd_solver="full", whiten=True).fit_transform(x)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    assert np.abs(z @ z.T - white @ white.T).max() <= 1e-5  # signs are arbitrary


def test_relaxation_time(study):
    z = study.unit_components(relu_features(LABELS, 40, dtype=np.float64))
    time = study.relaxation_time({"m": z}, 3)
    rates = lead_fast.lead(z, LABELS, head="expected").rates
    np.testing.assert_allclose(rates * time * 1e-6, 1.0, rtol=1e-6)


def test_other_forms(study):
    labels = LABELS
    x = np.float32(relu_features(labels, 12))
    pooled, balanced, sharp, sampled = study.other_forms(x, labels, 1e-6)
    found = lead_fast.lead(x, labels, tol=1e-6)
    assert balanced != pytest.approx(found.score, rel=1e-3)  # classes of other sizes

    model = lead_fast.MultiClassSVM(scale="unit", tol=1e-6).fit(x, labels)
    start = softmax(model.decision_function(x), axis=1)[np.arange(len(labels)), labels]
    for rates, value, weight in (
        (np.full(3, found.rates.mean()), pooled, np.full(len(labels), 1 / len(labels))),
        (found.rates, balanced, 1.0 / (3 * np.bincount(labels)[labels])),
    ):
        keep = np.exp(-1e-6 * rates[labels])
        assert weight @ np.log(1.0 - keep * (1.0 - start)) == pytest.approx(value, rel=1e-3)
    logits = 10 * model.decision_function(x)
    start = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    keep = np.exp(-1e-6 * found.rates[labels])
    assert np.log(1.0 - keep * (1.0 - start)).mean() == pytest.approx(sharp, rel=1e-3)

    start, logs = softmax(logits / 10, axis=1), []
    head = lead_fast.Head(12, 3)
    for c, kernel in lead_fast.class_kernels(x, labels, head).items():
        rows = np.flatnonzero(labels == c)  # fewer than 64: all of them
        assert len(kernel) == len(rows)
        evolved = 1.0 + expm(-1e-6 * kernel) @ (start[rows, c] - 1.0)
        logs.append(np.log(np.clip(evolved, 1e-6, 1.0)))
    assert np.concatenate(logs).mean() == pytest.approx(sampled, rel=1e-3)


def test_relative_time(study):
    zoo = {str(d): relu_features(LABELS, d, seed=d) for d in (6, 9, 14)}
    rates = [lead_fast.lead(x, LABELS).rates.mean() for x in zoo.values()]
    assert study.relative_time(zoo, LABELS) * 1e-6 * np.median(rates) == pytest.approx(
        1.0, rel=1e-6
    )


def test_study_takes_up_an_earlier_one(tmp_path):
    for task in ("one", "two"):
        (tmp_path / "zoo" / task).mkdir(parents=True)
        for number in range(3):
            x = relu_features(LABELS, 12, seed=number, spread=0.3 * number)
            np.savez(tmp_path / "zoo" / task / f"m{number}.npz", features=x, labels=LABELS)
        truth = {f"m{number}": 60.0 + number for number in range(3)}
        (tmp_path / "zoo" / task / "truth.json").write_text(json.dumps(truth))

    def run(*flags):
        script = pathlib.Path(__file__).parent.parent / "bench" / "better_lead.py"
        flags = ("--features", tmp_path / "zoo", *flags)
        done = subprocess.run(
            [sys.executable, script, *map(str, flags)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("--tasks", "one", "--json", tmp_path / "one.json")
    out = run("--tasks", "two", "--also", tmp_path / "one.json", "--json", tmp_path / "both.json")
    one, both = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "both"))
    assert both["tasks"] == ["two", "one/one"]
    for name, values in one["tau"].items():
        assert both["tau"][name] == [*values, *values]  # the same features under two names
    scores = lead_fast.rank(tmp_path / "zoo" / "one", metric="parc").scores
    assert both["tau"]["parc"][0] == lead_fast.weighted_tau(scores, truth)
    assert "chosen on the other tasks: few of LEAD" in out
    assert "best of all of LEAD on the first 1 tasks:" in out
