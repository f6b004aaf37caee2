"""The closed-form evolution, Eq. (7) and Eq. (6)."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special
from helpers import EPS64, assert_close, bfloat16_bits, class_labels, one_line, threads

import lead_fast as lf
from lead_fast import reference

MODES = ("distribution", "logits")
TIMES = np.array([0.0, 1e-3, 1.0, 7.5, 1e3])

# The evolution is computed in float64 whatever the type of the initial state, so the error is a
# few roundings of terms of order one, divided by the smallest state the logarithm sees.
ROUNDINGS = 64 * EPS64


def distributions(labels, n_classes, seed=0, sharpness=2.0, dtype=np.float64):
    """Rows that sum to one, with the true class likelier than the others."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += 1.0
    return scipy.special.softmax(logits, axis=1).astype(dtype)


def rates_for(n_classes, seed=0):
    return 10.0 ** np.random.default_rng(seed).uniform(3, 6.5, size=n_classes)


def score_limit(initial, labels, rates, times, mode):
    """Error bound of each score, from the smallest state in the logarithm."""
    limits = []
    for time in times:
        evolved = reference.evolve(initial, labels, rates, time)
        columns = np.unique(labels, return_inverse=True)[1]
        smallest = evolved[np.arange(len(labels)), columns].min() if mode == "distribution" else 1
        size = 1 if mode == "distribution" else 1 + np.max(np.abs(evolved))
        limits.append(ROUNDINGS * size * (1 / smallest if smallest < 1 else 1))
    return np.array(limits)


# -------------------------------------------------------------------------------------- Eq. (7)


@pytest.mark.parametrize("n_classes", [2, 3, 31, 33, 97, 1025])
@pytest.mark.parametrize("time", [0.0, 1.0, 30.0])
def test_evolve_against_reference(n_classes, time):
    labels = class_labels((2,) * n_classes)
    initial = distributions(labels, n_classes)
    rates = rates_for(n_classes)
    evolved = lf.evolve(initial, labels, rates, time=time)
    assert evolved.dtype == np.float64
    exact = reference.evolve(initial, labels, rates, time)
    assert_close(evolved, exact, ROUNDINGS)
    assert_close(evolved.sum(axis=1), np.ones(len(labels)), n_classes * ROUNDINGS)


@pytest.mark.parametrize("n_rows", [2, 31, 33, 97, 1025])
@pytest.mark.parametrize("mode", MODES)
def test_score_against_reference(n_rows, mode):
    labels = np.arange(n_rows) % min(n_rows, 7)
    n_classes = labels.max() + 1
    initial = distributions(labels, n_classes, seed=n_rows)
    rates = rates_for(n_classes)
    scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert scores.dtype == np.float64 and scores.shape == TIMES.shape
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, mode))


@pytest.mark.parametrize("n_classes", [2, 31, 33, 97, 1025])
@pytest.mark.parametrize("mode", MODES)
def test_score_widths(n_classes, mode):
    labels = class_labels((2,) * n_classes)
    initial = distributions(labels, n_classes)
    rates = rates_for(n_classes)
    scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, mode))


@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0, 1e4])
def test_logits_far_from_zero(shift, rng):
    """An initial state that is no distribution; its exponentials overflow unless shifted."""
    labels = np.arange(40) % 4
    initial = 300 * rng.normal(size=(40, 4)) + shift
    rates = rates_for(4)
    scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy="logits")
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy="logits")
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, "logits"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e-3])
def test_unit(mode, unit):
    """Only unit * time matters."""
    labels = np.arange(30) % 3
    initial = distributions(labels, 3)
    rates = rates_for(3)
    times = TIMES * 1e-6 / unit
    scores = lf.evolved_score(initial, labels, rates, times, unit=unit, cross_entropy=mode)
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, mode))
    evolved = lf.evolve(initial, labels, rates, time=times[2], unit=unit)
    assert_close(evolved, reference.evolve(initial, labels, rates, TIMES[2]), ROUNDINGS)


@pytest.mark.parametrize("mode", MODES)
def test_many_times_are_each_alone(mode):
    labels = np.arange(97) % 5
    initial = distributions(labels, 5)
    rates = rates_for(5)
    times = np.linspace(0, 50, 33)[::-1]
    together = lf.evolved_score(initial, labels, rates, times, cross_entropy=mode)
    alone = [lf.evolved_score(initial, labels, rates, [t], cross_entropy=mode)[0] for t in times]
    assert_close(together, alone, ROUNDINGS)


