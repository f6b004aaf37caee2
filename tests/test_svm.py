"""The multi-class SVM: optima by objective value, certificates, invariances, estimator checks."""

import re
import warnings
from functools import cache

import numpy as np
import pytest
from helpers import (
    EPS32,
    FORMS,
    ROWS,
    assert_close,
    bfloat16_bits,
    class_labels,
    one_line,
    relu_features,
    threads,
)
from sklearn.base import clone
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import lead_fast as lf
from lead_fast import reference

form = pytest.mark.parametrize(("svm", "hinge"), FORMS)

# The objective at float32 weights, recomputed in float64: the weights are exact numbers, only the
# last bits of a sum over samples differ. The scaled weights are coef_ times a divisor, which
# coef_ may carry rounded to float32: that moves the objective by a few roundings.
RECOMPUTED = 64 * EPS32


def full_weights(model):
    """The K rows of W and b, also where a binary model keeps only their difference."""
    coef = np.asarray(model.coef_, np.float64)
    intercept = np.asarray(model.intercept_, np.float64)
    if len(model.classes_) > 2:
        return coef, intercept
    # "ovr" keeps f_1, and f_0 = -f_1 by symmetry. The all-in-one forms keep f_1 - f_0, and the
    # norm is smallest where the two rows are opposite.
    half = coef[0] * (1.0 if model.svm == "ovr" else 0.5)
    shift = intercept[0] * (1.0 if model.svm == "ovr" else 0.5)
    return np.stack([-half, half]), np.array([-shift, shift])


def objective(model, features, labels):
    """Primal objective of a fitted model in float64, from its public attributes only."""
    W, b = full_weights(model)
    y = np.searchsorted(model.classes_, labels)
    centre, divisor = reference.scaling(features, model.scale)
    scaled = reference.scale_features(features, model.scale)
    return reference.primal(W * divisor, b + W @ centre, scaled, y, model.svm, model.hinge, model.C)


def check_certificate(model, features, labels, optimum=None):
    """gap_ is the gap of primal_ and dual_; primal_ is the objective; they bracket the optimum."""
    assert model.converged_ is True
    assert 0 <= model.gap_ <= model.tol
    relative = (model.primal_ - model.dual_) / abs(model.primal_)
    assert_close(model.gap_, max(0.0, relative), 1e-12)
    value = objective(model, features, labels)
    assert_close(model.primal_, value, RECOMPUTED * abs(value), "primal_")
    assert model.dual_ <= value * (1 + RECOMPUTED)
    if optimum is not None:
        assert optimum.gap <= 1e-7
        assert model.dual_ <= optimum.primal * (1 + 1e-12)
        assert value >= optimum.dual * (1 - 1e-12)
        assert value <= optimum.primal / (1 - model.tol) * (1 + RECOMPUTED)


def solve(features, labels, svm, hinge, C=1.0, scale="none"):
    names, y = np.unique(labels, return_inverse=True)
    scaled = reference.scale_features(features, scale)
    return reference.solve_svm(scaled, y, len(names), svm, hinge, C)


@cache
def data(n_rows, n_features, n_classes, spread=1.0, scale="unit"):
    labels = np.random.default_rng(n_rows).permutation(np.arange(n_rows) % n_classes)
    features = relu_features(labels, n_features, seed=n_rows, spread=spread)
    if scale != "none":
        features = reference.scale_features(features, scale).astype(np.float32)
    features.flags.writeable = labels.flags.writeable = False
    return features, labels


# ----------------------------------------------------------------------------- optimum and gap


@form
@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_classes"), [(60, 5, 3), (40, 7, 2), (97, 33, 5), (31, 97, 4)]
)
def test_optimum_against_the_quadratic_program(svm, hinge, n_rows, n_features, n_classes):
    features, labels = data(n_rows, n_features, n_classes)
    optimum = solve(features, labels, svm, hinge)
    for tol in (1e-2, 1e-3, 1e-6):
        model = lf.MultiClassSVM(svm, hinge, tol=tol, max_passes=20_000).fit(features, labels)
        check_certificate(model, features, labels, optimum)
        # The objective is 1-strongly convex: |V - V*|^2 <= 2 (P(V) - P*).
        W, b = full_weights(model)
        distance = np.sqrt(np.sum((W - optimum.W) ** 2) + np.sum((b - optimum.b) ** 2))
        excess = max(0.0, objective(model, features, labels) - optimum.dual)
        assert distance <= np.sqrt(2 * excess) * (1 + 1e-6)


