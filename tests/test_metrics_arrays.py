"""Metrics on arrays, by NumPy and by a stand-in for CuPy, against the native code."""

import numpy as np
import pytest
import strict_cupy
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import metrics
from lead_fast.errors import DeviceMemoryError, ScoreWarning
from lead_fast.metrics._arrays import ArrayShared
from lead_fast.zoo.upload import Uploads
from lead_fast.zoo.work import Work

SINGLE = ("logme", "hscore", "hscore_regularized", "transrate", "sfda", "ped", "gbc", "pactran",
          "lead+", "knn", "parc", "rsa", "dds")  # fmt: skip
LIMIT = {"float64": 1e-7, "float32": 2e-4}


def share(xp, x, labels, dtype):
    labels = metrics._base.encode_targets(labels, "", multi_label=True)
    return ArrayShared(xp, xp.asarray(x), labels, dtype)


def problem(name, d, counts, seed=0, **more):
    labels = class_labels(counts)
    x = relu_features(labels, d, seed=seed)
    options = dict(more)
    if name in ("rsa", "dds"):
        options["reference"] = relu_features(labels, 7, seed=seed + 1)
    return x, labels, options


def compare(xp, name, x, labels, dtype, options, limit=None):
    metric = metrics.get(name)(labels, dtype=dtype, **options)
    native = metric(x)
    before = x.copy()
    found = metric(None, shared=share(xp, x, labels, dtype))
    assert np.array_equal(before, x)
    assert abs(found - native) <= (limit or LIMIT[dtype]) * max(abs(native), 1e-3), (found, native)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SINGLE)
def test_as_native(xp, name, dtype):
    x, labels, options = problem(name, 12, [40, 31, 60])
    compare(xp, name, x, labels, dtype, options)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.SaturationWarning")
@pytest.mark.parametrize("name", SINGLE)
def test_fewer_samples_than_features(xp, name):
    x, labels, options = problem(name, 97, [9, 12, 11])
    compare(xp, name, x, labels, "float64", options, limit=1e-6)


OPTIONS = [
    ("logme", dict(method="icml")),
    ("transrate", dict(weighted=True, eps=0.5)),
    ("sfda", dict(log=True)),
    ("ped", dict(over="logme")),
    ("ped", dict(over="gbc")),
    ("gbc", dict(gaussian="diagonal")),
    ("gbc", dict(n_components=None)),
    ("gbc", dict(n_components=3, log_terms="paper")),
    ("pactran", dict(flatness=False)),
    ("pactran", dict(steps=5)),
    ("knn", dict(k=3)),
    ("knn", dict(distance="cosine")),
    ("parc", dict(n_components=None)),
    ("parc", dict(n_components=4, ties="exact")),
    ("parc", dict(max_samples=60)),
    ("rsa", dict(max_samples=50)),
    ("dds", dict(debiased=False)),
    ("lead+", dict(n_components=4)),
    ("lead+", dict(n_components=2, penalty=3.0)),
]


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("name, more", OPTIONS, ids=str)
def test_options(xp, name, more):
    x, labels, options = problem(name, 12, [40, 31, 60], **more)
    compare(xp, name, x, labels, "float64", options)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parc_of_features_of_few_dimensions(xp, dtype, monkeypatch):
    """What other processors round otherwise must not count."""
    x, labels, options = problem("parc", 33, [400, 310, 97], max_samples=60)
    compare(xp, "parc", x, labels, dtype, options, limit=1e-6 if dtype == "float64" else 1e-2)
    metric = metrics.get("parc")(labels, dtype=dtype, **options)
    native = metric(x)
    qr = xp.linalg.qr
    noise = np.random.default_rng(0)

    def rounded_otherwise(a):
        scale = 1.0 + np.finfo(a.dtype).eps * noise.integers(-1, 2, a.shape).astype(a.dtype)
        return qr(a * xp.asarray(scale.astype(a.dtype)))

    monkeypatch.setattr(xp.linalg, "qr", rounded_otherwise)
    found = metric(None, shared=share(xp, x, labels, dtype))
    assert abs(found - native) <= (1e-6 if dtype == "float64" else 1e-2) * abs(native)