def test_a_single_time_may_be_a_number():
    labels = np.arange(12) % 3
    initial, rates = distributions(labels, 3), rates_for(3)
    scores = lf.evolved_score(initial, labels, rates, 2.0)
    assert scores.shape == (1,)
    assert scores[0] == lf.evolved_score(initial, labels, rates, [2.0])[0]


def test_no_times():
    labels = np.arange(12) % 3
    assert lf.evolved_score(distributions(labels, 3), labels, rates_for(3), []).shape == (0,)


def test_time_zero_is_the_initial_state():
    labels = np.arange(33) % 4
    initial, rates = distributions(labels, 4), rates_for(4)
    assert np.array_equal(lf.evolve(initial, labels, rates, time=0), initial)
    score = lf.evolved_score(initial, labels, rates, [0])[0]
    expected = np.mean(np.log(initial[np.arange(33), labels]))
    assert_close(score, expected, ROUNDINGS / initial.min())


@pytest.mark.parametrize("time", [1e12, 1e300, np.inf])
def test_time_to_infinity(time):
    """E becomes the label: its logarithm is 0, its log-softmax that of a one-hot vector."""
    labels = np.arange(33) % 4
    initial, rates = distributions(labels, 4), rates_for(4)
    assert np.array_equal(lf.evolve(initial, labels, rates, time=time), np.eye(4)[labels])
    assert lf.evolved_score(initial, labels, rates, [time])[0] == 0
    logits = lf.evolved_score(initial, labels, rates, [time], cross_entropy="logits")[0]
    assert_close(logits, 1 - np.log(np.e + 3), ROUNDINGS)


def test_score_grows_with_time():
    labels = np.arange(60) % 6
    initial, rates = distributions(labels, 6), rates_for(6)
    scores = lf.evolved_score(initial, labels, rates, np.linspace(0, 20, 100))
    assert np.all(np.diff(scores) >= 0) and scores[-1] <= 0


def test_slow_rates_do_not_cancel():
    """1 - exp(-x) for x near 1e-12: subtracting from one would leave four digits."""
    labels = np.array([0, 1])
    initial = np.array([[1e-9, 1.0], [1.0, 1e-9]])
    rates = np.array([1e-6, 1e-6])
    keep = -np.expm1(-1e-12)
    expected = np.log(keep + (1 - keep) * 1e-9)
    score = lf.evolved_score(initial, labels, rates, [1.0])[0]
    assert_close(score, expected, 1e-13 * abs(expected))


# --------------------------------------------------------------------------- zeros and ones


def test_zero_at_the_label():
    """log 0 at time 0, finite afterwards."""
    labels = np.array([0, 1, 0, 1])
    initial = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    rates = np.array([1e6, 1e6])
    scores = lf.evolved_score(initial, labels, rates, [0.0, 1.0])
    assert scores[0] == -np.inf
    expected = reference.evolved_score(initial, labels, rates, [1.0])[0]
    assert_close(scores[1], expected, ROUNDINGS)
    logits = lf.evolved_score(initial, labels, rates, [0.0, 1.0], cross_entropy="logits")
    exact = reference.evolved_score(initial, labels, rates, [0.0, 1.0], cross_entropy="logits")
    assert_close(logits, exact, 2 * ROUNDINGS)


def test_one_at_the_label():
    labels = np.arange(10) % 2
    scores = lf.evolved_score(np.eye(2)[labels], labels, [1e5, 1e6], TIMES)
    assert_close(scores, np.zeros(len(TIMES)), ROUNDINGS)


def test_rate_of_zero_does_not_move():
    labels = np.arange(10) % 2
    initial = distributions(labels, 2)
    evolved = lf.evolve(initial, labels, [0.0, 1e6], time=5.0)
    assert np.array_equal(evolved[labels == 0], initial[labels == 0])


# ---------------------------------------------------------------------------- inputs of each kind


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
def test_dtypes(dtype, mode):
    labels = np.arange(97) % 5
    initial = distributions(labels, 5, sharpness=1.0, dtype=dtype)
    rates = rates_for(5)
    scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, mode))
    exact = reference.evolve(initial, labels, rates, 2.0)
    assert_close(lf.evolve(initial, labels, rates, time=2.0), exact, ROUNDINGS)