@form
@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0, 100.0])
def test_cost(svm, hinge, C):
    features, labels = data(60, 9, 3)
    # Coordinate descent needs a number of passes that grows with C |x|^2.
    tol = 1e-5 if C <= 10 else 1e-4
    model = lf.MultiClassSVM(svm, hinge, C=C, tol=tol, max_passes=100_000).fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge, C))


LIBLINEAR = {
    ("ovr", 1): dict(loss="hinge"),
    ("ovr", 2): dict(loss="squared_hinge"),
    ("cs", 1): dict(multi_class="crammer_singer"),
}


@pytest.mark.parametrize(("svm", "hinge"), LIBLINEAR)
@pytest.mark.parametrize("C", [0.1, 1.0])
@pytest.mark.parametrize(("n_rows", "n_features", "n_classes"), [(300, 33, 6), (200, 300, 10)])
def test_optimum_against_liblinear(svm, hinge, C, n_rows, n_features, n_classes):
    """By objective value. LIBLINEAR regularises the bias, too, as weight of a constant feature."""
    features, labels = data(n_rows, n_features, n_classes)
    other = LinearSVC(C=C, intercept_scaling=1, tol=1e-8, max_iter=100_000, **LIBLINEAR[svm, hinge])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Crammer-Singer solver warns whatever happens
        other.fit(features.astype(np.float64), labels)
    theirs = reference.primal(other.coef_, other.intercept_, features, labels, svm, hinge, C)
    for tol in (1e-3, 1e-6):
        model = lf.MultiClassSVM(svm, hinge, C=C, tol=tol, max_passes=20_000).fit(features, labels)
        check_certificate(model, features, labels)
        ours = objective(model, features, labels)
        assert ours <= theirs * (1 + tol) * (1 + RECOMPUTED)
        assert model.dual_ <= theirs * (1 + RECOMPUTED)
        # LIBLINEAR stops on a projected gradient of 1e-8, so its own optimum is as close.
        assert ours >= theirs * (1 - 1e-5)


@form
@pytest.mark.parametrize(("place", "C"), [(0.5, 0.3), (2.0, 0.05), (1.0, 10.0)])
def test_two_opposite_samples_in_closed_form(svm, hinge, place, C):
    """Samples at -a and +a: b = 0, and one slope d is left to minimise over.

    All-in-one forms, d = f_1 - f_0 at x = 1: d^2 / 4 + 2 C max(0, 1 - d a)^p. One-vs-rest, twice
    with d = f_1: d^2 / 2 + 2 C max(0, 1 - d a)^p.
    """
    weight = 2.0 if svm == "ovr" else 1.0
    if hinge == 1:
        slope = min(1 / place, 4 * C * place / weight)
    else:
        slope = 8 * C * place / (weight + 8 * C * place**2)
    loss = 2 * C * max(0.0, 1 - slope * place) ** hinge
    expected = weight * (weight * slope**2 / 4 + loss)
    features = np.array([[-place], [place]], np.float32)
    model = lf.MultiClassSVM(svm, hinge, C=C, tol=1e-7).fit(features, [4, 9])
    assert_close(model.primal_, expected, 2e-7 * expected + RECOMPUTED)
    # P is flat at its optimum: an error of the objective is the square of one of the slope.
    assert_close(model.coef_, [[slope]], 4 * np.sqrt(2e-7 * expected))
    assert_close(model.intercept_, [0.0], 4 * np.sqrt(2e-7 * expected))
    check_certificate(model, features, np.array([4, 9]))


def test_binary_forms_agree():
    """Two classes: "ww" is "cs", and with |f_1 - f_0| for the margin both are a binary SVM."""
    features, labels = data(97, 9, 2)
    for hinge in (1, 2):
        ww, cs = (
            lf.MultiClassSVM(svm, hinge, tol=1e-6).fit(features, labels) for svm in ("ww", "cs")
        )
        assert_close(ww.primal_, cs.primal_, 2e-6 * ww.primal_)
        assert_close(ww.coef_, cs.coef_, 4 * np.sqrt(4e-6 * ww.primal_))


@form
@pytest.mark.parametrize("n_rows", ROWS[1:])
@pytest.mark.parametrize("n_features", [1, 31, 33, 97])
def test_certificate_for_ragged_sizes(svm, hinge, n_rows, n_features):
    features, labels = data(n_rows, n_features, 5)
    model = lf.MultiClassSVM(svm, hinge, tol=1e-4, max_passes=20_000).fit(features, labels)
    check_certificate(model, features, labels)


