"""Every metric on a GPU against the CPU, from the arrays of either library."""

import golden
import numpy as np
import pytest
from gpu import LIBRARIES, get, library, put
from helpers import class_labels, relu_features
from test_metrics_arrays import OPTIONS, SINGLE, problem

import lead_fast as lf
from lead_fast import metrics
from lead_fast.errors import InputError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning"),
    pytest.mark.filterwarnings("ignore::lead_fast.errors.SaturationWarning"),
]

LIMIT = {"float64": 1e-7, "float32": 2e-4}
# Where roundings decide which of equal pairs are tied.
ROUGH = {"rsa": 1e-3, "parc": 1e-3}


def agree(found, expected, limit):
    assert abs(found - expected) <= limit * max(abs(expected), 1e-3), (found, expected)


@pytest.fixture(autouse=True)
def cupy_is_here():
    library("cupy")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("owner", LIBRARIES)
@pytest.mark.parametrize("name", SINGLE)
def test_as_on_the_cpu(name, owner, dtype):
    x, labels, options = problem(name, 33, [400, 310, 97])
    there = put(owner, x)
    found = lf.score(there, labels, name, dtype=dtype, **options)
    agree(found, lf.score(x, labels, name, dtype=dtype, **options), ROUGH.get(name, LIMIT[dtype]))
    assert np.array_equal(get(there), x)


@pytest.mark.parametrize("name, more", OPTIONS, ids=str)
def test_options(name, more):
    x, labels, options = problem(name, 33, [400, 310, 97], **more)
    found = lf.score(put("torch", x), labels, name, dtype="float64", **options)
    expected = lf.score(x, labels, name, dtype="float64", **options)
    agree(found, expected, ROUGH.get(name, 1e-7))


@pytest.mark.parametrize("name", SINGLE)
def test_fewer_samples_than_features(name):
    x, labels, options = problem(name, 197, [31, 32, 33])
    found = lf.score(put("cupy", x), labels, name, dtype="float64", **options)
    expected = lf.score(x, labels, name, dtype="float64", **options)
    agree(found, expected, ROUGH.get(name, 1e-6))


@pytest.mark.parametrize("owner", LIBRARIES)
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_dtypes(owner, kind):
    x, labels, _ = problem("logme", 33, [400, 310, 97])
    there = put(owner, x, kind)
    back = get(there).astype(np.float32)
    for name in ("logme", "sfda", "transrate"):
        agree(lf.score(there, labels, name), lf.score(back, labels, name), 2e-4)


@pytest.mark.parametrize("name", ["logme", "hscore", "hscore_regularized", "parc"])
def test_several_labels(name, rng):
    labels = (rng.random((150, 4)) < 0.4).astype(int)
    x = rng.standard_normal((150, 19)) + labels @ rng.standard_normal((4, 19))
    found = lf.score(put("torch", x), labels, name, dtype="float64")
    agree(found, lf.score(x, labels, name, dtype="float64"), ROUGH.get(name, 1e-7))


