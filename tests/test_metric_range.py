"""Features at the ends of float32's range, and far from 0: every metric, native and on arrays."""

import warnings

import numpy as np
import pytest

import lead_fast as lf
from lead_fast import metrics
from lead_fast.errors import InputError
from lead_fast.labels import encode
from lead_fast.metrics._arrays import ArrayShared
from lead_fast.metrics._shared import Shared

pytestmark = pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")

LABELS = np.arange(90) % 3
X = np.random.default_rng(3).standard_normal((90, 10)) + 2 * np.eye(3, 10)[LABELS]
REFERENCE = np.random.default_rng(4).standard_normal((90, 7)) + np.eye(3, 7)[LABELS]
NAMES = [n for n in metrics.names() if n not in ("lead", "etran", "leep", "nce")]
# Multiplying or shifting the features does not change what these say.
OF_ANY_SCALE = ("lead+", "logme", "parc", "hscore", "hscore_regularized", "knn", "rsa", "dds")
OF_ANY_PLACE = (*OF_ANY_SCALE, "nleep", "pactran", "sfda", "gbc", "ped", "transrate")
BY_COLUMN = ("lead+", "hscore", "rsa", "dds")


def options(name):
    more = {"reference": REFERENCE} if name in ("rsa", "dds") else {}
    return {**more, "n_components": None} if name in ("parc", "gbc") else more


def score(name, x, **more):
    return lf.score(x, LABELS, name, **options(name), **more)


def on_arrays(xp, name, x, dtype="float32"):
    metric = metrics.get(name)(LABELS, dtype=dtype, **options(name))
    return metric(None, shared=ArrayShared(xp, xp.asarray(x), encode(LABELS), dtype))


@pytest.mark.parametrize("power", [-40, -60, -80, -130, -200])
@pytest.mark.parametrize("name", OF_ANY_SCALE)
def test_small_features(xp, name, power):
    """Where squares leave float32's range, the scores of X times a power of two stay."""
    expected = score(name, X, dtype="float64")
    small = X * 2.0**power
    # rsa counts in intervals by the option; float32 has 2^-149 as its least number.
    limit = 1e-4 if name == "rsa" else 2e-5
    assert abs(score(name, small) - expected) <= limit * abs(expected)
    assert abs(on_arrays(xp, name, small) - expected) <= max(limit, 1e-3) * abs(expected)
    if power > -100:
        found = score(name, small.astype(np.float32))
        assert abs(found - score(name, X.astype(np.float32))) <= limit * abs(expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_least_numbers_of_float32_give_a_score_and_no_warning(xp, name):
    tiny = (X * 1e-44).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite([score(name, tiny), on_arrays(xp, name, tiny)]).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_beyond_float64_there_is_one_line(xp, name, dtype):
    for x, word in ((X * 1e-200, "so small"), (X * 1e300, "so large")):
        for call in (lambda x: score(name, x, dtype=dtype), lambda x: on_arrays(xp, name, x)):
            with warnings.catch_warnings(), pytest.raises(InputError, match=word):
                warnings.simplefilter("error", RuntimeWarning)
                call(x)


@pytest.mark.parametrize("power", [-62, -125])
@pytest.mark.parametrize("name", BY_COLUMN)
def test_one_small_column(xp, name, power):
    """Where columns are standardised, its size does not matter."""
    x = X.astype(np.float32)
    expected = score(name, x, dtype="float64")
    x[:, 3] *= np.float32(2.0**power)
    assert abs(score(name, x) - expected) <= 1e-4 * abs(expected)
    assert abs(on_arrays(xp, name, x) - expected) <= 1e-3 * abs(expected)


@pytest.mark.parametrize("name", BY_COLUMN)
def test_a_column_below_what_float64_can_square_is_constant(xp, name):
    x, rest = X.copy(), X.copy()
    x[:, 3], rest[:, 3] = x[:, 3] * 1e-170, 0.0
    expected = score(name, rest)
    assert abs(score(name, x) - expected) <= 1e-6 * abs(expected)
    assert abs(on_arrays(xp, name, x) - expected) <= 1e-3 * abs(expected)


@pytest.mark.parametrize("name", OF_ANY_PLACE)
def test_features_far_from_zero(xp, name):
    """float32 would round all of their deviations away."""
    if name == "logme":
        pytest.skip("takes the features as they are, and the place for an intercept")
    far = X + 2.0**30
    expected = score(name, far - 2.0**30, dtype="float64")
    limit = 1e-4 if name == "rsa" else 1e-5
    assert abs(score(name, far) - expected) <= limit * abs(expected)
    expected = on_arrays(xp, name, far - 2.0**30, "float64")  # nleep's start differs from native
    assert abs(on_arrays(xp, name, far) - expected) <= limit * abs(expected)


def test_which_dtype_is_taken():
    for x, dtype, flat in (
        (X, np.float32, 1e-7),
        (X + 1e4, np.float32, 1e-7),
        (X + 1e6, np.float64, 1e-14),
        (X * 1e-15, np.float32, 1e-7),
        (X * 1e-20, np.float64, 1e-7),
    ):
        shared = Shared(x, encode(LABELS), np.float32)
        assert (shared.dtype, shared.flat) == (dtype, flat)
        assert shared.varies.all() and shared.by_column is shared
    # A dead column whose noise is float32's rounding is none, beside others that vary.
    x = X.copy()
    x[:, 3] = 0.37 + 3e-8 * X[:, 3]
    shared = Shared(x, encode(LABELS), np.float32)
    assert shared.dtype == np.float32 and shared.varies.sum() == 9


@pytest.mark.parametrize("name", ["hscore", "sfda", "lead+", "nleep"])
def test_many_rows_of_a_constant(name, rng):
    """Whose mean a sum of many rows does not give exactly."""
    labels = np.arange(20000) % 5
    x = np.tile(rng.uniform(0.1, 2.0, 16), (20000, 1))
    metric = metrics.get(name)(labels)
    outcomes = []
    for shared in (Shared(x, encode(labels), np.float32), ArrayShared(np, x, encode(labels))):
        try:
            outcomes.append(round(metric.evaluate(shared), 6))
        except InputError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] != 4  # H-score's bound


def test_last_bits_of_float32_are_not_features(rng):
    x = np.tile(rng.uniform(0.5, 2.0, 16).astype(np.float32), (300, 1))
    x = np.where(rng.random(x.shape) < 0.3, np.nextafter(x, np.float32(9)), x)
    assert lf.score(x, np.arange(300) % 4, "hscore") == 0


def outcome(score, *given):
    """A score, or None for features that a metric refuses."""
    try:
        return score(*given)
    except InputError:
        return None


@pytest.mark.parametrize("width", [10, 120], ids=["N > D", "N < D"])
@pytest.mark.parametrize("noise", [False, True], ids=["equal", "rounded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_all_the_same(xp, name, dtype, noise, width, rng):
    """A model that gives the same vector for all: rounding is no signal."""
    row = np.random.default_rng(5).standard_normal(width).astype(np.float32)
    expected = outcome(score, name, np.tile(np.rint(64 * row) / 64, (90, 1)))
    x = np.tile((row / np.float32(3)).astype(dtype) / 3, (90, 1)).astype(dtype)
    if noise:
        x *= 1 + np.finfo(dtype).eps * rng.integers(0, 2, x.shape).astype(dtype)
    found = outcome(score, name, x), outcome(on_arrays, xp, name, x)
    if name in ("logme", "knn"):  # which take the features as they are
        assert np.isfinite(found).all()
    else:
        assert found == (pytest.approx((expected, expected), abs=1e-6) if expected is not None
                         else (None, None))  # fmt: skip