@form
@pytest.mark.parametrize("n_classes", [2, 3, 31, 33, 97])
def test_certificate_for_numbers_of_classes(svm, hinge, n_classes):
    features, labels = data(3 * n_classes + 1, 40, n_classes)
    model = lf.MultiClassSVM(svm, hinge, tol=1e-4).fit(features, labels)
    check_certificate(model, features, labels)


@form
def test_wide_features(svm, hinge):
    features, labels = data(33, 1025, 4)
    model = lf.MultiClassSVM(svm, hinge, tol=1e-6).fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge))


@form
def test_separable_and_inseparable(svm, hinge):
    """No sample at the bound, and every sample at the bound."""
    for spread in (30.0, 0.0):
        features, labels = data(60, 40, 3, spread)
        model = lf.MultiClassSVM(svm, hinge, tol=1e-6, max_passes=20_000).fit(features, labels)
        check_certificate(model, features, labels, solve(features, labels, svm, hinge))


# ---------------------------------------------------------------------------------- awkward data


@form
@pytest.mark.parametrize("scale", ["unit", "standard", "none"])
def test_scale(svm, hinge, scale):
    labels = class_labels((20, 15, 25))
    features = relu_features(labels, 12)
    model = lf.MultiClassSVM(svm, hinge, scale=scale, tol=1e-5, max_passes=100_000)
    model.fit(features, labels)
    optimum = solve(features, labels, svm, hinge, scale=scale)
    check_certificate(model, features, labels, optimum)


@form
@pytest.mark.parametrize("scale", ["unit", "standard"])
@pytest.mark.parametrize("offset", [1e3, -1e3])
def test_large_common_offset(svm, hinge, scale, offset):
    """Centring must not lose the features against their mean."""
    labels = class_labels((20, 15, 25))
    features = relu_features(labels, 12) + np.float32(offset)
    model = lf.MultiClassSVM(svm, hinge, scale=scale, tol=1e-5, max_passes=100_000)
    model.fit(features, labels)
    optimum = solve(features, labels, svm, hinge, scale=scale)
    check_certificate(model, features, labels, optimum)


@form
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_unit_scale_ignores_the_scale_of_the_features(svm, hinge, factor):
    labels = class_labels((20, 15, 25))
    features = relu_features(labels, 12)
    options = dict(scale="unit", tol=1e-6)
    plain = lf.MultiClassSVM(svm, hinge, **options).fit(features, labels)
    scaled = lf.MultiClassSVM(svm, hinge, **options).fit(features * np.float32(factor), labels)
    assert_close(scaled.primal_, plain.primal_, (2e-6 + RECOMPUTED) * plain.primal_)
    # Two points within sqrt(2 gap) of the optimum, times features of norm about one.
    limit = 4 * np.sqrt(4e-6 * plain.primal_)
    ours = plain.decision_function(features)
    theirs = scaled.decision_function(features * np.float32(factor))
    assert_close(theirs, ours, limit * 3)


@form
def test_constant_column(svm, hinge):
    labels = class_labels((20, 15, 25))
    features = relu_features(labels, 12)
    features[:, 3] = 7.0
    features[:, 8] = 0.0
    for scale in ("unit", "standard", "none"):
        model = lf.MultiClassSVM(svm, hinge, scale=scale, tol=1e-5, max_passes=100_000)
        model.fit(features, labels)
        optimum = solve(features, labels, svm, hinge, scale=scale)
        check_certificate(model, features, labels, optimum)
        assert not model.coef_[:, 8].any()


@form
@pytest.mark.parametrize("scale", ["unit", "standard", "none"])
def test_constant_features(svm, hinge, scale):
    """Nothing to learn but the bias."""
    labels = class_labels((6, 9, 5))
    features = np.full((20, 4), 0.75, np.float32)
    model = lf.MultiClassSVM(svm, hinge, scale=scale, tol=1e-5, max_passes=20_000)
    model.fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge, scale=scale))


@form
@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1, 1), (1, 30), (1, 30, 1, 2)])
def test_single_sample_classes(svm, hinge, counts):
    labels = class_labels(counts)
    features = relu_features(labels, 6, seed=3)
    model = lf.MultiClassSVM(svm, hinge, scale="unit", tol=1e-5, max_passes=20_000)
    model.fit(features, labels)
    optimum = solve(features, labels, svm, hinge, scale="unit")
    check_certificate(model, features, labels, optimum)


