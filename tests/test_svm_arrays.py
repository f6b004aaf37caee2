"""The SVM that GPUs run, by NumPy everywhere and by CuPy where there is a GPU."""

import pathlib
import sys
import warnings

import numpy as np
import pytest
from gpu import library, put
from helpers import EPS64, FORMS, bfloat16_bits, class_labels, relu_features

import lead_fast as lf
import lead_fast.backend as backend
from lead_fast import device, reference, svm
from lead_fast.errors import DeviceMemoryError, ScoreWarning
from lead_fast.features import Features, as_features
from lead_fast.svm_arrays import adapt, column_statistics, svm_fit_arrays
from lead_fast.svm_arrays.losses import Loss
from lead_fast.svm_arrays.newton import direction, line_search
from lead_fast.svm_arrays.precondition import Directions, Preconditioner
from lead_fast.svm_arrays.rows import Rows

form = pytest.mark.parametrize(("name", "hinge"), FORMS)
namespace = pytest.mark.parametrize(
    "xp", ["numpy", pytest.param("cupy", marks=pytest.mark.gpu)], ids=str
)


def module(xp):
    return np if xp == "numpy" else library("cupy")


def mapped(features, scale="unit"):
    return svm.column_map(as_features(features), scale)


def fit(xp, features, codes, name, hinge, scale="unit", **options):
    """The fit, and the map it was made for."""
    columns = mapped(features, scale)
    found = svm_fit_arrays(
        xp, xp.asarray(features), codes, codes.max() + 1, columns.centre, columns.inverse_scale,
        name, hinge, **options,
    )  # fmt: skip
    return found, columns


def exact_objective(xp, found, columns, features, codes, name, hinge, C=1.0):
    """By the float64 reference, which shares nothing with the solver."""
    z = (np.asarray(features, np.float64) - columns.centre) * columns.inverse_scale
    weights, bias = adapt.host(xp, found.weights), adapt.host(xp, found.bias)
    return reference.primal(weights, bias, z, codes, name, hinge, C)


def data(counts=(150, 130, 20), width=24, seed=0, spread=1.0, dtype=np.float32):
    codes = class_labels(counts, seed)
    return relu_features(codes, width, seed=seed, spread=spread, dtype=dtype), codes


@namespace
@form
@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_objective_against_the_native_solver(xp, name, hinge, tol):
    xp = module(xp)
    features, codes = data()
    found, columns = fit(xp, features, codes, name, hinge, tol=tol)
    assert found.converged and 0 <= found.gap <= tol
    value = exact_objective(xp, found, columns, features, codes, name, hinge)
    assert abs(found.primal - value) <= 1e-11 * value
    options = svm.SvmOptions(name, hinge, 1.0, "unit", tol, 20000)
    *_, native, _ = svm.fit(as_features(features), codes.astype(np.int32), 3, options, columns)
    # Each dual is below each primal, as both bracket one optimum.
    assert found.dual <= native.primal * (1 + 1e-9)
    assert native.dual <= found.primal * (1 + 1e-9)


@form
@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_objective_against_the_quadratic_program(name, hinge, C):
    features, codes = data((25, 20, 15), 7, dtype=np.float64)
    found, columns = fit(np, features, codes, name, hinge, C=C, tol=1e-6, max_passes=20000)
    assert found.converged
    z = (features - columns.centre) * columns.inverse_scale
    optimum = reference.solve_svm(z, codes, 3, name, hinge, C)
    assert found.dual <= optimum.primal * (1 + 1e-12)
    assert optimum.dual <= found.primal * (1 + 1e-12)


@pytest.mark.parametrize(
    ("counts", "width"),
    [((1,) * 5, 4), ((40, 1, 1), 9), ((30, 31), 6), ((9, 8, 7), 97), ((1, 1), 1), ((40,) * 13, 33)],
    ids=str,
)
@form
def test_edges(name, hinge, counts, width):
    features, codes = data(counts, width)
    features[:, 0] = 3.0  # a constant column
    found, columns = fit(np, features, codes, name, hinge, max_passes=3000)
    assert found.converged
    value = exact_objective(np, found, columns, features, codes, name, hinge)
    assert abs(found.primal - value) <= 1e-10 * value


