"""Heads drawn on a GPU: the bits of the CPU's."""

import numpy as np
import pytest
from gpu import LIBRARIES, belongs_to, get, put

import lead_fast as lf

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("n_features", "hidden", "n_classes"),
    [(1, (), 1), (1, (1,), 2), (31, (33, 97), 5), (97, (), 1025), (2048, (1024, 2048), 10)],
)
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_same_bits_as_on_the_cpu(n_features, hidden, n_classes, seed):
    here = lf.Head(n_features, n_classes, hidden, seed)
    there = lf.Head(n_features, n_classes, hidden, seed, device="cuda")
    assert there.device.startswith("cuda:")
    for a, b in zip(here.weights + here.biases, there.weights + there.biases, strict=True):
        assert get(b).dtype == np.float32 and get(b).tobytes() == a.tobytes()


def test_past_two_to_the_24_numbers():
    here, there = (lf.Head(5000, 4001, (), 3, device=d) for d in ("cpu", "cuda"))
    assert get(there.weights[0]).tobytes() == here.weights[0].tobytes()


@pytest.mark.parametrize("name", LIBRARIES)
def test_heads_of_either_side_serve_features_of_either_side(name, rng):
    features = rng.normal(size=(20, 9)).astype(np.float32)
    labels = np.arange(20) % 2
    here, there = (lf.Head(9, 2, (8, 6), 3, device=d) for d in ("cpu", "cuda"))
    expected = lf.class_rates(features, labels, here)
    on_gpu = put(name, features)
    rates = [lf.class_rates(on_gpu, labels, head) for head in (here, there)]
    assert rates[0].tobytes() == rates[1].tobytes()
    np.testing.assert_allclose(rates[0], expected, rtol=1e-5)
    assert lf.class_rates(features, labels, there).tobytes() == expected.tobytes()


def test_weights_belong_to_a_library():
    weights = lf.Head(3, 2, (4,), device="cuda").weights
    assert any(all(belongs_to(w, name) for w in weights) for name in LIBRARIES)