@form
def test_same_features_under_different_labels(svm, hinge):
    features, labels = data(30, 6, 3)
    features = np.concatenate([features, features])
    labels = np.concatenate([labels, (labels + 1) % 3])
    model = lf.MultiClassSVM(svm, hinge, tol=1e-5, max_passes=20_000).fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge))


@form
def test_rows_of_very_different_norm(svm, hinge):
    features, labels = data(60, 9, 3)
    features = features * (10.0 ** np.linspace(-3, 1, 60, dtype=np.float32))[:, None]
    model = lf.MultiClassSVM(svm, hinge, tol=1e-5, max_passes=100_000).fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge))


@form
def test_repeated_samples_are_a_larger_cost(svm, hinge):
    features, labels = data(40, 9, 3)
    options = dict(tol=1e-6, max_passes=20_000)
    once = lf.MultiClassSVM(svm, hinge, C=2.0, **options).fit(features, labels)
    twice = lf.MultiClassSVM(svm, hinge, C=1.0, **options)
    twice.fit(np.repeat(features, 2, axis=0), np.repeat(labels, 2))
    assert_close(twice.primal_, once.primal_, 3e-6 * once.primal_)


# ------------------------------------------------------------------------- types and layouts


@form
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(svm, hinge, dtype):
    labels = class_labels((20, 15, 25))
    # float64 features may be read as float32, so they are numbers that float32 has, too.
    features = relu_features(labels, 33).astype(dtype)
    model = lf.MultiClassSVM(svm, hinge, scale="unit", tol=1e-5).fit(features, labels)
    check_certificate(model, features, labels, solve(features, labels, svm, hinge, scale="unit"))


@form
def test_bfloat16(svm, hinge):
    labels = class_labels((20, 15, 25))
    bits, values = bfloat16_bits(relu_features(labels, 33))
    model = lf.MultiClassSVM(svm, hinge, scale="unit", tol=1e-5)
    model.fit(lf.features.Features(bits, "bfloat16"), labels)
    check_certificate(model, values, labels, solve(values, labels, svm, hinge, scale="unit"))


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda f: np.repeat(f, 2, axis=0)[::2],
        lambda f: np.repeat(f, 3, axis=1)[:, ::3],
        lambda f: f[::-1, ::-1].copy()[::-1, ::-1],
        lambda f: f.tolist(),
    ],
    ids=["Fortran", "rows apart", "columns apart", "reversed", "list"],
)
@pytest.mark.parametrize("svm", ["ww", "ovr", "cs"])
def test_memory_layouts(layout, svm):
    features, labels = data(60, 9, 3)
    model = lf.MultiClassSVM(svm, scale="unit", tol=1e-5).fit(layout(features), labels)
    check_certificate(model, features, labels)
    scores = model.decision_function(layout(features))
    assert_close(scores, model.decision_function(features), 1e-6 * np.max(np.abs(scores)))


@form
def test_input_is_left_alone(svm, hinge):
    features, labels = data(60, 9, 3)  # read-only
    before = features.copy(), labels.copy()
    lf.MultiClassSVM(svm, hinge, scale="standard").fit(features, labels).predict(features)
    assert np.array_equal(before[0], features) and np.array_equal(before[1], labels)


@pytest.mark.parametrize("svm", ["ww", "ovr", "cs"])
def test_a_cost_that_overflows_certifies_nothing(svm):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    model = lf.MultiClassSVM(svm, C=1e307, max_passes=20)
    features = rng.standard_normal((60, 5))
    with pytest.warns(lf.errors.ConvergenceWarning, match="gap of inf"):
        model.fit(features, labels)
    assert not model.converged_
    with pytest.warns(lf.errors.ConvergenceWarning, match="gap of inf"):
        found = lf.lead(features, labels, svm=svm, C=1e307, max_passes=20, cross_fit=3)
    assert found.svm.gap == np.inf and not found.svm.converged


# ------------------------------------------------------------------------------ reproducibility


@form
def test_same_bits_for_any_number_of_threads(svm, hinge):
    features, labels = data(1025, 97, 6)
    kept = []
    for count in (1, 2, 3):
        with threads(count):
            model = lf.MultiClassSVM(svm, hinge, scale="unit").fit(features, labels)
            scores = model.decision_function(features)
        parts = [model.coef_, model.intercept_, scores, model.primal_, model.dual_, model.n_iter_]
        kept.append([np.asarray(part).tobytes() for part in parts])
    assert kept[0] == kept[1] == kept[2]