@form
def test_features_that_say_nothing(name, hinge):
    codes = np.arange(12) % 3
    found, _ = fit(np, np.ones((12, 4), np.float32), codes, name, hinge)
    assert found.converged
    assert np.abs(found.weights).max() <= 1e-4  # float32 sums of what cancels


@namespace
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_dtypes_stay_as_they_are(xp, dtype, offset):
    xp = module(xp)
    features, codes = data()
    features = features + np.float32(offset)
    if dtype == "bfloat16":
        raw, values = bfloat16_bits(features)
        columns = svm.column_map(Features(raw, "bfloat16"), "unit")
    else:
        raw = features.astype(dtype)
        values = raw.astype(np.float64)
        columns = mapped(raw)
    there = xp.asarray(raw)
    found = svm_fit_arrays(xp, there, codes, 3, columns.centre, columns.inverse_scale, "ww", 1)
    assert found.converged
    value = exact_objective(xp, found, columns, values, codes, "ww", 1)
    assert abs(found.primal - value) <= 1e-10 * value
    np.testing.assert_array_equal(adapt.host(xp, there), raw)


@namespace
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_column_statistics(xp, monkeypatch, dtype):
    xp = module(xp)
    monkeypatch.setattr("lead_fast.svm_arrays.rows.BLOCK_BYTES", 8 * 24 * 7)
    features = data()[0].astype(dtype)
    expected = backend.cpu().column_statistics(features, dtype, None, 1)
    found = column_statistics(xp, xp.asarray(features))
    for key in ("mean", "variance"):
        got = adapt.host(xp, found[key])
        np.testing.assert_allclose(got, expected[key], rtol=1e-12, atol=1e-15)
    features[[5, 9], 3] = np.nan, np.inf
    found = column_statistics(xp, xp.asarray(features))
    assert (found["non_finite"], found["first_non_finite"]) == (2, 5)


@namespace
def test_products_by_blocks_and_in_place(xp, monkeypatch, rng):
    xp = module(xp)
    features, _ = data(dtype=np.float64)
    columns = mapped(features)
    z = np.c_[(features - columns.centre) * columns.inverse_scale, np.ones(len(features))]
    v, g = rng.normal(size=(3, 25)), rng.normal(size=(len(features), 3))
    limit = 64 * EPS64 * len(features)
    monkeypatch.setattr("lead_fast.svm_arrays.rows.BLOCK_BYTES", 8 * 24 * 7)
    for direct in (True, False):
        rows = Rows(xp, xp.asarray(features), columns.centre, columns.inverse_scale, np.float64)
        assert rows.direct
        rows.direct = direct
        times = adapt.host(xp, rows.times(xp.asarray(v)))
        back = adapt.host(xp, rows.transposed_times(xp.asarray(g)))
        assert np.abs(times - z @ v.T).max() <= limit
        assert np.abs(back - g.T @ z).max() <= limit


def smoothed(loss, a, m, rho):
    """The smoothed loss by its definition, in float64."""
    new, _ = loss.step(a, m, rho)
    return (
        float((new * m).sum())
        - (new.sum() - loss.dual(new))
        - float(((new - a) ** 2).sum()) / (2 * rho)
    )


