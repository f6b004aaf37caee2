"""LEEP and NCE: golden values, the formulas, and where outputs come from."""

import golden
import numpy as np
import pytest

import lead_fast as lf
from lead_fast.errors import InputError, SaturationWarning, ScoreWarning

KEYS = [(model, name) for model in golden.MODELS for name in ("leep", "nce")]


@pytest.mark.parametrize("model, name", KEYS)
@pytest.mark.filterwarnings("ignore:.*too few samples")
def test_golden(model, name):
    features, labels = golden.load(model)
    p = golden.source_probabilities(features)
    golden.assert_golden(lf.score(features, labels, name, source=p), model, name, "float64")
    if name == "nce":
        score = lf.score(features, labels, name, source=p.argmax(axis=1))
        golden.assert_golden(score, model, name, "float64")


def test_leep_formula(rng):
    labels = np.array([0, 1, 1, 2, 0, 2, 1])
    theta = rng.dirichlet(np.ones(4), 7)
    total = 0.0
    for i in range(7):
        inner = 0.0
        for z in range(4):
            joint = sum(theta[j, z] for j in range(7) if labels[j] == labels[i])
            inner += theta[i, z] * joint / theta[:, z].sum()
        total += np.log(inner)
    x = np.ones((7, 2))
    assert abs(lf.score(x, labels, "leep", source=theta) - total / 7) <= 1e-13
    no_log = lf.score(x, labels, "leep", source=theta, log=False)
    assert np.exp(total / 7) < no_log < 1  # Jensen


def test_logits_are_soft_maxed(rng):
    labels = np.arange(30) % 3
    logits = rng.standard_normal((30, 5)) * 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    x = np.ones((30, 1))
    assert (
        abs(lf.score(x, labels, "leep", source=logits) - lf.score(x, labels, "leep", source=p))
        <= 1e-12
    )
    half = p.astype(np.float16)
    assert (
        abs(lf.score(x, labels, "leep", source=half) - lf.score(x, labels, "leep", source=p))
        <= 1e-3
    )


def test_a_perfect_source_reaches_the_bound():
    labels = np.arange(40) % 4
    x = np.ones((40, 1))
    assert abs(lf.score(x, labels, "leep", source=np.eye(6)[labels])) <= 1e-15
    assert lf.score(x, labels, "nce", source=labels) == 0.0
    assert lf.score(x, labels, "nce", source=np.array(["a", "b", "c", "d"])[labels]) == 0.0


def test_nce_of_nothing_known_is_the_entropy_of_the_labels():
    labels = np.repeat([0, 1, 2], [10, 20, 70])
    p = np.array([0.1, 0.2, 0.7])
    score = lf.score(np.ones((100, 1)), labels, "nce", source=np.zeros(100, int))
    assert abs(score - (p * np.log(p)).sum()) <= 1e-14


def test_nce_warns_of_too_many_source_classes():
    with pytest.warns(ScoreWarning, match="too few samples"):
        lf.score(np.ones((20, 1)), np.arange(20) % 2, "nce", source=np.arange(20))


@pytest.mark.parametrize("name", ["leep", "nce"])
def test_what_is_missing_or_wrong_is_said(name):
    labels = np.arange(8) % 2
    x = np.ones((8, 2))
    with pytest.raises(InputError, match=r"_output\.npy"):
        lf.score(x, labels, name)
    for source in (np.ones((7, 3)), np.full((8, 3), np.nan), np.ones((8, 1))):
        with pytest.raises(InputError, match="source"):
            lf.score(x, labels, name, source=source)


def test_outputs_come_with_each_call_or_with_the_constructor(rng):
    labels = np.arange(30) % 3
    p, q = rng.dirichlet(np.ones(5), (2, 30))
    x = np.ones((30, 1))
    scorer = lf.Scorer(labels, "leep", source=p)
    assert scorer(x) == lf.score(x, labels, "leep", source=p)
    assert scorer(x, source=q) == lf.score(x, labels, "leep", source=q) != scorer(x)
    both = lf.Scorer(labels, ["leep", "nce", "knn"])(np.arange(30.0)[:, None], source=q)
    assert both["leep"] == scorer(x, source=q)
    assert both["nce"] == lf.score(x, labels, "nce", source=q)


def test_leep_warns_where_it_tells_nothing():
    labels = np.repeat([0, 1], 10)
    with pytest.warns(ScoreWarning, match="same probabilities"):
        lf.score(np.zeros((20, 1)), labels, "leep", source=np.full((20, 4), 0.25))
    with pytest.warns(SaturationWarning, match="one label"):
        lf.score(np.zeros((20, 1)), labels, "leep", source=np.eye(2)[labels], log=False)