@form
def test_random_state_moves_the_solution_within_the_gap(svm, hinge):
    features, labels = data(97, 33, 5)
    models = [
        lf.MultiClassSVM(svm, hinge, tol=1e-5, random_state=s).fit(features, labels) for s in (0, 1)
    ]
    assert_close(models[0].primal_, models[1].primal_, 1e-5 * models[0].primal_)


@form
def test_order_of_samples_and_names_of_classes_stay_within_the_gap(svm, hinge):
    features, labels = data(97, 33, 5)
    order = np.random.default_rng(1).permutation(97)
    names = np.array(["e", "d", "c", "b", "a"])
    plain = lf.MultiClassSVM(svm, hinge, tol=1e-6).fit(features, labels)
    other = lf.MultiClassSVM(svm, hinge, tol=1e-6).fit(features[order], names[labels[order]])
    assert_close(other.primal_, plain.primal_, (1e-6 + RECOMPUTED) * plain.primal_)
    limit = 2 * np.sqrt(2e-6 * plain.primal_) + 1e-4
    assert np.linalg.norm(other.coef_[::-1] - plain.coef_) <= limit


# ------------------------------------------------------------------------------------ convergence


@form
def test_too_few_passes_warn_with_the_gap(svm, hinge):
    features, labels = data(300, 5, 4, 0.2, "none")
    model = lf.MultiClassSVM(svm, hinge, C=100.0, tol=1e-9, max_passes=1)
    with pytest.warns(lf.errors.ConvergenceWarning) as caught:
        model.fit(features, labels)
    message = one_line(caught[0].message)
    numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", message)]
    assert any(abs(n - model.gap_) <= 0.01 * model.gap_ for n in numbers), message
    assert "max_passes" in message
    assert model.converged_ is False and model.gap_ > 1e-9
    assert_close(model.gap_, (model.primal_ - model.dual_) / abs(model.primal_), 1e-9)
    value = objective(model, features, labels)
    assert_close(model.primal_, value, RECOMPUTED * value)


