import json
import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import weightedtau

from lead_fast.errors import InputError, InputTypeError
from lead_fast.evaluation import correlation, match_truth, read_table, weighted_tau


def tau_by_loops(scores, truth):
    """Eq. (1) of the paper, one pair at a time; models of equal truth share their mean rank."""
    n = len(truth)
    rank = []
    for i in range(n):
        better = sum(truth[j] > truth[i] for j in range(n))
        equal = sum(truth[j] == truth[i] for j in range(n))
        rank.append(better + (equal + 1) / 2)
    above = below = 0.0
    for i in range(n):
        for j in range(i):
            weight = 1 / (rank[i] + rank[j])
            below += weight
            above += weight * np.sign(truth[i] - truth[j]) * np.sign(scores[i] - scores[j])
    return above / below


def drawn(seed, n, ties):
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(0, 4, n).astype(float), rng.integers(0, 4, n).astype(float)
    return rng.standard_normal(n), rng.standard_normal(n)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 16, 97])
@pytest.mark.parametrize("seed", range(5))
def test_scipy_convention_is_scipy(seed, n, ties):
    scores, truth = drawn(seed, n, ties)
    expected = weightedtau(scores, truth).statistic
    assert np.array_equal(weighted_tau(scores, truth), expected, equal_nan=True)
    assert np.array_equal(weighted_tau(scores, truth, "scipy"), expected, equal_nan=True)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 16, 97])
@pytest.mark.parametrize("seed", range(5))
def test_paper_convention_is_eq_1(seed, n, ties):
    scores, truth = drawn(seed, n, ties)
    assert abs(weighted_tau(scores, truth, "paper") - tau_by_loops(scores, truth)) <= 1e-14


@pytest.mark.parametrize("most", [1, 97, 300, 10_000])
def test_paper_convention_by_blocks_of_rows(most, monkeypatch):
    scores, truth = drawn(1, 97, True)
    model = np.random.default_rng(0).integers(0, 97, 97)
    whole = [correlation.tau_of_eq1(scores, truth, one) for one in (None, model)]
    monkeypatch.setattr(correlation, "_MOST_PAIRS", most)
    parts = [correlation.tau_of_eq1(scores, truth, one) for one in (None, model)]
    assert np.abs(np.subtract(whole, parts)).max() <= 1e-15


def test_memory_of_the_paper_convention():
    scores, truth = drawn(0, 3000, False)
    tracemalloc.start()
    try:
        weighted_tau(scores, truth, "paper")
        assert tracemalloc.get_traced_memory()[1] < 100e6  # of all pairs at once 250 MB
    finally:
        tracemalloc.stop()


def test_paper_convention_by_hand():
    # Ranks by truth: b 1, a 2, c 3; only the pair (b, a) is discordant.
    expected = (-1 / 3 + 1 / 4 + 1 / 5) / (1 / 3 + 1 / 4 + 1 / 5)
    scores = {"a": 0.9, "b": 0.7, "c": 0.2}
    truth = {"c": 70.2, "b": 86.5, "a": 81.0}
    assert abs(weighted_tau(scores, truth, "paper") - expected) <= 1e-15


@pytest.mark.parametrize("convention", ["scipy", "paper"])
def test_range_and_order_of_models(convention):
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(20)
    assert abs(weighted_tau(truth, truth, convention) - 1) <= 1e-14
    assert abs(weighted_tau(-truth, truth, convention) + 1) <= 1e-14
    scores, truth = drawn(7, 20, ties=True)
    value = weighted_tau(scores, truth, convention)
    assert -1 <= value <= 1
    for _ in range(5):
        order = rng.permutation(20)
        assert abs(weighted_tau(scores[order], truth[order], convention) - value) <= 1e-14


def test_mistakes_among_the_best_weigh_more():
    truth = np.arange(10.0)[::-1]
    for convention in ("scipy", "paper"):
        top, bottom = truth.copy(), truth.copy()
        top[[0, 1]] = top[[1, 0]]
        bottom[[8, 9]] = bottom[[9, 8]]
        assert weighted_tau(top, truth, convention) < weighted_tau(bottom, truth, convention)


def test_all_tied():
    flat, varied = [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]
    for scores, truth in ((flat, varied), (varied, flat), (flat, flat)):
        assert weighted_tau(scores, truth, "paper") == 0.0
        assert math.isnan(weighted_tau(scores, truth, "scipy"))


