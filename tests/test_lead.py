"""The whole score, against the reference and against what the equations promise."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers import (
    FORMS,
    assert_close,
    bfloat16_bits,
    class_labels,
    one_line,
    relu_features,
    threads,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import lead_fast as lf
from lead_fast import reference

HIDDEN = (24, 17)  # small enough for the Jacobians of the reference

# Rounding of decision values, rates and logarithms in a score of order one; the distance of the
# SVM from its optimum comes on top of it.
ROUNDING = 2e-5

properties = settings(max_examples=12, deadline=None, derandomize=True)


def problem(counts=(20, 12, 28), n_features=19, *, seed=0, dtype=np.float32):
    labels = class_labels(counts, seed)
    return relu_features(labels, n_features, seed=seed, dtype=dtype), labels


def score_distance(excess, features, scale="unit"):
    """How far an SVM that is `excess` above the optimal objective can move the score.

    The objective is 1-strongly convex, so its weights V lie within sqrt(2 excess) of the optimum.
    The gradient of log softmax(f)[y] has norm at most sqrt(2), so log p_y of sample i moves by at
    most sqrt(2) |dV| |(x_i, 1)|, and log E no more than log p: its derivative by log p is
    keep * p / E, and E >= keep * p.
    """
    scaled = reference.scale_features(features, scale)
    length = np.mean(np.sqrt(1 + np.sum(scaled**2, axis=1)))
    return np.sqrt(2.0) * length * np.sqrt(2.0 * max(0.0, excess)) + ROUNDING


def gap_of(result):
    return result.svm.primal - result.svm.dual


# ---------------------------------------------------------------------------- against reference


@pytest.mark.parametrize(("svm", "hinge"), FORMS)
@pytest.mark.parametrize("time", [0.0, 1.0, 3e4])
def test_forms_and_times(svm, hinge, time):
    features, labels = problem()
    options = dict(svm=svm, hinge=hinge, time=time, hidden=HIDDEN, seed=3)
    exact = reference.lead(features, labels, **options)
    result = lf.lead(features, labels, tol=1e-6, **options)
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())
    optimum = exact.solutions[0].dual
    assert_close(result.score, exact.score, score_distance(result.svm.primal - optimum, features))
    assert 0 <= result.svm.gap <= 1e-6 and result.svm.converged


@pytest.mark.parametrize("scale", ["unit", "standard", "none"])
@pytest.mark.parametrize("C", [0.1, 10.0])
def test_scale_and_cost(scale, C):
    features, labels = problem()
    options = dict(scale=scale, C=C, hidden=HIDDEN)
    exact = reference.lead(features, labels, **options)
    result = lf.lead(features, labels, tol=1e-6, max_passes=100_000, **options)
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features, scale)
    assert_close(result.score, exact.score, limit)


@pytest.mark.parametrize("hidden", [(), (31,), (9, 8, 7)])
@pytest.mark.parametrize("n_samples", [1, 7, 64])
def test_head_and_sampling(hidden, n_samples):
    features, labels = problem((70, 12, 3))
    options = dict(hidden=hidden, n_samples=n_samples, seed=2**33 + 5, time=3e4)
    exact = reference.lead(features, labels, **options)
    result = lf.lead(features, labels, tol=1e-6, **options)
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
    assert_close(result.score, exact.score, limit)


def test_default_head():
    """1024 and 2048 hidden units; few samples, since the Jacobian is 17 MB a sample."""
    features, labels = problem((30, 30), 12)
    exact = reference.lead(features, labels, n_samples=3)
    result = lf.lead(features, labels, n_samples=3, tol=1e-6)
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
    assert_close(result.score, exact.score, limit)
    start = lf.lead(features, labels, n_samples=3, tol=1e-6, time=0)
    assert result.rates.min() >= 100 and result.score > start.score


@pytest.mark.parametrize("n_features", [2, 31, 33, 97])
@pytest.mark.parametrize("counts", [(30, 67), (20, 20, 20, 20, 17), (1, 60, 1, 37)])
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_shapes(n_features, counts):
    features, labels = problem(counts, n_features, seed=5)
    exact = reference.lead(features, labels, hidden=HIDDEN, time=3e4)
    result = lf.lead(features, labels, hidden=HIDDEN, time=3e4, tol=1e-6)
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
    assert_close(result.score, exact.score, limit)
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())


@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("counts", [(20, 12, 28), (19, 1, 2, 30)])
def test_cross_fit(n_folds, counts):
    """Each sample is judged by an SVM that has not seen it."""
    features, labels = problem(counts, 9, seed=7)
    options = dict(hidden=HIDDEN, seed=4)
    exact = reference.lead(features, labels, cross_fit=n_folds, **options)
    result = lf.lead(features, labels, cross_fit=n_folds, tol=1e-7, max_passes=20_000, **options)
    folds = reference.fold_numbers(labels, n_folds, seed=4)
    limit = ROUNDING
    for fold, solution in enumerate(exact.solutions):
        judged = folds == fold
        centre, divisor = reference.scaling(features[~judged], "unit")
        scaled = (features[judged] - centre) / divisor
        length = np.sum(np.sqrt(1 + np.sum(scaled**2, axis=1))) / len(labels)
        limit += np.sqrt(2.0) * length * np.sqrt(2.0 * 1.01e-7 * solution.primal)
    assert_close(result.score, exact.score, limit)
    seen = lf.lead(features, labels, **options).score
    assert abs(seen - exact.score) > 3 * limit  # the comparison can tell the two apart
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())


def test_folds_are_stratified():
    labels = class_labels((50, 7, 1, 23))
    folds = reference.fold_numbers(labels, 5)
    for c in range(4):
        counts = np.bincount(folds[labels == c], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_given_head():
    features, labels = problem()
    rng = np.random.default_rng(0)
    head = lf.Head.from_arrays(
        [rng.normal(size=(19, 11)), rng.normal(size=(11, 3))],
        [rng.normal(size=11), rng.normal(size=3)],
    )
    exact = reference.lead(features, labels, head=head, time=300.0)
    result = lf.lead(features, labels, head=head, time=300.0, tol=1e-6)
    assert_close(result.rates, exact.rates, 1e-5 * exact.rates.max())
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
    assert_close(result.score, exact.score, limit)
    other = lf.lead(features, labels, hidden=(11,), time=300.0, tol=1e-6)
    assert not np.allclose(other.rates, result.rates, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    features, labels = problem(dtype=dtype)
    exact = reference.lead(features, labels, hidden=HIDDEN)
    for given_features in (features, np.asfortranarray(features)):
        result = lf.lead(given_features, labels, hidden=HIDDEN, tol=1e-6)
        limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
        assert_close(result.score, exact.score, limit)


def test_bfloat16_and_torch():
    torch = pytest.importorskip("torch")
    features, labels = problem()
    bits, values = bfloat16_bits(features)
    plain = lf.lead(values.astype(np.float32), labels, hidden=HIDDEN, tol=1e-6)
    tensor = torch.tensor(values).to(torch.bfloat16)
    for given_features in (lf.features.Features(bits, "bfloat16"), tensor):
        result = lf.lead(given_features, labels, hidden=HIDDEN, tol=1e-6)
        limit = score_distance(gap_of(result), values) + score_distance(gap_of(plain), values)
        assert_close(result.score, plain.score, limit)
        assert_close(result.rates, plain.rates, 1e-5 * plain.rates.max())


# ------------------------------------------------------------------------------------- the result


def test_result():
    features, labels = problem()
    names = np.array(["ant", "bee", "cat"])[labels]
    result = lf.lead(features, names, hidden=HIDDEN)
    assert isinstance(result, lf.LeadResult)
    assert isinstance(result.score, float) and result.score < 0
    assert result.rates.dtype == np.float64 and result.rates.shape == (3,)
    assert result.classes.tolist() == ["ant", "bee", "cat"]
    svm = result.svm
    assert svm.primal >= svm.dual and 0 <= svm.gap <= 1e-3 and svm.passes > 0 and svm.converged
    assert result.seconds and all(seconds >= 0 for seconds in result.seconds.values())
    assert np.array_equal(result.rates, lf.class_rates(features, names, lf.Head(19, 3, HIDDEN)))


def test_time_zero_is_the_likelihood_of_the_svm():
    features, labels = problem()
    result = lf.lead(features, labels, time=0, hidden=HIDDEN)
    model = lf.MultiClassSVM(scale="unit").fit(features, labels)
    logits = model.decision_function(features).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    limit = score_distance(gap_of(result), features)
    limit += score_distance(model.primal_ - model.dual_, features)
    assert_close(result.score, np.mean(logs[np.arange(len(labels)), labels]), limit)


@pytest.mark.parametrize("time", [1e12, 1e300, np.inf])
def test_time_to_infinity_gives_zero(time):
    features, labels = problem()
    assert lf.lead(features, labels, time=time, hidden=HIDDEN).score == 0


def test_score_is_the_evolved_score():
    """The parts, put together by hand from public calls."""
    features, labels = problem((20, 12, 28))
    model = lf.MultiClassSVM(scale="unit", tol=1e-6).fit(features, labels)
    logits = model.decision_function(features).astype(np.float64)
    initial = np.exp(logits - logits.max(axis=1, keepdims=True))
    initial /= initial.sum(axis=1, keepdims=True)
    rates = lf.class_rates(features, labels, lf.Head(19, 3, HIDDEN, seed=1), seed=1)
    times = [0.0, 5.0, 1e4]
    scores = lf.evolved_score(initial, labels, rates, times)
    for time, score in zip(times, scores, strict=True):
        result = lf.lead(features, labels, time=time, hidden=HIDDEN, seed=1, tol=1e-6)
        assert_close(result.score, score, 2 * score_distance(gap_of(result), features))


def test_seed_changes_the_head_and_nothing_else():
    features, labels = problem()
    results = [lf.lead(features, labels, hidden=HIDDEN, seed=s, tol=1e-6) for s in (0, 1)]
    assert not np.any(results[0].rates == results[1].rates)
    assert_close(results[0].svm.primal, results[1].svm.primal, 2e-6 * results[0].svm.primal)


# ------------------------------------------------------------------------------- properties

seeds = st.integers(0, 2**31)
class_counts = st.lists(st.integers(1, 20), min_size=2, max_size=5).filter(lambda c: sum(c) >= 8)


@properties
@given(seed=seeds, counts=class_counts, factor=st.floats(1e-5, 1e5))
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_scaling_the_features_leaves_the_svm_alone(seed, counts, factor):
    features, labels = problem(counts, 6, seed=seed)
    scaled = features * np.float32(factor)
    options = dict(time=0, hidden=(5,), tol=1e-6, max_passes=100_000)
    before, after = (lf.lead(f, labels, **options) for f in (features, scaled))
    limit = score_distance(gap_of(before), features) + score_distance(gap_of(after), scaled)
    assert_close(after.score, before.score, limit)
    assert_close(after.svm.primal, before.svm.primal, 1e-5 * before.svm.primal)


@properties
@given(seed=seeds, counts=class_counts, time=st.sampled_from([0.0, 1.0, 1e3, 1e5]))
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_permuting_samples_stays_within_the_gap(seed, counts, time):
    features, labels = problem(counts, 6, seed=seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    options = dict(time=time, hidden=HIDDEN, tol=1e-6, max_passes=100_000)
    before = lf.lead(features, labels, **options)
    after = lf.lead(features[order], labels[order], **options)
    assert_close(after.rates, before.rates, 1e-5 * before.rates.max())
    limit = score_distance(gap_of(before), features) + score_distance(gap_of(after), features)
    assert_close(after.score, before.score, limit)


@properties
@given(seed=seeds, counts=class_counts, time=st.sampled_from([0.0, 1.0, 1e3, 1e5]))
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_renaming_classes_stays_within_the_gap(seed, counts, time):
    features, labels = problem(counts, 6, seed=seed)
    new_place = np.random.default_rng(seed).permutation(len(counts))
    names = np.array([f"c-{place}" for place in new_place])
    options = dict(time=time, hidden=HIDDEN, tol=1e-6, max_passes=100_000)
    before = lf.lead(features, labels, **options)
    after = lf.lead(features, names[labels], **options)
    assert after.classes.tolist() == sorted(names)
    assert_close(after.rates[new_place], before.rates, 1e-5 * before.rates.max())
    limit = score_distance(gap_of(before), features) + score_distance(gap_of(after), features)
    assert_close(after.score, before.score, limit)


@properties
@given(seed=seeds, counts=class_counts)
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_score_grows_with_time_up_to_zero(seed, counts):
    features, labels = problem(counts, 6, seed=seed)
    scores = [
        lf.lead(features, labels, time=time, hidden=HIDDEN, max_passes=100_000).score
        for time in (0.0, 1.0, 1e2, 1e4, 1e6, np.inf)
    ]
    assert np.all(np.diff(scores) >= 0) and scores[-1] == 0


def test_repeated_rows_tie():
    """Every sample twice, each class still below n_samples: same rates, same C with half of it."""
    features, labels = problem((20, 12, 28))
    once = lf.lead(features, labels, C=2.0, hidden=HIDDEN, tol=1e-6)
    features2, labels2 = np.repeat(features, 2, axis=0), np.repeat(labels, 2)
    twice = lf.lead(features2, labels2, C=1.0, hidden=HIDDEN, tol=1e-6)
    assert_close(twice.rates, once.rates, 1e-5 * once.rates.max())
    limit = score_distance(gap_of(once), features) + score_distance(gap_of(twice), features)
    assert_close(twice.score, once.score, limit)


# ------------------------------------------------------------------------------- reproducibility


@pytest.mark.parametrize("options", [{}, dict(svm="ovr"), dict(svm="cs"), dict(cross_fit=3)])
def test_same_bits_for_any_number_of_threads(options):
    features, labels = problem((100, 65, 1, 171), 33)
    kept = []
    for count in (1, 2, 3):
        with threads(count):
            result = lf.lead(features, labels, hidden=(64, 33), **options)
        svm = result.svm
        kept.append((result.score, result.rates.tobytes(), svm.primal, svm.dual, svm.gap))
    assert kept[0] == kept[1] == kept[2]


def test_three_ways_to_one_score():
    features, labels = problem()
    options = dict(hidden=HIDDEN, time=1e4, seed=5, svm="cs")
    expected = lf.lead(features, labels, **options).score
    assert lf.score(features, labels, **options) == expected
    assert lf.score(features, labels, metric="lead", device="cpu", **options) == expected
    assert lf.Scorer(labels, **options)(features) == expected
    assert isinstance(lf.score(features, labels, **options), float)


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (np.zeros((0, 16)), np.arange(3), "no rows"),
        (np.zeros((5, 2)), [], "0 labels"),
        (np.zeros((5, 0)), np.arange(5), "no columns"),
        (np.zeros(5), np.arange(5), "one row for each sample"),
        (np.zeros((5, 2, 2)), np.arange(5), "pool or flatten"),
        (np.zeros((5, 2)), np.arange(4), "one for each row of features"),
        (np.zeros((5, 2)), np.eye(5), "argmax"),
        (np.zeros((5, 2)), np.zeros(5, int), "every label is 0"),
    ],
)
def test_messages_say_what_to_do(features, labels, words):
    with pytest.raises(lf.errors.InputError, match=words):
        lf.lead(features, labels)


def test_a_scorer_makes_a_head_once(monkeypatch):
    module, made = sys.modules["lead_fast.lead"], []

    class Counted(lf.Head):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(module, "Head", Counted)
    labels = class_labels([20, 30, 9])
    scorer = lf.Scorer(labels, hidden=(24,))
    for seed in range(3):
        scorer(relu_features(labels, 40, seed=seed))
    assert len(made) == 1
    scorer(relu_features(labels, 41))
    scorer(relu_features(labels, 40))
    assert [args[0] for args in made] == [40, 41]


def test_scorer_over_models_of_several_widths():
    labels = class_labels((40, 33, 27))
    scorer = lf.Scorer(labels, hidden=HIDDEN, seed=2)
    for n_features in (19, 33, 19, 7, 33):
        features = relu_features(labels, n_features, seed=n_features)
        expected = lf.score(features, labels, hidden=HIDDEN, seed=2)
        assert scorer(features) == expected


def test_scorer_keeps_its_own_labels():
    features, labels = problem()
    mine = labels.copy()
    scorer = lf.Scorer(mine, hidden=HIDDEN)
    expected = scorer(features)
    mine[:] = 0
    assert scorer(features) == expected


def test_input_is_left_alone():
    features, labels = problem()
    copies = features.copy(), labels.copy()
    features.flags.writeable = labels.flags.writeable = False
    lf.lead(features, labels, hidden=HIDDEN, scale="standard")
    assert np.array_equal(features, copies[0]) and np.array_equal(labels, copies[1])


@pytest.mark.parametrize(
    "names",
    [
        np.array(["bee", "ant", "cat"]),
        np.array([-3, 7, 0]),
        np.array([2**40, -1, 5]),
        np.array([3, 1, 2], np.uint8),
        np.array(["x", "yy", "z"], dtype=object),
    ],
    ids=lambda names: str(names.dtype),
)
def test_labels_of_any_kind(names):
    features, labels = problem()
    given_labels = names[labels]
    result = lf.lead(features, given_labels, hidden=HIDDEN, tol=1e-6)
    assert result.classes.tolist() == sorted(names.tolist())
    if names.dtype.kind == "U" and hasattr(np.dtypes, "StringDType"):
        wide = given_labels.astype(np.dtypes.StringDType())
        assert lf.lead(features, wide, hidden=HIDDEN, tol=1e-6).score == result.score
    assert lf.lead(features, given_labels.tolist(), hidden=HIDDEN, tol=1e-6).score == result.score


# ----------------------------------------------------------------------------------- warnings


def test_fewer_samples_than_features_is_pointed_out():
    features, labels = problem((10, 12), 40)
    with pytest.warns(lf.errors.ScoreWarning) as caught:
        lf.lead(features, labels, hidden=HIDDEN)
    message = one_line(caught[0].message)
    assert "22" in message and "40" in message


@pytest.mark.parametrize("counts", [(20, 12, 28), (1, 30, 29)])
def test_nothing_to_point_out(counts):
    features, labels = problem(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(lf.lead(features, labels, hidden=HIDDEN).score)


def test_too_few_passes_warn():
    features, labels = problem((100, 100), 5)
    with pytest.warns(lf.errors.ConvergenceWarning, match="gap") as caught:
        result = lf.lead(features, labels, hidden=HIDDEN, C=1e3, tol=1e-9, max_passes=1)
    one_line(caught[0].message)
    assert not result.svm.converged and result.svm.gap > 1e-9


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1), (1, 2)])
def test_smallest_problems(counts):
    features, labels = problem(counts, 3)
    exact = reference.lead(features, labels, hidden=HIDDEN)
    result = lf.lead(features, labels, hidden=HIDDEN, tol=1e-6)
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features)
    assert_close(result.score, exact.score, limit)


@pytest.mark.parametrize("scale", ["unit", "standard", "none"])
def test_constant_features(scale):
    labels = class_labels((6, 9, 5))
    features = np.full((20, 4), 0.5, np.float32)
    exact = reference.lead(features, labels, hidden=HIDDEN, scale=scale)
    result = lf.lead(features, labels, hidden=HIDDEN, scale=scale, tol=1e-6)
    limit = score_distance(result.svm.primal - exact.solutions[0].dual, features, scale)
    assert_close(result.score, exact.score, limit)


# ------------------------------------------------------------------------------------ bad input

GOOD, LABELS = problem()


def bad_rows(value, rows):
    features = GOOD.copy()
    features[rows, 5] = value
    return features


InputError, InputTypeError = lf.errors.InputError, lf.errors.InputTypeError
DeviceError = lf.errors.DeviceError

# name: (changes to the call, error, words of the message)
BAD = {
    "nan": (dict(features=bad_rows(np.nan, [8, 17, 40])), InputError, ["3", "row 8"]),
    "inf": (dict(features=bad_rows(np.inf, [59])), InputError, ["1", "row 59"]),
    "minus inf": (dict(features=bad_rows(-np.inf, [0, 1])), InputError, ["2", "row 0"]),
    "one class": (dict(labels=np.zeros(60, int)), InputError, ["class"]),
    "fewer labels": (dict(labels=LABELS[:-1]), InputError, ["59", "60"]),
    "more labels": (dict(labels=np.append(LABELS, 0)), InputError, ["61", "60"]),
    "labels 2-D": (dict(labels=LABELS[:, None]), InputError, ["labels"]),
    "labels nan": (
        dict(labels=np.where(LABELS == 2, np.nan, LABELS)),
        (InputError, InputTypeError),
        ["labels"],
    ),
    "labels None": (dict(labels=None), (InputError, InputTypeError), ["labels"]),
    "labels mixed": (
        dict(labels=np.array([None, "a", "b"], dtype=object)[LABELS]),
        (InputError, InputTypeError),
        ["labels"],
    ),
    "no rows": (dict(features=GOOD[:0], labels=LABELS[:0]), InputError, ["empty"]),
    "no columns": (dict(features=GOOD[:, :0]), InputError, ["empty"]),
    "1-D": (dict(features=GOOD[:, 0]), InputError, ["features", "dimensions"]),
    "3-D": (dict(features=GOOD[:, :, None]), InputError, ["features", "dimensions"]),
    "0-D": (dict(features=np.float32(1)), InputError, ["features", "dimensions"]),
    "complex": (dict(features=GOOD.astype(np.complex128)), InputTypeError, ["complex"]),
    "object": (dict(features=GOOD.astype(object)), InputTypeError, ["object"]),
    "strings": (dict(features=GOOD.astype("U8")), InputTypeError, ["features"]),
    "dates": (dict(features=np.zeros((60, 19), "M8[s]")), InputTypeError, ["features"]),
    "ragged": (dict(features=[[1.0, 2.0], [3.0]] * 30), (InputError, InputTypeError), ["features"]),
    "None": (dict(features=None), InputTypeError, ["features"]),
    "file name": (dict(features="features.npy"), InputTypeError, ["features"]),
    "negative time": (dict(time=-0.5), InputError, ["time", "-0.5"]),
    "nan time": (dict(time=np.nan), InputError, ["time"]),
    "time of text": (dict(time="1"), (InputError, InputTypeError), ["time"]),
    "no samples": (dict(n_samples=0), InputError, ["n_samples", "0"]),
    "minus samples": (dict(n_samples=-64), InputError, ["n_samples"]),
    "half samples": (dict(n_samples=0.5), (InputError, InputTypeError), ["n_samples"]),
    "hidden": (dict(hidden=(8, 0)), InputError, ["hidden"]),
    "svm": (dict(svm="rbf"), InputError, ["svm", "rbf", "ww", "ovr", "cs"]),
    "hinge": (dict(hinge=3), InputError, ["hinge", "3"]),
    "C": (dict(C=0), InputError, ["C"]),
    "scale": (dict(scale="l2"), InputError, ["scale", "l2", "unit", "standard", "none"]),
    "tol": (dict(tol=0), InputError, ["tol"]),
    "max_passes": (dict(max_passes=0), InputError, ["max_passes"]),
    "seed": (dict(seed=-1), InputError, ["seed"]),
    "cross_fit 1": (dict(cross_fit=1), InputError, ["cross_fit", "1"]),
    "cross_fit 0": (dict(cross_fit=0), InputError, ["cross_fit"]),
    "cross_fit -2": (dict(cross_fit=-2), InputError, ["cross_fit"]),
    "cross_fit 2.5": (dict(cross_fit=2.5), (InputError, InputTypeError), ["cross_fit"]),
    "cross_fit text": (dict(cross_fit="5"), (InputError, InputTypeError), ["cross_fit"]),
    "cross_fit > N": (dict(cross_fit=61), InputError, ["cross_fit", "60"]),
    "head": (dict(head=object()), InputTypeError, ["weights"]),
    "head width": (dict(head=lf.Head(18, 3, (4,))), InputError, ["18", "19"]),
    "device cuda": (dict(device="cuda"), DeviceError, ["cuda", "cpu"]),
    "device tpu": (dict(device="tpu"), DeviceError, ["tpu", "cpu"]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("call", ["lead", "score", "Scorer"])
def test_bad_input(name, call):
    changes, kind, words = BAD[name]
    arguments = dict(features=GOOD, labels=LABELS) | changes
    features, labels = arguments.pop("features"), arguments.pop("labels")
    if call != "lead" and name.startswith("head"):
        arguments["metric"] = "lead"
    with pytest.raises(kind) as caught:
        if call == "Scorer":
            lf.Scorer(labels, **arguments)(features)
        else:
            getattr(lf, call)(features, labels, **arguments)
    message = one_line(caught.value)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (dict(metric="led"), InputError, ["led", "lead"]),
        (dict(metric=None), (InputError, InputTypeError), ["metric", "lead"]),
        (dict(device="tpu"), DeviceError, ["tpu", "cpu"]),
        (dict(temperature=2), (InputError, InputTypeError), ["temperature"]),
        (dict(n_samples=0), InputError, ["n_samples"]),
        (dict(time=-1), InputError, ["time"]),
        (dict(svm="rbf"), InputError, ["rbf", "ww"]),
        (dict(cross_fit=1), InputError, ["cross_fit"]),
    ],
    ids=str,
)
def test_scorer_rejects_bad_options_before_it_sees_features(options, kind, words):
    with pytest.raises(kind) as caught:
        lf.Scorer(LABELS, **options)
    message = one_line(caught.value)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("labels", [np.zeros(5, int), [], np.zeros((3, 2))])
def test_scorer_rejects_bad_labels_before_it_sees_features(labels):
    with pytest.raises(InputError) as caught:
        lf.Scorer(labels)
    one_line(caught.value)


def test_unknown_metric_names_those_that_exist():
    with pytest.raises(InputError) as caught:
        lf.score(GOOD, LABELS, metric="nonsense")
    message = one_line(caught.value)
    assert all(name in message for name in ["nonsense", *lf.metrics.names()])


def test_errors_are_what_a_caller_expects():
    assert issubclass(lf.errors.InputError, ValueError)
    assert issubclass(lf.errors.InputTypeError, TypeError)
    assert issubclass(lf.errors.DeviceError, RuntimeError)
    for kind in (lf.errors.InputError, lf.errors.InputTypeError, lf.errors.DeviceError):
        assert issubclass(kind, lf.errors.LeadFastError)


# ------------------------------------------------------------------------------------- the package


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_import_and_score_load_neither_torch_nor_cupy():
    ran = python(
        "import sys, lead_fast, numpy\n"
        "heavy = lambda: [m for m in ('torch', 'cupy') if m in sys.modules]\n"
        "assert not heavy(), heavy()\n"
        "x = numpy.random.default_rng(0).random((20, 4))\n"
        "score = lead_fast.score(x, numpy.arange(20) % 2, hidden=(5,))\n"
        "assert score < 0, score\n"
        "assert not heavy(), heavy()\n"
    )
    assert ran.returncode == 0, ran.stderr


def test_import_is_light():
    """Importing the package does not yet import SciPy's or scikit-learn's large parts."""
    ran = python(
        "import sys, lead_fast\n"
        "assert 'sklearn' not in sys.modules and 'lead_fast._cpu' not in sys.modules\n"
        "print(sorted(set(dir(lead_fast))))\n"
    )
    assert ran.returncode == 0, ran.stderr
    for name in ("lead", "score", "Scorer", "rank", "MultiClassSVM", "build_info"):
        assert f"'{name}'" in ran.stdout


def test_every_public_name_exists():
    names = (
        "score lead LeadResult Scorer rank Ranking Head class_kernels class_rates spectrum evolve "
        "evolved_score evolve_samples MultiClassSVM weighted_tau metrics build_info errors"
    ).split()
    assert set(names) <= set(dir(lf))
    for name in names:
        assert getattr(lf, name).__doc__
    assert "lead" in lf.metrics.names()
    with pytest.raises(AttributeError):
        lf.no_such_name  # noqa: B018


def test_build_info():
    info = lf.build_info()
    assert isinstance(info, dict) and info
    assert all(isinstance(key, str) for key in info)


def test_reference_shares_nothing_with_the_fast_code():
    source = reference.__loader__.get_source(reference.__name__)
    assert "lead_fast" not in source and "from ." not in source


def test_concurrent_calls_agree():
    """Two Python threads at once, while the lock is released."""
    from concurrent.futures import ThreadPoolExecutor

    features, labels = problem((60, 55, 64), 33)
    scorer = lf.Scorer(labels, hidden=(64, 33))
    expected = scorer(features)
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda _: scorer(features), range(12)))
    assert scores == [expected] * 12


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", float("nan"), "dog"] * 5,
        [1, "a"] * 10,
        np.ma.masked_array(np.arange(20) % 2, np.arange(20) == 3),
        (np.arange(20) % 2) * 1e30,
    ],
    ids=["missing", "mixed", "masked", "huge"],
)
def test_doubtful_labels_are_refused(labels):
    with pytest.raises((InputError, InputTypeError)) as caught:
        lf.score(np.eye(20), labels)
    assert str(caught.value).startswith("labels: ") and "\n" not in str(caught.value)