def test_bfloat16():
    labels = np.arange(97) % 5
    bits, values = bfloat16_bits(distributions(labels, 5))
    initial = lf.features.Features(bits, "bfloat16")
    rates = rates_for(5)
    scores = lf.evolved_score(initial, labels, rates, TIMES)
    exact = reference.evolved_score(values, labels, rates, TIMES)
    assert_close(scores, exact, score_limit(values, labels, rates, TIMES, "distribution"))


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda p: np.repeat(p, 2, axis=0)[::2],
        lambda p: np.repeat(p, 3, axis=1)[:, ::3],
        lambda p: p[::-1, ::-1].copy()[::-1, ::-1],
        lambda p: p.tolist(),
    ],
    ids=["Fortran", "rows apart", "columns apart", "reversed", "list"],
)
@pytest.mark.parametrize("mode", MODES)
def test_memory_layouts(layout, mode):
    labels = np.arange(33) % 4
    initial, rates = distributions(labels, 4), rates_for(4)
    given = layout(initial)
    scores = lf.evolved_score(given, labels, rates, TIMES, cross_entropy=mode)
    exact = reference.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
    assert_close(scores, exact, score_limit(initial, labels, rates, TIMES, mode))
    exact = reference.evolve(initial, labels, rates, 1.0)
    assert_close(lf.evolve(given, labels, rates), exact, ROUNDINGS)


def test_input_is_left_alone():
    labels = np.arange(33) % 4
    initial, rates = distributions(labels, 4), rates_for(4)
    copies = initial.copy(), labels.copy(), rates.copy()
    initial.flags.writeable = rates.flags.writeable = False
    evolved = lf.evolve(initial, labels, rates, time=0)
    evolved[:] = -1
    lf.evolved_score(initial, labels, rates, TIMES)
    assert all(map(np.array_equal, copies, (initial, labels, rates)))


@pytest.mark.parametrize("mode", MODES)
def test_names_of_classes(mode):
    index = np.arange(33) % 3
    names = np.array(["cat", "dog", "owl"])
    initial, rates = distributions(index, 3), rates_for(3)
    plain = lf.evolved_score(initial, index, rates, TIMES, cross_entropy=mode)
    for labels in (names[index], names[index].tolist(), index - 5, index.astype(np.int8)):
        scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
        assert scores.tobytes() == plain.tobytes()
        assert np.array_equal(lf.evolve(initial, labels, rates), lf.evolve(initial, index, rates))


@pytest.mark.parametrize("mode", MODES)
def test_columns_named_by_classes(mode):
    """Columns in any order, and columns of classes that no sample has."""
    classes = ["owl", "ant", "dog", "cat"]
    labels = np.array(["cat", "dog", "owl"])[np.arange(33) % 3]
    columns = np.array([classes.index(name) for name in labels])
    initial, rates = distributions(columns, 4), rates_for(4)
    options = dict(cross_entropy=mode, classes=classes)
    scores = lf.evolved_score(initial, labels, rates, TIMES, **options)
    exact = reference.evolved_score(initial, labels, rates, TIMES, **options)
    assert_close(scores, exact, 1e3 * ROUNDINGS)
    exact = reference.evolve(initial, labels, rates, 1.0, classes=classes)
    assert_close(lf.evolve(initial, labels, rates, classes=classes), exact, ROUNDINGS)


@pytest.mark.parametrize("mode", MODES)
def test_same_bits_for_any_number_of_threads(mode):
    labels = np.arange(100_003) % 7
    initial, rates = distributions(labels, 7), rates_for(7)
    kept = []
    for count in (1, 2, 3):
        with threads(count):
            scores = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
        kept.append(scores.tobytes())
    assert kept[0] == kept[1] == kept[2]


def test_mean_of_many_terms():
    """A running sum in float32 would lose the sixth digit here."""
    labels = np.arange(1_000_000) % 2
    initial = np.tile(np.float32([[0.9, 0.1], [0.1, 0.9]]), (500_000, 1))
    score = lf.evolved_score(initial, labels, [1.0, 1.0], [0.0])[0]
    assert_close(score, np.log(np.float64(np.float32(0.9))), 1e-12)