@pytest.mark.parametrize("convention", ["scipy", "paper"])
@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([], [], "at least 2 models"),
        ([1.0], [1.0], "at least 2 models"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 scores but 3 values"),
        ([1.0, math.nan], [1.0, 2.0], "scores must be finite; number 1 is nan"),
        ([1.0, 2.0], [math.inf, 2.0], "truth must be finite; number 0 is inf"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"shape \(1, 2\)"),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0, "c": 2.0}, "no value in truth for b$"),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0, "c": 3.0}, "no value in scores for c$"),
    ],
)
def test_unusable_values(scores, truth, message, convention):
    with pytest.raises(InputError, match=message):
        weighted_tau(scores, truth, convention)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ({"a": 1.0, "b": 2.0}, [1.0, 2.0]),
        (["1", "2"], [1.0, 2.0]),
        ([1.0, 2.0], [True, False]),
        ([1.0, 2j], [1.0, 2.0]),
        ([1.0, None], [1.0, 2.0]),
        ([1.0, [2.0]], [1.0, 2.0]),
    ],
)
def test_wrong_types(scores, truth):
    with pytest.raises(InputTypeError):
        weighted_tau(scores, truth)


def test_unknown_convention_names_those_that_exist():
    with pytest.raises(InputError, match=r"'kendall'.*scipy, paper"):
        weighted_tau([1, 2], [1, 2], "kendall")


def test_match_truth():
    assert match_truth(["a", "b", "c"], {"c": 1.0, "a": 2.0}) == (["a", "c"], ["b"])
    with pytest.raises(InputError, match=r"t\.json names what is not among the models: x, y"):
        match_truth(["a", "b"], {"a": 1.0, "x": 1.0, "b": 1.0, "y": 2.0}, "t.json")
    with pytest.raises(InputError, match="1 of the 2 models"):
        match_truth(["a", "b"], {"a": 1.0})


def test_match_truth_of_many_models():
    hashed = 0

    class Name(str):
        def __hash__(self):
            nonlocal hashed
            hashed += 1
            return super().__hash__()

    names = [Name(number) for number in range(300)]
    truth = dict.fromkeys(names, 1.0)
    hashed = 0
    assert match_truth(names, truth) == (names, [])
    assert hashed <= 4 * 300


def test_read_table(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"a": 1, "b": 2.5}')
    assert read_table(path) == {"a": 1.0, "b": 2.5}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors begin a file
    assert read_table(path) == {"a": 1.0, "b": 2.5}
    rows = [
        {"model": "a", "score": -0.5, "rank": 1, "seconds": 0.1, "error": None},
        {"model": "b", "score": None, "rank": None, "seconds": 0.1, "error": "bad"},
    ]
    path.write_text(json.dumps({"metric": "lead", "device": "cpu", "scores": rows, "tau": None}))
    assert read_table(path) == {"a": -0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not usable JSON"),
        ("{'a': 1}", "not usable JSON"),
        ('{"a": 1', "not usable JSON"),
        ("[" * 100_000, "not usable JSON"),
        ("[1, 2]", "an object {model: number}, not an array"),
        ("3", "not a number"),
        ("null", "not null"),
        ('{"a": "1"}', "value of a must be a number, not a string"),
        ('{"a": true}', "not a boolean"),
        ('{"a": null}', "not null"),
        ('{"a": {"b": 1}}', "not an object"),
        ('{"a": NaN}', "finite"),
        ('{"a": -Infinity}', "finite"),
        ('{"a": 1e999}', "finite"),
        ('{"a": 1' + "0" * 400 + "}", "finite"),
        ('{"a": 1, "a": 2}', "names a twice"),
        ('{"scores": [{"model": "a"}]}', 'lacks "model" or "score"'),
        ('{"scores": [{"model": 3, "score": 1}]}', 'lacks "model" or "score"'),
        (
            '{"scores": [{"model": "a", "score": 1}, {"model": "a", "score": 1}]}',
            "names a twice",
        ),
    ],
)
def test_read_table_refuses(tmp_path, text, message):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_table_of_no_file(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_table(path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not usable JSON"):
        read_table(tmp_path / "binary.json")