@form
def test_multipliers_maximise_and_curvature_is_their_derivative(name, hinge, rng):
    codes = np.arange(40) % 4
    loss = Loss(np, codes, 4, name, hinge, 0.7, np.float64)
    rho = 2 * loss.C if loss.smooth else 0.4
    f, df = rng.normal(size=(2, 40, 4))
    a = np.zeros((40, 4)) if loss.smooth else loss.step(np.zeros((40, 4)), loss.margins(df), 0.3)[0]
    m = loss.margins(f)
    new, threshold = loss.step(a, m, rho)
    assert (new >= 0).all()
    if hinge == 1:
        assert ((new.sum(axis=1) if name == "cs" else new) <= loss.C * (1 + 1e-12)).all()

    # No other feasible point is better: small moves to other feasible points lower the value.
    def value(x):
        quadratic = np.zeros(()) if loss.smooth else ((x - a) ** 2).sum() / (2 * rho)
        return float((x * m).sum()) - (float(x.sum()) - loss.dual(x)) - float(quadratic)

    for _ in range(20):
        other = loss.step(a, m + 0.3 * rng.normal(size=m.shape) * (m != -1), rho)[0]
        assert value(other) <= value(new) + 1e-12
    rows, curvature = loss.curvature(new, threshold, rho)
    h = 1e-7
    ahead = loss.step(a, loss.margins(f + h * df), rho)[0]
    numeric = (loss.coefficients(ahead) - loss.coefficients(new)) / h
    analytic = curvature(df)
    assert np.abs(numeric - analytic).max() <= 1e-5
    assert not np.delete(analytic, rows, axis=0).any()
    # All of it, summed over rows: what the preconditioner is told.
    total = curvature.between_classes()
    total = np.diag(total) if name == "ovr" else total
    columns = np.stack([-curvature(np.tile(e, (40, 1))).sum(axis=0) for e in np.eye(4)], axis=1)
    np.testing.assert_allclose(total, columns, atol=1e-12)
    # The slope along df is the derivative of the smoothed loss.
    if not loss.smooth:
        slope = loss.slope(a, m, loss.differences(df), 0.0, rho).sum()

        def along(t):
            return smoothed(loss, a, loss.margins(f + t * df), rho)

        assert abs((along(1e-6) - along(-1e-6)) / 2e-6 - slope) <= 1e-5 * max(1, abs(slope))


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("name", ["ww", "ovr", "cs"])
def test_direction_solves_the_newton_equations(name, every):
    features, codes = data(dtype=np.float64)
    columns = mapped(features)
    z = Rows(np, features, columns.centre, columns.inverse_scale, np.float64)
    loss = Loss(np, codes, 3, name, 1, 1.0, np.float64)
    new, threshold = loss.step(np.zeros((z.n, 3)), loss.margins(np.zeros((z.n, 3))), 0.3)
    _, curvature = loss.curvature(new, threshold, 0.3)
    gradient = -z.transposed_times(loss.coefficients(new))
    sums = (lambda c: c[:, None]) if name == "ovr" else (lambda c: c.sum(keepdims=True)[:, None])
    plain, many = direction(np, z, gradient, curvature, sums, 1e-8, 500, every)
    kind = Preconditioner(
        np, curvature.between_classes(), Directions(np, z), np.float64, name == "ovr"
    )
    better, few = direction(np, z, gradient, curvature, sums, 1e-8, 500, every, kind)
    for p in (plain, better):
        left = p - z.transposed_times(curvature(z.times(p))) + gradient
        assert np.linalg.norm(left) <= 2e-8 * np.linalg.norm(gradient)
    assert few <= many + every


def test_line_search_finds_each_groups_zero():
    zeros, asked = np.array([0.05, 1.0, 3.0, 40.0, -1.0]), []

    def slope(t):
        asked.append(t)
        return np.tanh(t - zeros) + 0.01 * (t - zeros)

    t = line_search(slope, slope(np.zeros(5)), tries=60, enough=1e-3)
    assert np.abs(t - zeros)[:4].max() <= 1e-2
    assert t[4] == 0  # uphill from the start
    np.testing.assert_array_equal(asked[1], 1)
    asked.clear()
    line_search(slope, slope(np.zeros(5)), tries=4, enough=1e-9)
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("name", "size"),
    [("ww", (4000, 256, 10)), ("ovr", (4000, 256, 10)), ("cs", (4000, 256, 10)),
     ("ww", (3000, 256, 50)), ("ovr", (3000, 256, 50))],
)  # fmt: skip
def test_passes_stay_below_200_on_backbone_like_features(name, size):
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
    try:
        from data import backbone_features
    finally:
        sys.path.pop(0)
    features, codes = backbone_features(*size)
    found, _ = fit(np, features, codes, name, 1)
    assert found.converged
    assert found.passes < 200


