"""TransRate against the public code and determinants; both ways to form a class's Gram matrix."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast.errors import InputError, ScoreWarning
from lead_fast.metrics import _linalg, transrate
from lead_fast.metrics.transrate import TransRate


def reference(x, y, eps=1e-4, weighted=False):
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0)

    def rate(z):
        gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
        return 0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram / (len(z) * eps))[1]

    classes, counts = np.unique(y, return_counts=True)
    weights = counts / len(y) if weighted else np.full(len(classes), 1 / len(classes))
    return rate(x) - sum(w * rate(x[y == c]) for w, c in zip(weights, classes, strict=True))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    features, labels = golden.load(model)
    score = lf.score(features, labels, "transrate", dtype=dtype)
    golden.assert_golden(score, model, "transrate", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "counts, d",
    [
        ([40, 50], 8),
        ([200, 5, 3], 30),
        ([1, 1, 97], 31),
        ([10] * 10, 64),
        ([1] * 33, 33),
        ([31], 5),
    ],
)
def test_reference(counts, d, dtype):
    labels = class_labels(counts) if len(counts) > 1 else np.repeat([0, 1], [16, 15])
    x = relu_features(labels, d, seed=3)
    expected = reference(x, labels)
    limit = 1e-9 if dtype == "float64" else 1e-4
    assert abs(lf.score(x, labels, "transrate", dtype=dtype) - expected) <= limit * abs(expected)


@pytest.mark.parametrize("counts, d", [([200, 5, 3], 30), ([90, 1, 97], 31), ([300, 280], 33)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_classes_in_turn_on_many_threads(counts, d, dtype, monkeypatch):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=4)
    by_class = lf.score(x, labels, "transrate", dtype=dtype)
    monkeypatch.setattr(TransRate, "_rates_by_class", None)
    monkeypatch.setattr(transrate, "_IN_TURN", 0.0)
    limit = 1e-11 if dtype == "float64" else 1e-5
    assert abs(lf.score(x, labels, "transrate", dtype=dtype) - by_class) <= limit * abs(by_class)


def test_classes_near_to_singular_take_float64(rng):
    labels = class_labels([300, 40])
    latent = rng.standard_normal((340, 12)) * np.geomspace(1, 1e-5, 12)
    x = latent @ np.linalg.qr(rng.standard_normal((12, 12)))[0]
    expected = reference(x.astype(np.float32), labels, eps=1e-12)
    score = lf.score(x.astype(np.float32), labels, "transrate", eps=1e-12)
    assert abs(score - expected) <= 1e-5 * abs(expected)


def test_several_metrics_get_the_same_scatter():
    labels = class_labels([60, 70, 80])
    x = relu_features(labels, 24, seed=5)
    several = lf.score(x, labels, ["transrate", "sfda", "hscore"])
    for name, score in several.items():
        assert abs(lf.score(x, labels, name) - score) <= 1e-6 * abs(score)


def test_options():
    labels = class_labels([60, 20, 11])
    x = relu_features(labels, 9)
    for options in (dict(eps=0.5), dict(weighted=True), dict(eps=2.0, weighted=True)):
        score = lf.score(x, labels, "transrate", dtype="float64", **options)
        assert abs(score - reference(x, labels, **options)) <= 1e-10 * abs(score)
    with pytest.raises(InputError, match="eps"):
        lf.score(x, labels, "transrate", eps=0)


def test_small_classes_warn():
    labels = np.arange(40) % 10
    with pytest.warns(ScoreWarning, match="4 samples per class"):
        lf.score(relu_features(labels, 16), labels, "transrate")


def wide(rng, n, d, scale):
    """Few directions of very different variance, mean far from 0: hard for float32."""
    latent = rng.standard_normal((n, 20)) * np.geomspace(1, 1e-3, 20)
    return np.float32(scale * (latent @ rng.standard_normal((20, d)) + 5.0))


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize(("n", "d"), [(90, 200), (90, 90), (300, 60), (300, 20)])
def test_what_float32_cannot_factorise(rng, monkeypatch, n, d, in_turn):
    if in_turn:
        monkeypatch.setattr(transrate, "_IN_TURN", 0.0)
        monkeypatch.setattr(TransRate, "_rates_by_class", None)
    labels = np.arange(n) % 3
    x = wide(rng, n, d, 100.0)
    expected = reference(x, labels)
    # A difference of rates of which each is far larger.
    assert abs(lf.score(x, labels, "transrate") - expected) <= 3e-4 * abs(expected)


def low_rank(rng, n, rank, d):
    return 100.0 * rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize(
    ("n", "n_classes", "make"),
    [
        (12000, 2, lambda rng: low_rank(rng, 12000, 6, 8)),  # classes of several blocks
        (2000, 10, lambda rng: low_rank(rng, 2000, 63, 64)),  # one direction is missing
        (40, 4, lambda rng: 100.0 + np.pad(rng.standard_normal((40, 36)), ((0, 0), (0, 28)))),
        (200, 5, lambda rng: 100.0 + rng.standard_normal((200, 256))),  # far from 0
    ],
)
def test_roundings_of_float32_are_not_taken_for_features(
    rng, monkeypatch, n, n_classes, make, in_turn
):
    if in_turn:
        monkeypatch.setattr(transrate, "_IN_TURN", 0.0)
        monkeypatch.setattr(TransRate, "_rates_by_class", None)
    x, labels = np.float32(make(rng)), np.arange(n) % n_classes
    expected = reference(x, labels)
    assert abs(lf.score(x, labels, "transrate") - expected) <= 1e-3 * abs(expected) + 1e-4


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("scale", [1e5, 1e12])
@pytest.mark.parametrize(("n", "d", "copies"), [(90, 200, (3, 1)), (300, 60, (1, 3))])
def test_what_float64_cannot_factorise_is_refused(rng, monkeypatch, n, d, copies, in_turn, scale):
    if in_turn:
        monkeypatch.setattr(transrate, "_IN_TURN", 0.0)
    part = rng.standard_normal((n // copies[0], d // copies[1]))
    x = np.float32(scale * np.tile(part, copies))  # of less rank than n and d
    with pytest.raises(InputError, match=r"too large for eps = 0\.0001"):
        lf.score(x, np.arange(n) % 3, "transrate")


def test_float32_determinants_are_known_to_be_uncertain(rng):
    basis, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    mild = basis * np.geomspace(1, 1e-2, 64) @ basis.T
    harsh = basis * np.geomspace(1, 1e-6, 64) @ basis.T
    for matrix, dtype, limit in (
        (mild, np.float32, 1e-5), (mild, np.float64, 1e-12), (harsh, np.float64, 1e-9)
    ):  # fmt: skip
        found = _linalg.log_determinant(np.asfortranarray(matrix, dtype), dtype == np.float32)
        expected = np.linalg.slogdet(matrix)[1]
        assert abs(found - expected) <= limit * abs(expected)
    nearly = basis * np.geomspace(1, 1e-9, 64) @ basis.T
    assert _linalg.log_determinant(np.asfortranarray(nearly, np.float32), True) is None
    assert _linalg.log_determinant(np.asfortranarray(nearly, np.float64), True) is None
    for dtype in (np.float32, np.float64):
        assert _linalg.log_determinant(np.asfortranarray(-mild, dtype), False) is None


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("n", [60, 9])
def test_a_huge_eps_leaves_nothing(rng, n):
    x, labels = rng.standard_normal((n, 10)), np.arange(n) % 3
    assert abs(lf.score(x, labels, "transrate", eps=1e300)) <= 1e-9
    with pytest.raises(InputError, match="eps: so large"):
        lf.score(x, labels, "transrate", eps=1e308)
