"""The evolved state and its scores on a GPU."""

import numpy as np
import pytest
import scipy.special
from gpu import LIBRARIES, Poison, belongs_to, get, library, put
from helpers import assert_close, bfloat16_bits, class_labels
from test_evolve import MODES, ROUNDINGS, TIMES, distributions, rates_for, score_limit

import lead_fast as lf
from lead_fast import reference

pytestmark = pytest.mark.gpu

WIDTHS = (2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 64, 97, 127, 128, 129, 256, 257, 300, 512)
WIDTHS += (513, 1000, 1023, 1024, 1025, 1028, 4097, 20000)
SCORE = 1e-6  # relative to the score or 1, the promise of the package


def check_scores(given, labels, rates, values, mode, times=TIMES):
    found = lf.evolved_score(given, labels, rates, times, cross_entropy=mode)
    assert isinstance(found, np.ndarray) and found.dtype == np.float64
    exact = reference.evolved_score(values, labels, rates, times, cross_entropy=mode)
    limit = SCORE * np.maximum(1.0, np.abs(exact))
    if mode == "distribution":
        limit = np.minimum(limit, score_limit(values, labels, rates, times, mode))
    assert_close(found, exact, limit, mode)
    again = lf.evolved_score(given, labels, rates, times, cross_entropy=mode)
    assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize("shape", [(150_001, 40), (2049, 200), (1234, 1000), (2048, 1024)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_of_times(shape, dtype):
    """1, 2, up to 4 and up to 8 have kernels of their own; rows for every warp of a large GPU."""
    labels = np.arange(shape[0]) % shape[1]
    values = (30 * distributions(labels, shape[1])).astype(dtype)
    given = put("torch", values)
    for count in (1, 2, 3, 4, 7, 8):
        times = np.linspace(0.25, 2.0, count)
        check_scores(given, labels, rates_for(shape[1]), values, "logits", times)


@pytest.mark.parametrize("n_classes", WIDTHS)
@pytest.mark.parametrize("mode", MODES)
def test_widths(n_classes, mode):
    labels = class_labels((1,) * n_classes if n_classes > 5000 else (2,) * n_classes)[:2048]
    labels = np.concatenate([labels, labels])[:2048]
    classes = np.arange(n_classes)
    rates = rates_for(n_classes)
    initial = distributions(labels, n_classes).astype(np.float32)
    found = lf.evolved_score(
        put("torch", initial), labels, rates, TIMES, cross_entropy=mode, classes=classes
    )
    exact = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode, classes=classes)
    limit = SCORE * np.maximum(1.0, np.abs(exact))
    assert_close(found, exact, limit, f"{n_classes} classes")


@pytest.mark.parametrize("n_rows", [2, 31, 32, 33, 97, 1025, 5000])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [7, 40])
def test_rows(n_rows, mode, width):
    labels = np.arange(n_rows) % min(n_rows, width)
    n_classes = labels.max() + 1
    initial = distributions(labels, n_classes, seed=n_rows).astype(np.float32)
    check_scores(put("torch", initial), labels, rates_for(n_classes), initial, mode)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_classes", [3, 40, 136, 1032, 1500])
def test_dtypes(name, dtype, mode, n_classes):
    labels = np.arange(2 * n_classes) % n_classes
    _, initial = bfloat16_bits(distributions(labels, n_classes))
    initial = initial.astype(np.float16).astype(np.float64)
    _, initial = bfloat16_bits(initial)
    given = put(name, initial.astype(np.float32), dtype)
    values = get(given).astype(np.float64)
    check_scores(given, labels, rates_for(n_classes), values, mode)
    evolved = lf.evolve(given, labels, rates_for(n_classes), time=1.0)
    assert belongs_to(evolved, name)
    exact = reference.evolve(values, labels, rates_for(n_classes), 1.0)
    assert_close(get(evolved), exact, ROUNDINGS)


@pytest.mark.parametrize("n_classes", [6, 40, 500, 1025])
@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0, 1e4])
def test_logits_far_from_zero(shift, n_classes):
    rng = np.random.default_rng(0)
    labels = np.arange(2 * n_classes) % n_classes
    initial = (300 * rng.normal(size=(len(labels), n_classes)) + shift).astype(np.float32)
    check_scores(put("torch", initial), labels, rates_for(n_classes), initial, "logits")
    check_scores(
        put("torch", initial.astype(np.float64)), labels, rates_for(n_classes), initial, "logits"
    )


@pytest.mark.parametrize("n_classes", [5, 40, 1100])
@pytest.mark.parametrize("mode", MODES)
def test_many_times(mode, n_classes):
    labels = np.arange(3 * n_classes) % n_classes
    initial = distributions(labels, n_classes).astype(np.float32)
    times = np.linspace(0, 50, 21)[::-1]
    check_scores(put("torch", initial), labels, rates_for(n_classes), initial, mode, times)
    assert lf.evolved_score(put("torch", initial), labels, rates_for(n_classes), []).shape == (0,)


@pytest.mark.parametrize("n_classes", [4, 40, 1100])
@pytest.mark.parametrize("time", [0.0, 1e12, 1e300, np.inf])
def test_ends_of_time(time, n_classes):
    labels = np.arange(3 * n_classes) % n_classes
    initial = distributions(labels, n_classes).astype(np.float32)
    rates = rates_for(n_classes)
    given = put("torch", initial)
    for mode in MODES:
        found = lf.evolved_score(given, labels, rates, [time], cross_entropy=mode)
        exact = lf.evolved_score(initial, labels, rates, [time], cross_entropy=mode)
        assert_close(found, exact, SCORE * np.maximum(1, np.abs(exact)), mode)
    evolved = get(lf.evolve(given, labels, rates, time=time))
    assert np.array_equal(evolved, lf.evolve(initial, labels, rates, time=time))