DIGITS = pathlib.Path(__file__).parents[1] / "examples" / "zoo" / "digits"


def digits():
    """Name, features and labels of the models of the example."""
    for path in sorted(DIGITS.glob("*.npz")):
        with np.load(path) as file:
            yield path.stem, file["features"], file["labels"]


def test_the_example_is_ranked_as_by_the_native_solver():
    native, found = {}, {}
    for name, features, labels in digits():
        lead = lf.metrics.get("lead")(labels)
        result = lead.evaluate(features)
        x = as_features(features)
        fitted = adapt.fit(
            np, x.data, lead.labels.codes, len(result.rates), lead.svm,
            svm.column_map(x, "unit"), log_probability=True,
        )  # fmt: skip
        p = np.exp(fitted["log_probability"])
        (score,) = backend.cpu().evolved_score_label(
            p, lead.labels.codes, result.rates, np.array([1e-6]), 1
        )
        native[name], found[name] = result.score, score
    assert sorted(native, key=native.get) == sorted(found, key=found.get)


@pytest.mark.gpu
@pytest.mark.parametrize("tol", [1e-3, 1e-5])  # two models' scores are 1.5e-3 apart
def test_the_example_is_ranked_as_on_the_cpu(tol):
    library("cupy")
    found, plain = (lf.rank(DIGITS, tol=tol, device=d).scores for d in ("cuda", "cpu"))
    assert len(plain) == 16
    assert sorted(found, key=found.get) == sorted(plain, key=plain.get)


def test_too_few_passes_say_so():
    features, codes = data()
    found, _ = fit(np, features, codes, "ww", 1, tol=1e-6, max_passes=3)
    assert not found.converged
    assert 1e-6 < found.gap <= 1
    assert found.passes <= 3 + 6


