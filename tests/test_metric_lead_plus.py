"""The metric lead+: leave-one-out errors of a least-squares SVM on leading components."""

import numpy as np
import pytest
from helpers import class_labels, relu_features
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

import lead_fast
from lead_fast.errors import DeviceError, InputError, InputTypeError, ScoreWarning
from lead_fast.evaluation import weighted_tau

LABELS = class_labels([40, 50, 60], seed=1)
X = relu_features(LABELS, 24, seed=6, spread=0.4, dtype=np.float64)


def by_hand(x, labels, n_components=64, penalty=0.1):
    """Every sample left out in turn, by scikit-learn."""
    targets = np.eye(labels.max() + 1)[labels]
    count = min(n_components, *x.shape)
    z = PCA(count, svd_solver="full").fit_transform(StandardScaler().fit_transform(x))
    fitted = Ridge(penalty * (z**2).sum() / len(z), solver="cholesky")
    held_out = cross_val_predict(fitted, z, targets, cv=LeaveOneOut())
    return -((held_out - targets) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize(
    ("d", "options"),
    [
        (24, {}),
        (24, {"n_components": 5}),
        (24, {"n_components": 5, "penalty": 1e-3}),
        (60, {"penalty": 10.0}),
        (400, {"n_components": 20}),  # more features than samples
        (1, {}),
    ],
)
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_every_sample_left_out_in_turn(d, options):
    x = relu_features(LABELS, d, seed=6, spread=0.4, dtype=np.float64)
    expected = by_hand(x, LABELS, **options)
    found = lead_fast.score(x, LABELS, "lead+", dtype="float64", **options)
    assert found == pytest.approx(expected, rel=1e-9)
    single = lead_fast.score(x.astype(np.float32), LABELS, "lead+", **options)
    assert single == pytest.approx(expected, rel=1e-4)


def test_many_samples_and_classes():
    """Several blocks of rows, classes of unequal size, one of one sample."""
    labels = class_labels([1, 2, *range(3, 60)], seed=2)
    x = relu_features(labels, 64, seed=3, spread=0.5, dtype=np.float64)
    expected = by_hand(x, labels)
    assert lead_fast.score(x, labels, "lead+", dtype="float64") == pytest.approx(expected, rel=1e-9)


def test_scales_of_columns_do_not_matter():
    scales = np.exp(np.random.default_rng(0).uniform(-5, 5, X.shape[1]))
    expected = lead_fast.score(X, LABELS, "lead+", dtype="float64")
    for x in (1e3 * X, X * scales, X + 10.0):
        assert lead_fast.score(x, LABELS, "lead+", dtype="float64") == pytest.approx(
            expected, rel=1e-9
        )


def test_better_features_score_higher():
    spreads = (0.0, 0.3, 0.6, 1.2)
    zoo = {f"m{s}": relu_features(LABELS, 24, seed=6, spread=s) for s in spreads}
    scores = lead_fast.rank(zoo, LABELS, "lead+", progress=False).scores
    assert weighted_tau([scores[f"m{s}"] for s in spreads], spreads) == pytest.approx(1.0)
    guess = ((np.bincount(LABELS) / len(LABELS)) ** 2).sum() - 1  # what the classes' shares have
    assert scores["m0.0"] < guess < -0.3 < scores["m1.2"] < 0  # noise: no better than guessing


def test_options_are_those_of_its_own():
    for option, value in (("n_components", 0), ("penalty", 0.0), ("penalty", np.inf)):
        with pytest.raises(InputError, match=option):
            lead_fast.score(X, LABELS, "lead+", **{option: value})
    for option in ("time", "C", "seed"):
        with pytest.raises(InputTypeError, match=f"'lead\\+' has no option '{option}'"):
            lead_fast.score(X, LABELS, "lead+", **{option: 2})
    with pytest.raises(DeviceError):
        lead_fast.score(X, LABELS, "lead+", device="gpu")


def test_edges():
    for counts, d in (([1] * 12, 5), ([1, 1, 30], 8), ([20, 20], 1)):
        labels = class_labels(counts, seed=3)
        score = lead_fast.score(relu_features(labels, d, seed=8), labels, "lead+", n_components=3)
        assert np.isfinite(score) and score <= 0
    with pytest.warns(ScoreWarning, match="fewer samples"):
        lead_fast.score(relu_features(LABELS[:40], 400), LABELS[:40], "lead+")


def test_constant_features_leave_the_shares_of_the_classes():
    n, counts = len(LABELS), np.bincount(LABELS)
    score = lead_fast.score(np.ones((n, 5)), LABELS, "lead+")
    shares = counts / n
    assert score == pytest.approx(-(1 - (shares**2).sum()) * (n / (n - 1)) ** 2, rel=1e-12)
    partly = np.column_stack([X, np.full(n, 7.0)])
    expected = lead_fast.score(X, LABELS, "lead+", dtype="float64")
    found = lead_fast.score(partly, LABELS, "lead+", dtype="float64")
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_column_of_tiny_numbers_is_standardised(rng):
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 10)) + 2 * np.eye(3, 10)[labels]
    for wide in (x, np.tile(x, 10) + rng.standard_normal((90, 100))):
        tiny = wide.astype(np.float32)
        expected = lead_fast.score(tiny, labels, "lead+", dtype="float64", n_components=8)
        tiny[:, 3] *= np.float32(2.0**-125)
        found = lead_fast.score(tiny, labels, "lead+", n_components=8)
        assert abs(found - expected) <= 1e-6 * abs(expected)
        tiny[:, 3] *= np.float32(2.0**-13)  # which loses digits, not the column
        found = lead_fast.score(tiny, labels, "lead+", n_components=8)
        assert abs(found - expected) <= 1e-2 * abs(expected)
