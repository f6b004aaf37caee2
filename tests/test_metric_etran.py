"""ETran: its two parts against the public code, and their combination over a zoo."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import reference_metrics as reference
from lead_fast.errors import InputError, ScoreWarning

ETran = lf.metrics.get("etran")


def parts(x, labels, **options):
    metric = ETran(labels, **options)
    return metric.parts(metric.share(x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    energy, lda = parts(*golden.load(model), dtype=dtype)
    golden.assert_golden(energy, model, "etran_energy_bot0.5", dtype)
    golden.assert_golden(lda, model, "etran_lda", dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    "counts, d", [([40, 50], 8), ([200, 5, 3], 30), ([1, 97], 5), ([30] * 9, 33)]
)
def test_reference(counts, d, public, dtype):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=3)
    limit = 1e-9 if dtype == "float64" else 1e-4
    for percent, tail in ((0.5, "bottom"), (10.0, "top"), (50.0, "bottom"), (100.0, "top")):
        energy, lda = parts(x, labels, public=public, percent=percent, tail=tail, dtype=dtype)
        expected = reference.energy(x, percent, tail), reference.etran_lda(x, labels, public)
        assert abs(energy - expected[0]) <= limit * abs(expected[0])
        assert abs(lda - expected[1]) <= limit * expected[1]


def test_public_energy_takes_half_a_percent():
    labels = class_labels([500, 500])
    x = relu_features(labels, 9, dtype=np.float64)
    values = np.sort(np.log(np.exp(x).sum(axis=1)))
    assert abs(parts(x, labels, dtype="float64")[0] - values[:5].mean()) <= 1e-12


def test_large_features_do_not_overflow():
    labels = class_labels([30, 30])
    energy, lda = parts(1e4 * relu_features(labels, 9), labels)
    assert np.isfinite(energy) and 0 <= lda <= 1


def test_combine():
    metric = ETran([0, 1, 0, 1])
    table = [(1.0, 0.5), (3.0, 0.9), (2.0, 0.6)]
    expected = 0.15 * reference.min_max([1, 3, 2]) + 0.85 * reference.min_max([0.5, 0.9, 0.6])
    assert np.allclose(metric.combine(table), expected, rtol=0, atol=1e-15)
    with pytest.warns(ScoreWarning, match="energy is the same"):
        assert metric.combine([(1.0, 0.1), (1.0, 0.2)]) == [0.0, 0.85]
    with pytest.raises(InputError, match="at least two models"):
        metric.combine([(1.0, 0.1)])


def test_rank_combines(rng):
    labels = np.arange(60) % 3
    noise = rng.standard_normal((60, 8))
    zoo = {str(s): noise + s * np.eye(3, 8)[labels] for s in (0, 1, 4)}
    ranking = lf.rank(zoo, labels, metric="etran")
    found = {row.model: row.score for row in ranking}
    table = [parts(zoo[m], labels) for m in zoo]
    expected = dict(zip(zoo, ETran(labels).combine(table), strict=True))
    assert found == expected


def test_errors():
    with pytest.raises(InputError, match="one model has no score"):
        lf.score(np.eye(4), [0, 1, 0, 1], "etran")
    with pytest.raises(InputError, match="percent"):
        ETran([0, 1], percent=101)
    with pytest.raises(InputError, match="tail"):
        ETran([0, 1], tail="left")