@form
def test_label_probability_and_folds(name, hinge):
    features, codes = data()
    codes = codes.astype(np.int32)
    options = svm.SvmOptions(name, hinge, tol=1e-6, max_passes=20000)
    rows = np.arange(0, len(codes), 2)
    columns = svm.column_map(as_features(features), "unit", rows)
    found = adapt.fit(np, features, codes[rows], 3, options, columns, rows, log_probability=True)
    again = adapt.label_log_probability(
        np, features, codes[rows], columns, found["weights"], found["bias"], rows
    )
    np.testing.assert_allclose(again, found["log_probability"], rtol=1e-10, atol=1e-12)
    native = svm.label_log_probability(
        as_features(features), codes[rows], 3, columns, found["weights"], found["bias"], rows
    )
    np.testing.assert_allclose(again, native, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tol", "limit"), [(1e-3, 1e-2), (1e-6, 1e-3)])
@form
def test_score_of_the_whole_chain(name, hinge, tol, limit):
    """The score from this solver's label probabilities against the native one's."""
    features, labels = data((200, 180, 160, 60), 40)
    lead = lf.metrics.get("lead")(labels, svm=name, hinge=hinge, tol=tol, max_passes=20000)
    expected = lead.evaluate(features)
    x = as_features(features)
    columns = svm.column_map(x, "unit")
    found = adapt.fit(np, features, lead.labels.codes, 4, lead.svm, columns, log_probability=True)
    (score,) = backend.cpu().evolved_score_label(
        np.exp(found["log_probability"]), lead.labels.codes, expected.rates, np.array([1e-6]), 1
    )
    assert abs(score - expected.score) <= limit * abs(expected.score)


class Full(Exception):
    """As CuPy's."""

    _size = 12345


Full.__name__ = "OutOfMemoryError"


def test_memory_errors_name_the_bytes():
    for error in (Full("full"), MemoryError("12345 bytes wanted")):
        with pytest.raises(DeviceMemoryError, match="12345 bytes wanted") as caught, \
                adapt.memory_errors():  # fmt: skip
            raise error
        assert "\n" not in str(caught.value)
    with pytest.raises(DeviceMemoryError, match=r"^once$"), adapt.memory_errors():
        raise DeviceMemoryError("once")
    with pytest.raises(ValueError, match="other"), adapt.memory_errors():
        raise ValueError("other")


def test_rank_goes_on_with_the_cpu(monkeypatch):
    features, labels = data()
    zoo = {"small": features, "large": 2 * features}
    expected = lf.rank(zoo, labels).scores
    evaluate = lf.metrics.get("lead").evaluate

    def full(self, x, **how):
        if x is zoo["large"] and self._device is None:
            raise DeviceMemoryError("out of memory on the GPU: 1 bytes wanted, 0 bytes free")
        return evaluate(self, x, **how)

    monkeypatch.setattr(lf.metrics.get("lead"), "evaluate", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = lf.rank(zoo, labels)
    assert found.scores == expected
    lines = [str(w.message) for w in caught if issubclass(w.category, ScoreWarning)]
    assert any("large: scored on the CPU" in line and "1 bytes wanted" in line for line in lines)


# ----------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("owner", ["cupy", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("tol", "limit"), [(1e-3, 1e-2), (1e-6, 1e-3)])
def test_score_on_the_gpu(owner, dtype, tol, limit):
    library(owner), library("cupy")
    features, labels = data((200, 180, 160, 60), 40)
    there = put(owner, features, dtype)
    back = device.wrap(there, "features").library.host(there).astype(np.float32)
    expected = lf.lead(back, labels, tol=tol, max_passes=20000)
    found = lf.lead(there, labels, tol=tol, max_passes=20000)
    assert found.svm.converged
    assert abs(found.score - expected.score) <= limit * abs(expected.score)
    crossed = lf.lead(there, labels, cross_fit=3, device="cuda")
    plain = lf.lead(back, labels, cross_fit=3)
    assert abs(crossed.score - plain.score) <= 1e-2 * abs(plain.score)
    scorer = lf.Scorer(labels, device="cuda", tol=tol)
    assert abs(scorer(there) - expected.score) <= limit * abs(expected.score)


@pytest.mark.gpu
@form
def test_classifier_on_the_gpu(name, hinge):
    library("cupy")
    features, labels = data()
    model = lf.MultiClassSVM(name, hinge, device="cuda", scale="unit").fit(features, labels)
    plain = lf.MultiClassSVM(name, hinge, scale="unit").fit(features, labels)
    assert model.converged_ is True
    assert model.dual_ <= plain.primal_ and plain.dual_ <= model.primal_
    assert model.predict(put("cupy", features)).shape == labels.shape


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["ww", "ovr", "cs"])
def test_many_classes_on_the_gpu(name, rng):
    """More than cuSOLVER's batched solver takes, and than the native curvature between classes."""
    k = 300
    labels = np.arange(3 * k) % k
    features = (rng.standard_normal((k, 32))[labels] + rng.standard_normal((3 * k, 32))).astype(
        "f4"
    )
    on_gpu = lf.MultiClassSVM(name, device="cuda", scale="unit")
    model = on_gpu.fit(put("cupy", features), labels)
    plain = lf.MultiClassSVM(name, scale="unit").fit(features, labels)
    assert model.gap_ <= 1e-3
    assert model.dual_ <= plain.primal_ and plain.dual_ <= model.primal_


@pytest.mark.gpu
def test_ranking_on_the_gpu():
    library("cupy")
    features, labels = data()
    noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    zoo = {"a": features, "b": features + noise, "c": noise}
    found, plain = lf.rank(zoo, labels, device="cuda"), lf.rank(zoo, labels)
    assert found.best == plain.best
    for model, score in found.scores.items():
        assert abs(score - plain.scores[model]) <= 1e-2 * abs(plain.scores[model])