@pytest.mark.parametrize("name", ["logme", "hscore", "hscore_regularized", "parc"])
@pytest.mark.parametrize("d", [9, 60])
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.SaturationWarning")
def test_several_labels(xp, name, d, rng):
    labels = (rng.random((50, 4)) < 0.4).astype(int)
    x = rng.standard_normal((50, d)) + labels @ rng.standard_normal((4, d))
    compare(xp, name, x, labels, "float64", {}, limit=1e-6)


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("tail", ["top", "bottom"])
def test_parts_of_etran(xp, public, tail):
    x, labels, _ = problem("etran", 12, [40, 31, 60])
    etran = metrics.get("etran")(labels, public=public, tail=tail, percent=20, dtype="float64")
    native = etran.parts(etran.share(x))
    found = etran.parts(share(xp, x, labels, "float64"))
    np.testing.assert_allclose(found, native, rtol=1e-9)


@pytest.mark.parametrize("log", [False, True])
def test_nleep(xp, log):
    labels = class_labels([150, 160, 140])
    x = relu_features(labels, 10, seed=2) + 3 * np.eye(3, 10)[labels]
    nleep = metrics.get("nleep")(labels, n_per_class=1, log=log, dtype="float64")
    # Another draw of first centres: the same clusters where they lie apart.
    found, native = nleep(None, shared=share(xp, x, labels, "float64")), nleep(x)
    assert abs(found - native) <= 1e-6 * abs(native)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_dtypes_of_features(xp, dtype):
    x, labels, _ = problem("sfda", 12, [40, 31, 60])
    compare(xp, "sfda", x.astype(dtype), labels, "float32", {})


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_bfloat16_as_bits(xp):
    x, labels, _ = problem("logme", 12, [40, 31, 60])
    bits = (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    cut = (bits.astype(np.uint32) << 16).view(np.float32)
    native = lf.score(cut, labels, "logme")
    found = metrics.get("logme")(labels)(None, shared=share(xp, bits, labels, "float32"))
    assert abs(found - native) <= 1e-5 * abs(native)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_blocks(xp, monkeypatch):
    x, labels, _ = problem("sfda", 12, [400, 310, 60])
    monkeypatch.setattr(ArrayShared, "block_rows", lambda self: 97)
    for name in ("sfda", "gbc", "transrate", "logme"):
        compare(xp, name, x, labels, "float64", {})


def test_shared_between_metrics(xp):
    x, labels, _ = problem("", 12, [40, 31, 60])
    shared = share(xp, x, labels, "float64")
    for name in ("transrate", "logme", "sfda", "hscore"):
        metric = metrics.get(name)(labels, dtype="float64")
        assert abs(metric(None, shared=shared) - metric(x)) <= 1e-9 * abs(metric(x))


def test_errors_as_native(xp):
    x, labels, _ = problem("", 12, [40, 31, 60])
    x[7, 3] = np.nan
    with pytest.raises(lf.errors.InputError, match="row 7"):
        share(xp, x, labels, "float32")
    with pytest.raises(lf.errors.InputError, match="overflow"):
        share(xp, np.full((131, 4), 1e30), labels, "float32")
    with pytest.raises(lf.errors.InputError, match="constant"):
        metrics.get("nleep")(labels)(None, shared=share(xp, np.ones((131, 4)), labels, "float32"))


@pytest.fixture
def on_gpu(monkeypatch):
    """The whole way of an array on a GPU, with the stand-in for CuPy and no native module."""
    monkeypatch.setattr("lead_fast.backend.cuda", lambda: None)
    monkeypatch.setattr("lead_fast.backend.devices", lambda: ["cpu", "cuda:0"])
    monkeypatch.setattr(
        "lead_fast.backend.device_number", lambda device: None if device in (None, "cpu") else 0
    )
    with strict_cupy.installed() as cupy:
        yield cupy


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("name", SINGLE)
def test_from_score_to_device_and_back(on_gpu, name):
    x, labels, options = problem(name, 12, [40, 31, 60])
    expected = lf.score(x, labels, name, **options)
    limit = 1e-3 * abs(expected)
    assert abs(lf.score(on_gpu.asarray(x), labels, name, **options) - expected) <= limit
    scorer = lf.Scorer(on_gpu.asarray(labels), name, device="cuda", **options)
    assert scorer.device == "cuda:0"
    assert abs(scorer(x) - expected) <= limit
    assert abs(lf.score(on_gpu.asarray(x), labels, name, device="cpu", **options) - expected) == 0


def test_what_comes_beside_features_may_be_there(on_gpu, rng):
    x, labels, _ = problem("", 12, [40, 31, 60])
    there, reference = on_gpu.asarray(x), relu_features(labels, 12, seed=5)
    for name in ("ped", "dds"):
        expected = lf.score(x, labels, name, reference=reference)
        for given in (reference, on_gpu.asarray(reference)):
            for here in (x, there):
                found = lf.score(here, labels, name, reference=given)
                assert abs(found - expected) <= 1e-4 * abs(expected)
    source = rng.random((len(x), 5))
    for name in ("leep", "nce"):
        expected = lf.score(x, labels, name, source=source)
        assert lf.score(there, labels, name, source=on_gpu.asarray(source)) == expected


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_zoo_on_the_device(on_gpu):
    labels = class_labels([40, 31, 60])
    zoo = {f"model {i}": relu_features(labels, 12, seed=i, spread=i / 2) for i in range(3)}
    names = ["logme", "sfda", "etran"]
    found, expected = lf.rank(zoo, labels, names, device="cuda"), lf.rank(zoo, labels, names)
    assert found.device == "cuda:0"
    for name in names:
        for model, score in expected.rankings[name].scores.items():
            assert abs(found.rankings[name].scores[model] - score) <= 1e-4


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("broken", [False, True])
def test_a_zoo_is_sent_ahead(on_gpu, tmp_path, monkeypatch, broken):
    labels, sent, scored, brought = class_labels([40, 31, 60]), [], [], []
    for i in range(3):
        x = relu_features(labels, 12, seed=i, spread=i / 2)
        np.savez(tmp_path / f"m{i}.npz", features=x, labels=labels)
    upload, work = Uploads.__call__, Work.score

    def watched(self, features):
        if broken:
            raise MemoryError("no memory for it")
        sent.append(upload(self, features))
        return sent[-1]

    def watched_too(self, read, *rest):
        scored.append(read.there)
        return work(self, read, *rest)

    monkeypatch.setattr(Uploads, "__call__", watched)
    monkeypatch.setattr(Work, "score", watched_too)
    monkeypatch.setattr("lead_fast.zoo.runner.bring_in", lambda features: brought.append(features))
    found = lf.rank(tmp_path, metric="logme", device="cuda")
    assert len(scored) == 3 and scored == (3 * [None] if broken else sent)
    assert len(brought) == (3 if broken else 0)
    for model, score in lf.rank(tmp_path, metric="logme").scores.items():
        assert abs(found.scores[model] - score) <= 1e-4
    assert len(scored) == 6 and scored[3:] == 3 * [None]


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_scored_on_the_cpu_from_what_is_on_the_host(on_gpu, monkeypatch):
    labels = class_labels([40, 31, 60])
    zoo = {"m": relu_features(labels, 12, seed=1)}
    kind = metrics.get("logme")
    evaluate = kind.evaluate

    def full(self, shared):
        if not shared.native:
            raise DeviceMemoryError("wanted 9 bytes, free 8")
        return evaluate(self, shared)

    monkeypatch.setattr(kind, "evaluate", full)
    with pytest.warns(ScoreWarning, match="scored on the CPU, wanted 9 bytes"):
        found = lf.rank(zoo, labels, "logme", device="cuda")
    assert found.scores == lf.rank(zoo, labels, "logme").scores


def test_the_stand_in_refuses():
    with strict_cupy.installed() as cupy:
        a = cupy.asarray(np.arange(3.0))
        for wrong in (
            lambda: np.log(a), lambda: a + np.ones(3), lambda: np.ones(3) * a,
            lambda: np.asarray(a), lambda: a[np.arange(2)], lambda: cupy.log(np.ones(3)),
            lambda: np.concatenate([a, a]),
        ):  # fmt: skip
            with pytest.raises((TypeError, IndexError)):
                wrong()
        with pytest.raises(AttributeError):
            cupy.add  # noqa: B018
        assert float(np.float64(2) * a[1]) == 2.0


def test_cupy_has_what_the_stand_in_has():
    with strict_cupy.installed() as stand_in:
        names = [n for n in vars(stand_in) if not n.startswith("_")]
    cupy = pytest.importorskip("cupy")
    assert [n for n in names if not hasattr(cupy, n)] == []
