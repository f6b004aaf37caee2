"""The random head: Philox, Box-Muller, He-normal weights."""

import numpy as np
import pytest
import scipy.stats
from helpers import one_line, threads

import lead_fast as lf
from lead_fast import reference

# kat_vectors of the Random123 distribution, philox4x32 with 10 rounds: counter, key, output.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_known_answers(counter, key, output):
    assert reference.philox4x32(words(counter), words(key)).tolist() == words(output)


def test_philox_is_vectorised(rng):
    counters = rng.integers(0, 2**32, size=(7, 4), dtype=np.uint64)
    together = reference.philox4x32(counters, [1, 2])
    alone = [reference.philox4x32(counter, [1, 2]) for counter in counters]
    assert np.array_equal(together, alone)


# The fast code evaluates ln, sin and cos in float32: a few roundings of a normal number below 6.
WEIGHT_TOLERANCE = 2e-6


@pytest.mark.parametrize(
    ("n_features", "hidden", "n_classes"),
    [
        (5, (), 3),
        (1, (1, 1), 2),
        (31, (33,), 97),
        (33, (97, 31), 10),
        (2, (3, 5, 7), 2),
        (1025, (31,), 33),
        (97, (1024, 2048), 10),
    ],
)
@pytest.mark.parametrize("seed", [0, 12345, 2**32 + 7, 2**64 - 1])
def test_weights_are_the_documented_ones(n_features, hidden, n_classes, seed):
    head = lf.Head(n_features, n_classes, hidden=hidden, seed=seed)
    exact = reference.head_weights(n_features, n_classes, hidden, seed)
    assert len(head.weights) == len(exact) == len(hidden) + 1
    for weight, expected in zip(head.weights, exact, strict=True):
        assert weight.dtype == np.float32 and weight.shape == expected.shape
        limit = WEIGHT_TOLERANCE * np.sqrt(2.0 / len(expected))
        assert np.max(np.abs(weight - expected)) <= limit


def test_weights_past_two_to_the_24_numbers():
    """Far into a layer a float32 index would repeat itself."""
    n_features, width = 4100, 4099
    head = lf.Head(n_features, 2, hidden=(width,), seed=3)
    count = n_features * width
    assert count > 2**24
    index = np.concatenate([np.arange(2**24 - 50, 2**24 + 50), np.arange(count - 101, count)])
    exact = reference.normals(index, layer=0, seed=3) * np.sqrt(2.0 / n_features)
    got = head.weights[0].reshape(-1)[index]
    assert np.max(np.abs(got - exact)) <= WEIGHT_TOLERANCE * np.sqrt(2.0 / n_features)
    assert np.all(np.isfinite(head.weights[0]))


def test_attributes():
    head = lf.Head(6, 4, hidden=[np.int64(5), 3], seed=np.int64(9))
    assert (head.n_features, head.n_classes, tuple(head.hidden), head.seed) == (6, 4, (5, 3), 9)
    assert [w.shape for w in head.weights] == [(6, 5), (5, 3), (3, 4)]
    assert [b.shape for b in head.biases] == [(5,), (3,), (4,)]
    assert all(b.dtype == np.float32 and not b.any() for b in head.biases)


def test_default_shape():
    head = lf.Head(8, 3)
    assert [w.shape for w in head.weights] == [(8, 1024), (1024, 2048), (2048, 3)]


def test_distribution_is_standard_normal():
    weights = lf.Head(1024, 2, hidden=(2048,), seed=11).weights[0].astype(np.float64)
    normal = weights.ravel() * np.sqrt(1024 / 2.0)
    n = normal.size
    assert scipy.stats.kstest(normal[:100_000], "norm").pvalue >= 1e-3
    # Standard errors of the first four moments of n normal numbers; 5 of them are never seen.
    assert abs(np.mean(normal)) <= 5 / np.sqrt(n)
    assert abs(np.mean(normal**2) - 1) <= 5 * np.sqrt(2 / n)
    assert abs(np.mean(normal**3)) <= 5 * np.sqrt(15 / n)
    assert abs(np.mean(normal**4) - 3) <= 5 * np.sqrt(96 / n)
    assert np.max(np.abs(normal)) <= np.sqrt(2 * 25 * np.log(2)) * (1 + 1e-6)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 256])