def test_a_label_far_above_or_below_the_others():
    for lead in (-200.0, 200.0):
        labels = np.arange(80) % 40
        initial = np.zeros((80, 40), np.float32)
        initial[np.arange(80), labels] = lead
        check_scores(put("torch", initial), labels, rates_for(40), initial, "logits")


@pytest.mark.parametrize("time", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("n_classes", [2, 3, 31, 33, 97, 1025])
def test_evolve(n_classes, time):
    labels = class_labels((2,) * n_classes)
    initial = distributions(labels, n_classes).astype(np.float32)
    Poison("torch")
    evolved = lf.evolve(put("torch", initial), labels, rates_for(n_classes), time=time)
    exact = reference.evolve(initial, labels, rates_for(n_classes), time)
    assert_close(get(evolved), exact, ROUNDINGS)


LAYOUTS = {
    "rows apart": lambda a: a[::2],
    "rows reversed": lambda a: a[::-1],
    "columns apart": lambda a: a[:, ::2],
    "Fortran": lambda a: a.T,
    "offset by one": lambda a: a[:, 1:-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [48, 130, 520])
def test_memory_layouts(layout, side, rng):
    name = "cupy" if layout == "rows reversed" else "torch"
    wide = rng.normal(size=(side, side)).astype(np.float32)
    values = LAYOUTS[layout](wide)
    labels = np.arange(len(values)) % values.shape[1]
    classes, rates = np.arange(values.shape[1]), rates_for(values.shape[1])
    given = LAYOUTS[layout](put(name, wide))
    found = lf.evolved_score(given, labels, rates, TIMES, cross_entropy="logits", classes=classes)
    exact = lf.evolved_score(values, labels, rates, TIMES, cross_entropy="logits", classes=classes)
    assert_close(found, exact, SCORE * np.maximum(1, np.abs(exact)))
    assert_close(
        get(lf.evolve(given, labels, rates, classes=classes)),
        lf.evolve(values, labels, rates, classes=classes),
        ROUNDINGS * 10,
    )


def test_numpy_states_are_moved_and_gpu_rates_are_read():
    labels = np.arange(90) % 9
    initial, rates = distributions(labels, 9), rates_for(9)
    for mode in MODES:
        found = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode, device="cuda")
        exact = lf.evolved_score(initial, labels, rates, TIMES, cross_entropy=mode)
        assert_close(found, exact, SCORE * np.maximum(1, np.abs(exact)))
    given = put("torch", initial)
    same = lf.evolved_score(given, put("torch", labels), put("torch", rates), TIMES)
    assert same.tobytes() == lf.evolved_score(given, labels, rates, TIMES).tobytes()
    back = lf.evolved_score(given, labels, rates, TIMES, device="cpu")
    assert back.tobytes() == lf.evolved_score(initial, labels, rates, TIMES).tobytes()


@pytest.mark.parametrize("n_classes", [3, 20, 300, 1500])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value, n_classes):
    labels = np.arange(2 * n_classes) % n_classes
    initial = distributions(labels, n_classes).astype(np.float32)
    initial[4, -1] = initial[5, 0] = value
    given = put("torch", initial)
    words = f"2 of {len(labels)} rows, first in row 4"
    with pytest.raises(lf.errors.InputError, match=words):
        lf.evolved_score(given, labels, rates_for(n_classes), 1.0, cross_entropy="logits")
    with pytest.raises(lf.errors.InputError, match=words):
        lf.evolve(given, labels, rates_for(n_classes))


def test_what_is_no_probability_is_named():
    initial = np.full((6, 2), 0.5, np.float32)
    initial[3, 1] = 1.5
    with pytest.raises(lf.errors.InputError, match=r"1\.5 in row 3"):
        lf.evolved_score(put("torch", initial), [0, 1] * 3, [1.0, 1.0], 1.0)


def test_more_than_two_to_the_31_numbers():
    """The same thousand rows over and over have the score of those thousand."""
    torch = library("torch")
    n_classes, times = 1000, np.array([0.0, 1.0])
    labels = np.arange(1000)
    initial = distributions(labels, n_classes).astype(np.float16)
    rates = rates_for(n_classes)
    copies = 2**31 // initial.size + 3
    large = put("torch", initial).repeat(copies, 1)
    many = np.tile(labels, copies)
    for mode in MODES:
        found = lf.evolved_score(large, many, rates, times, cross_entropy=mode)
        exact = lf.evolved_score(initial, labels, rates, times, cross_entropy=mode)
        assert_close(found, exact, SCORE * np.maximum(1, np.abs(exact)), mode)
    del large
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", LIBRARIES)
def test_through_the_whole_kernel(name):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(33, 40))
    kernel = rows @ rows.T * 1e4
    initial = scipy.special.softmax(rng.normal(size=(33, 7)), axis=1)
    exact = reference.evolve_samples(initial, 2, kernel, time=3.0)
    found = lf.evolve_samples(put(name, initial), 2, put(name, kernel), time=3.0)
    assert belongs_to(found, name)
    assert_close(get(found), exact, 33 * ROUNDINGS)