@pytest.mark.parametrize(
    "key", ["logme", "hscore", "hscore_regularized", "transrate", "sfda", "ped"]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden(key, dtype):
    for model in golden.MODELS[:3]:
        if key not in golden.GOLDEN[model]:
            continue
        features, labels = golden.load(model)
        score = lf.score(put("torch", features), labels, key, dtype=dtype)
        golden.assert_golden(score, model, key, dtype)


def test_nleep():
    labels = class_labels([600, 640, 560])
    x = relu_features(labels, 20, seed=2) + 4 * np.eye(3, 20, dtype=np.float32)[labels]
    found = lf.score(put("torch", x), labels, "nleep", n_per_class=1)
    agree(found, lf.score(x, labels, "nleep", n_per_class=1), 1e-3)
    close = relu_features(labels, 20, seed=2)
    found = lf.score(put("torch", close), labels, "nleep")
    agree(found, lf.score(close, labels, "nleep"), 0.1)  # another local optimum


def test_etran_ranks():
    labels = class_labels([60, 70, 80])
    zoo = {f"model {i}": relu_features(labels, 24, seed=i, spread=i / 2) for i in range(4)}
    for public in (True, False):
        found = lf.rank(zoo, labels, "etran", device="cuda", public=public)
        expected = lf.rank(zoo, labels, "etran", public=public)
        for model, score in expected.scores.items():
            agree(found.scores[model], score, 1e-4)


def test_reference_on_the_gpu_or_not(rng):
    x, labels, _ = problem("ped", 33, [400, 310, 97])
    reference = relu_features(labels, 33, seed=5)
    expected = lf.score(x, labels, "ped", reference=reference, dtype="float64")
    for given in (reference, put("torch", reference), put("cupy", reference)):
        found = lf.score(put("torch", x), labels, "ped", reference=given, dtype="float64")
        agree(found, expected, 1e-8)
    for name in ("dds", "rsa"):
        expected = lf.score(x, labels, name, reference=reference)
        for here in (x, put("torch", x)):
            for given in (reference, put("torch", reference)):
                agree(lf.score(here, labels, name, reference=given), expected, 1e-3)


def test_references_of_any_layout(rng):
    x, labels, _ = problem("ped", 8, [40, 31, 60])
    wide = np.round(4 * rng.standard_normal((50, 17)) + 2 * np.arange(17)).astype(np.float32)
    there = put("cupy", wide)
    for given, host in (
        (there[:, ::2], wide[:, ::2][:, :8]), (there[:, 7::-1], wide[:, 7::-1]),
        (there[::-1, 3:], wide[::-1, 3:]), (put("cupy", wide.T.copy()).T, wide),
        (put("cupy", wide.astype(np.int64)), wide),
    ):  # fmt: skip
        expected = lf.score(x, labels, "ped", reference=np.ascontiguousarray(host[:, :8]))
        agree(lf.score(put("cupy", x), labels, "ped", reference=given[:, :8]), expected, 1e-4)


def test_squares_that_overflow(rng):
    x = rng.standard_normal((64, 4))
    x[:, 2] = np.tile([2.0**600, -(2.0**600)], 32)
    for name in ("hscore", "knn", "logme"):
        with pytest.raises(InputError, match="overflow"):
            lf.score(put("cupy", x), np.arange(64) % 2, name, dtype="float64")


def test_sources_on_the_gpu(rng):
    x, labels, _ = problem("leep", 33, [400, 310, 97])
    source = rng.random((len(x), 12))
    for name in ("leep", "nce"):
        expected = lf.score(x, labels, name, source=source)
        found = lf.score(put("torch", x), labels, name, source=put("torch", source))
        agree(found, expected, 1e-12)


def test_arrays_are_moved_and_labels_come_from_anywhere():
    x, labels, _ = problem("sfda", 33, [400, 310, 97])
    scorer = lf.Scorer(put("torch", labels), ["sfda", "logme", "transrate"], device="cuda")
    assert scorer.device == "cuda:0"
    for name, score in scorer(x).items():
        agree(score, lf.score(x, labels, name), 2e-4)


def test_callers_stream_is_used():
    torch = library("torch")
    x, labels, _ = problem("logme", 33, [4000, 3100, 97])
    expected = lf.score(x, labels, "logme")
    there = torch.zeros(x.shape, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)  # what follows must wait for this
        there.copy_(torch.from_numpy(x).pin_memory(), non_blocking=True)
        agree(lf.score(there, labels, "logme"), expected, 2e-4)


def test_what_is_wrong_is_said_as_on_the_cpu():
    x, labels, _ = problem("logme", 33, [400, 310, 97])
    bad = x.copy()
    bad[5, 3] = np.inf
    for name in SINGLE[:-2]:
        with pytest.raises(InputError, match="first in row 5"):
            lf.score(put("torch", bad), labels, name)
    flat = np.ones_like(x)
    with pytest.raises(InputError, match="do not vary"):
        lf.score(put("torch", flat), labels, "sfda")
    near = np.repeat(x[:, :1], 12, axis=1)  # one direction: no factor exists
    assert abs(lf.score(put("torch", near), labels, "hscore")) <= 2.0


def test_zoo_by_all_metrics():
    labels = class_labels([60, 70, 80])
    zoo = {f"model {i}": relu_features(labels, 24, seed=i, spread=i / 2) for i in range(3)}
    names = ["logme", "sfda", "ped", "gbc", "hscore", "transrate", "knn", "pactran", "etran"]
    found = lf.rank(zoo, labels, names, device="cuda")
    expected = lf.rank(zoo, labels, names)
    for name in names:
        for model, score in expected.rankings[name].scores.items():
            agree(found.rankings[name].scores[model], score, 1e-3)
    assert metrics.get("logme")(labels, device="cuda").device == "cuda:0"