# -------------------------------------------------------------------------------------- Eq. (6)


def kernel_of(n, rng, rank=None, size=1e6):
    rows = rng.normal(size=(n, rank or n + 2))
    kernel = rows @ rows.T
    return size * kernel / np.trace(kernel) * n


@pytest.mark.parametrize("n", [1, 2, 31, 33, 64, 97])
@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("time", [0.0, 0.3, 1.0, 20.0])
def test_evolve_samples_against_expm(n, n_classes, time, rng):
    kernel = kernel_of(n, rng)
    initial = distributions(np.full(n, 1), n_classes)
    evolved = lf.evolve_samples(initial, 1, kernel, time=time)
    assert evolved.dtype == np.float64
    truth = np.eye(n_classes)[np.full(n, 1)]
    exact = truth + scipy.linalg.expm(-1e-6 * time * kernel) @ (initial - truth)
    # An eigenvalue carries n * eps * |Phi|, and the exponential no larger a relative error.
    limit = 8 * n * EPS64 * (1 + 1e-6 * time * np.linalg.norm(kernel, 2)) * np.sqrt(n)
    assert_close(evolved, exact, limit)


def test_evolve_samples_rank_deficient(rng):
    """Directions in the null space never move."""
    kernel = kernel_of(12, rng, rank=3)
    initial = distributions(np.zeros(12, int), 4)
    evolved = lf.evolve_samples(initial, 0, kernel, time=1e9)
    truth = np.eye(4)[np.zeros(12, int)]
    values, vectors = np.linalg.eigh(kernel)
    null = vectors[:, values < 1e-3]
    assert null.shape[1] == 9
    # At this time an eigenvalue of rounding size, 1e-9, still moves by unit * time * 1e-9 = 1e-6.
    assert_close(null.T @ (evolved - initial), np.zeros((9, 4)), 1e-4)
    assert_close(vectors[:, 9:].T @ (evolved - truth), np.zeros((3, 4)), 1e-9)


def test_evolve_samples_with_a_multiple_of_identity_is_eq_7(rng):
    labels = np.full(9, 1)
    initial = distributions(labels, 3)
    evolved = lf.evolve_samples(initial, 1, 4e5 * np.eye(9), time=2.0)
    exact = reference.evolve(initial, labels, np.full(3, 4e5), 2.0, classes=[0, 1, 2])
    assert_close(evolved, exact, ROUNDINGS)


def test_evolve_samples_with_a_target_per_row(rng):
    kernel = kernel_of(9, rng)
    target = np.arange(9) % 3
    initial = distributions(target, 3)
    evolved = lf.evolve_samples(initial, target, kernel, time=0.7, unit=2e-6)
    exact = reference.evolve_samples(initial, target, kernel, time=0.7, unit=2e-6)
    assert_close(evolved, exact, 1e-12)


@pytest.mark.parametrize("time", [1e15, np.inf])
def test_evolve_samples_ends_at_the_label(time, rng):
    initial = distributions(np.full(6, 2), 3)
    evolved = lf.evolve_samples(initial, 2, kernel_of(6, rng) + 1e5 * np.eye(6), time=time)
    assert_close(evolved, np.eye(3)[np.full(6, 2)], ROUNDINGS)


# ------------------------------------------------------------------------------------ bad input

LABELS = np.arange(10) % 2
INITIAL = np.full((10, 2), 0.5)


def initial_with(value):
    initial = INITIAL.copy()
    initial[[4, 6], 1] = value
    return initial