def test_neighbours_are_uncorrelated(lag):
    normal = lf.Head(256, 2, hidden=(256,), seed=5).weights[0].ravel()
    assert abs(np.corrcoef(normal[:-lag], normal[lag:])[0, 1]) <= 5 / np.sqrt(normal.size)


def test_layers_and_seeds_are_uncorrelated():
    first, second = (lf.Head(128, 128, hidden=(128, 128), seed=seed).weights for seed in (0, 1))
    streams = np.array([w.ravel() for w in [*first, *second]], np.float64)
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.max(np.abs(correlation)) <= 5 / np.sqrt(streams.shape[1])


def test_same_bits_for_any_number_of_threads():
    drawn = []
    for count in (1, 2, 3):
        with threads(count):
            drawn.append(lf.Head(97, 10, hidden=(1024, 33), seed=4).weights)
    for other in drawn[1:]:
        for left, right in zip(drawn[0], other, strict=True):
            assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2**32), (1, 2**32), (0, 2**63)])
def test_seeds_differ(first, second):
    left, right = (lf.Head(9, 3, hidden=(7,), seed=seed) for seed in (first, second))
    assert not np.any(left.weights[0] == right.weights[0])


def test_same_seed_same_head():
    left, right = (lf.Head(9, 3, hidden=(7,), seed=8) for _ in range(2))
    for a, b in zip(left.weights, right.weights, strict=True):
        assert a.tobytes() == b.tobytes()


def test_wider_output_does_not_change_earlier_layers():
    left, right = (lf.Head(9, k, hidden=(7,), seed=8) for k in (2, 10))
    assert left.weights[0].tobytes() == right.weights[0].tobytes()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(n_features=0, n_classes=3), "n_features"),
        (dict(n_features=4, n_classes=0), "n_classes"),
        (dict(n_features=4, n_classes=3, hidden=(8, 0)), "hidden"),
        (dict(n_features=4, n_classes=3, hidden=(-1,)), "hidden"),
        (dict(n_features=4, n_classes=3, seed=-1), "seed"),
        (dict(n_features=4, n_classes=3, seed=2**64), "seed"),
    ],
)
def test_bad_values(arguments, word):
    with pytest.raises(lf.errors.InputError, match=word) as caught:
        lf.Head(**arguments)
    one_line(caught.value)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(n_features=4.5, n_classes=3), "n_features"),
        (dict(n_features=4, n_classes="3"), "n_classes"),
        (dict(n_features=4, n_classes=3, hidden=(8.5,)), "hidden"),
        (dict(n_features=4, n_classes=3, hidden=8), "hidden"),
        (dict(n_features=4, n_classes=3, seed=0.5), "seed"),
        (dict(n_features=4, n_classes=3, seed=None), "seed"),
    ],
)
def test_bad_types(arguments, word):
    with pytest.raises(lf.errors.LeadFastError, match=word) as caught:
        lf.Head(**arguments)
    assert isinstance(caught.value, (TypeError, ValueError))
    one_line(caught.value)


def test_from_arrays_keeps_the_numbers(rng):
    weights = [rng.normal(size=shape) for shape in [(5, 4), (4, 3)]]
    biases = [rng.normal(size=4), rng.normal(size=3)]
    before = [a.copy() for a in [*weights, *biases]]
    head = lf.Head.from_arrays(weights, biases)
    for got, given in zip([*head.weights, *head.biases], [*weights, *biases], strict=True):
        assert np.array_equal(got, given.astype(np.float32))
    assert (head.n_features, head.n_classes, tuple(head.hidden)) == (5, 3, (4,))
    for given, copy in zip([*weights, *biases], before, strict=True):
        assert np.array_equal(given, copy)


def test_from_arrays_without_biases(rng):
    head = lf.Head.from_arrays([rng.normal(size=(5, 3))])
    assert head.biases[0].shape == (3,) and not head.biases[0].any()


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        ([np.ones((5, 4)), np.ones((3, 2))], None),
        ([np.ones(5)], None),
        ([], None),
        ([np.ones((5, 4))], [np.ones(5)]),
        ([np.ones((5, 4))], []),
        ([np.full((5, 4), np.nan)], None),
    ],
    ids=["chain", "1-D", "empty", "bias length", "bias count", "nan"],
)
def test_from_arrays_bad_input(weights, biases):
    with pytest.raises(lf.errors.InputError) as caught:
        lf.Head.from_arrays(weights, biases)
    one_line(caught.value)