@form
def test_no_warning_when_converged(svm, hinge):
    features, labels = data(60, 9, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lf.MultiClassSVM(svm, hinge).fit(features, labels)
    assert 0 < model.n_iter_ <= 1000


@form
def test_tighter_tolerance_is_no_worse(svm, hinge):
    features, labels = data(97, 33, 5)
    fits = [lf.MultiClassSVM(svm, hinge, tol=t).fit(features, labels) for t in (1e-2, 1e-4, 1e-6)]
    assert min(fit.primal_ for fit in fits) >= fits[2].dual_ * (1 - 1e-12)
    assert fits[0].n_iter_ <= fits[2].n_iter_


# ------------------------------------------------------------------------------- as a classifier


@form
@pytest.mark.parametrize("scale", ["none", "unit", "standard"])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_decision_function_from_attributes(svm, hinge, scale, n_classes):
    features, labels = data(97, 33, n_classes, 1.0, "none")
    model = lf.MultiClassSVM(svm, hinge, scale=scale, tol=1e-4, max_passes=20_000)
    assert model.fit(features, labels) is model
    rows = n_classes if n_classes > 2 else 1
    assert model.coef_.shape == (rows, 33) and model.intercept_.shape == (rows,)
    assert model.n_features_in_ == 33
    assert np.array_equal(model.classes_, np.arange(n_classes))
    scores = model.decision_function(features)
    rebuilt = features.astype(np.float64) @ model.coef_.T.astype(np.float64) + model.intercept_
    size = np.abs(features.astype(np.float64)) @ np.abs(model.coef_.T) + np.abs(model.intercept_)
    assert scores.shape == ((97, 5) if n_classes > 2 else (97,))
    rebuilt, size = (rebuilt, size) if n_classes > 2 else (rebuilt[:, 0], size[:, 0])
    assert_close(scores, rebuilt, 16 * EPS32 * np.max(size))
    expected = scores.argmax(axis=1) if n_classes > 2 else (scores > 0).astype(int)
    assert np.array_equal(model.predict(features), expected)
    assert model.score(features, labels) == np.mean(expected == labels)


@form
def test_two_classes_have_the_documented_sign(svm, hinge):
    """decision_function grows towards classes_[1]; margins of at least one where it can."""
    features = np.array([[-1.0], [-0.9], [0.9], [1.0]], np.float32)
    labels = np.array(["no", "no", "yes", "yes"])
    model = lf.MultiClassSVM(svm, hinge, C=100.0, tol=1e-6, max_passes=20_000).fit(features, labels)
    scores = model.decision_function(features)
    assert np.all(scores[2:] > 0.9) and np.all(scores[:2] < -0.9)
    assert model.predict([[-5.0], [5.0]]).tolist() == ["no", "yes"]


@pytest.mark.parametrize(
    "rename",
    [
        lambda y: np.array(["ape", "bee", "cow"])[y],
        lambda y: np.array(["ape", "bee", "cow"], dtype=object)[y],
        lambda y: y - 1,
        lambda y: (y * 1000 - 7).astype(np.int16),
        lambda y: y.tolist(),
        lambda y: y.astype(np.float64),
    ],
    ids=["strings", "objects", "negative", "sparse", "list", "floats"],
)
def test_label_types(rename):
    features, labels = data(60, 9, 3)
    plain = lf.MultiClassSVM().fit(features, labels)
    renamed = rename(labels)
    model = lf.MultiClassSVM().fit(features, renamed)
    assert np.array_equal(model.classes_, np.unique(renamed))
    assert np.array_equal(model.coef_, plain.coef_)
    assert np.array_equal(model.predict(features), model.classes_[plain.predict(features)])


def test_clone_and_refit():
    features, labels = data(60, 9, 3)
    model = lf.MultiClassSVM("cs", 2, C=0.3, tol=1e-2, scale="unit", max_passes=777, random_state=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    first = model.fit(features, labels).coef_.copy()
    model.fit(features[:30], labels[:30])
    assert np.array_equal(model.fit(features, labels).coef_, first)


def test_defaults():
    assert lf.MultiClassSVM().get_params() == dict(
        svm="ww",
        hinge=1,
        C=1.0,
        tol=1e-3,
        scale="none",
        max_passes=1000,
        random_state=0,
        device=None,
    )


@parametrize_with_checks([lf.MultiClassSVM(svm, hinge, max_passes=20_000) for svm, hinge in FORMS])
def test_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lf.errors.ConvergenceWarning)
        check(estimator)


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(svm="linear"), ["svm", "linear", "ww", "ovr", "cs"]),
        (dict(hinge=3), ["hinge", "3", "1", "2"]),
        (dict(hinge="1"), ["hinge"]),
        (dict(C=0.0), ["C"]),
        (dict(C=-1.0), ["C"]),
        (dict(C=np.nan), ["C"]),
        (dict(C=np.inf), ["C"]),
        (dict(tol=0.0), ["tol"]),
        (dict(tol=-1e-3), ["tol"]),
        (dict(tol=np.nan), ["tol"]),
        (dict(scale="minmax"), ["scale", "minmax", "unit", "standard", "none"]),
        (dict(max_passes=0), ["max_passes"]),
        (dict(max_passes=1.5), ["max_passes"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_options(options, words):
    features, labels = data(60, 9, 3)
    with pytest.raises(lf.errors.LeadFastError) as caught:
        lf.MultiClassSVM(**options).fit(features, labels)
    assert isinstance(caught.value, (ValueError, TypeError))
    message = one_line(caught.value)
    for word in words:
        assert word in message, message


GOOD, GOOD_LABELS = data(60, 9, 3)


def bad_row(value):
    features = GOOD.copy()
    features[[11, 30], 4] = value
    return features


BAD = {
    "nan": (bad_row(np.nan), GOOD_LABELS, ["2", "row 11"]),
    "inf": (bad_row(np.inf), GOOD_LABELS, ["2", "row 11"]),
    "one class": (GOOD, np.ones(60), ["class"]),
    "label length": (GOOD, GOOD_LABELS[:-1], ["59", "60"]),
    "1-D": (GOOD[:, 0], GOOD_LABELS, ["1"]),
    "3-D": (GOOD[:, :, None], GOOD_LABELS, ["3"]),
    "empty": (GOOD[:0], GOOD_LABELS[:0], ["0"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    features, labels, words = BAD[name]
    with pytest.raises(ValueError) as caught:
        lf.MultiClassSVM().fit(features, labels)
    message = str(caught.value).lower()
    for word in words:
        assert word in message, message


def test_other_width_in_predict():
    model = lf.MultiClassSVM().fit(GOOD, GOOD_LABELS)
    with pytest.raises(ValueError, match=r"8.*9|9.*8"):
        model.predict(GOOD[:, :8])