BAD = {
    "negative time": (dict(time=-1.0), ["time"]),
    "nan time": (dict(time=np.nan), ["time"]),
    "nan": (dict(initial=initial_with(np.nan)), ["2", "row 4"]),
    "inf": (dict(initial=initial_with(np.inf)), ["2", "row 4"]),
    "label length": (dict(labels=LABELS[:-1]), ["9", "10"]),
    "rates length": (dict(rates=[1.0, 2.0, 3.0]), ["rates", "3", "2"]),
    "negative rate": (dict(rates=[1.0, -2.0]), ["rates"]),
    "nan rate": (dict(rates=[1.0, np.nan]), ["rates"]),
    "more columns than classes": (dict(initial=np.full((10, 3), 1 / 3), rates=[1] * 3), ["class"]),
    "label not in classes": (dict(classes=["a", "b"]), ["classes"]),
    "classes of another length": (dict(classes=[0, 1, 2]), ["classes"]),
    "classes twice": (dict(classes=[0, 0]), ["classes"]),
    "1-D": (dict(initial=INITIAL[:, 0]), ["initial", "dimensions"]),
    "3-D": (dict(initial=INITIAL[:, :, None]), ["initial", "dimensions"]),
    "empty": (dict(initial=INITIAL[:0], labels=LABELS[:0]), ["empty"]),
    "unit": (dict(unit=-1e-6), ["unit"]),
    "complex": (dict(initial=INITIAL * 1j), ["complex"]),
    "object": (dict(initial=INITIAL.astype(object)), ["object"]),
}
TYPE_ERRORS = ("complex", "object")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("call", ["evolve", "evolved_score"])
def test_bad_input(name, call):
    changes, words = BAD[name]
    arguments = dict(initial=INITIAL, labels=LABELS, rates=[1.0, 2.0]) | changes
    time = arguments.pop("time", 1.0)
    kind = lf.errors.InputTypeError if name in TYPE_ERRORS else lf.errors.InputError
    with pytest.raises(kind) as caught:
        if call == "evolve":
            lf.evolve(**arguments, time=time)
        else:
            lf.evolved_score(**arguments, times=[0.0, time])
    message = one_line(caught.value).lower()
    for word in words:
        assert word in message, message


def test_unknown_cross_entropy_names_those_that_exist():
    with pytest.raises(lf.errors.InputError, match="distribution") as caught:
        lf.evolved_score(INITIAL, LABELS, [1.0, 2.0], [1.0], cross_entropy="kl")
    message = one_line(caught.value)
    assert "logits" in message and "kl" in message


BAD_SAMPLES = {
    "negative time": (dict(time=-1.0), "time"),
    "kernel size": (dict(kernel=np.eye(3)), "kernel"),
    "kernel not square": (dict(kernel=np.ones((10, 3))), "kernel"),
    "kernel nan": (dict(kernel=np.full((10, 10), np.nan)), "kernel"),
    "kernel not symmetric": (dict(kernel=np.triu(np.ones((10, 10)))), "kernel"),
    "target too large": (dict(target=2), "target"),
    "target negative": (dict(target=-1), "target"),
    "target length": (dict(target=[0, 1]), "target"),
    "initial nan": (dict(initial=initial_with(np.nan)), "row 4"),
    "initial 1-D": (dict(initial=INITIAL[:, 0]), "initial"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_evolve_samples_bad_input(name):
    changes, word = BAD_SAMPLES[name]
    arguments = dict(initial=INITIAL, target=1, kernel=np.eye(10)) | changes
    with pytest.raises(lf.errors.InputError, match=word) as caught:
        lf.evolve_samples(**arguments)
    one_line(caught.value)


def test_evolve_samples_for_ever():
    """Directions without an eigenvalue stay, all others arrive; rounding below zero is zero."""
    kernel = np.outer(np.arange(1.0, 51.0), np.arange(1.0, 51.0))
    start = np.full((50, 4), 0.25)
    for time in (1e18, 1e25, np.inf):
        end = lf.evolve_samples(start, 0, kernel, time=time)
        direction = np.arange(1.0, 51.0) / np.linalg.norm(np.arange(1.0, 51.0))
        residual = start - np.eye(4)[np.zeros(50, int)]
        exact = np.eye(4)[np.zeros(50, int)] + residual - np.outer(direction, direction @ residual)
        assert_close(end, exact, 1e-9)
    with pytest.raises(lf.errors.InputError, match="semi-definite"):
        lf.evolve_samples(start, 0, -np.eye(50), time=1.0)


def test_logits_are_no_distribution():
    labels = np.arange(8) % 2
    for state in (np.full((8, 2), 3.0), np.full((8, 2), -1.0)):
        with pytest.raises(lf.errors.InputError, match="logits"):
            lf.evolved_score(state, labels, [1.0, 1.0], [1.0])
        score = lf.evolved_score(state, labels, [1.0, 1.0], [1.0], cross_entropy="logits")
        assert_close(score, [np.log(0.5)], 1e-6)
