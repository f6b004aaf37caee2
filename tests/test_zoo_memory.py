"""Memory that a zoo's files are read into, and their way to a GPU."""

import contextlib
import gc
import importlib
import os
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import strict_cupy
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast.device import Place, _library
from lead_fast.errors import InputError
from lead_fast.features import Features
from lead_fast.zoo import formats, runner, upload
from lead_fast.zoo.ahead import Read, bring_in, check_map
from lead_fast.zoo.buffers import Buffers
from lead_fast.zoo.formats import read_array
from lead_fast.zoo.upload import Uploads
from lead_fast.zoo.work import ScorerPerLabels, Work


def test_memory_is_used_again_when_nobody_refers_to_it():
    buffers = Buffers()
    first = buffers.empty((50, 4), "<f4")
    first[:] = 1.0
    address, row = first.ctypes.data, first[3]
    del first
    second = buffers.empty((50, 4), "<f4")  # a view of the first lives on
    second[:] = 2.0
    assert second.ctypes.data != address and (row == 1.0).all()
    del row
    third = buffers.empty((10, 7), np.float16, "F")
    assert third.ctypes.data == address
    assert third.flags.f_contiguous and third.flags.writeable and third.flags.aligned


def test_what_is_too_small_is_given_back():
    sizes = []

    def allocate(count):
        sizes.append(count)
        return np.empty(count, np.uint8)

    buffers = Buffers(allocate)
    for rows in (10, 30, 20, 30):
        buffers.empty((rows, 2), np.float64)
    assert sizes == [160, 480]
    assert [len(memory) for memory, _ in buffers._held] == [480]
    first = buffers.empty((5, 2), np.float64)
    second = buffers.empty((6, 2), np.float64)
    assert sizes == [160, 480, 96]  # two at a time
    del first, second
    assert buffers.empty((6, 2), np.float64).nbytes == 96 and len(sizes) == 3
    assert len(buffers._held) == 2
    three = [buffers.empty((rows, 2), np.float64) for rows in (6, 6, 6)]
    del three
    assert buffers.empty((6, 2), np.float64).nbytes == 96
    assert len(buffers._held) == 2  # the third is given back
    assert buffers.empty((0, 2), np.float64).shape == (0, 2)
    assert buffers.empty((), np.float64).shape == ()


def test_of_what_is_spare_the_largest_is_kept():
    sizes = []
    buffers = Buffers(lambda count: sizes.append(count) or np.empty(count, np.uint8))
    three = [buffers.empty((count,), np.uint8) for count in (100, 200, 50)]
    del three
    small, large = (buffers.empty((count,), np.uint8) for count in (50, 150))
    assert (small.size, large.size) == (50, 150)
    assert sizes == [100, 200, 50]


@contextlib.contextmanager
def without_collector():
    """Memory that only a collector of cycles would free is not freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def heads(monkeypatch):
    """Of every head that is drawn its width, a weak reference, and how many there are then."""
    found = []

    class Watched(lf.Head):
        def __init__(self, d, *args):
            super().__init__(d, *args)
            there = 1 + sum(head() is not None for _, head, _ in found)
            found.append((d, weakref.ref(self), there))

    monkeypatch.setattr(importlib.import_module("lead_fast.lead"), "Head", Watched)
    return found


@pytest.mark.parametrize("repeats", [1, 2])
def test_heads_of_few_widths_are_kept_and_none_after_the_ranking(heads, repeats):
    labels = class_labels([30, 30])
    widths = [*range(3, 13), 12, 9]
    zoo = {f"m{at}": relu_features(labels, d, seed=at, spread=0.5) for at, d in enumerate(widths)}
    with without_collector():
        lf.rank(zoo, labels, hidden=(5,), repeats=repeats)
        assert all(head() is None for _, head, _ in heads)
    assert max(there for *_, there in heads) == 4 + (repeats > 1)
    assert len(heads) == 10 + 12 * (repeats - 1)  # the last two widths were kept


def test_a_head_that_is_used_is_the_last_to_go(heads):
    labels = class_labels([20, 20])
    scorer = lf.Scorer(labels, hidden=(5,))
    for width, keep in [(3, 1), (4, 1), (5, 1), (6, 1), (3, 0), (7, 1), (3, 1), (8, 0), (6, 1)]:
        scorer(relu_features(labels, width, seed=1, spread=0.5), keep=bool(keep))
    assert [width for width, *_ in heads] == [3, 4, 5, 6, 7, 8]


def test_one_scorer_at_a_time():
    class Made:
        def __init__(self, labels):
            assert not found or found[-1]() is None
            found.append(weakref.ref(self))

    found = []
    with without_collector():
        scorers = ScorerPerLabels(Made)
        for labels in ([0, 1], [0, 1], [1, 0]):
            scorers(np.array(labels))
    assert len(found) == scorers.made == 2


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore::lead_fast.errors.SaturationWarning")
@pytest.mark.parametrize(
    "name", ["logme", "gbc", "nleep", "sfda", "ped", "lead+", "parc", "pactran", "hscore", "lead"]
)
@pytest.mark.parametrize("bad", [False, True], ids=["good", "NaN"])
def test_a_zoo_is_read_into_two_buffers(tmp_path, monkeypatch, name, bad):
    """Whatever keeps a model's features would show in buffers that are made anew."""
    labels = class_labels([30, 30])
    models = {f"m{i}": relu_features(labels, 6, seed=i, spread=0.5) for i in range(6)}
    for model, x in models.items():
        x[3, 2] = np.nan if bad else 0.0
        np.savez(tmp_path / f"{model}.npz", features=x, labels=labels)
    sizes, init = [], Buffers.__init__

    def watched(self):
        init(self, lambda count: sizes.append(count) or np.empty(count, np.uint8))

    monkeypatch.setattr(Buffers, "__init__", watched)
    options = {"n_per_class": 1} if name == "nleep" else {}
    with without_collector():
        found = lf.rank(tmp_path, metric=name, **options)
    assert (len(found.failed) == 6) == bad and len(found.scores) == (0 if bad else 6)
    assert len(sizes) in (1, 2)  # one where scoring is done before the next is read
    if not bad:
        assert found.scores == lf.rank(models, labels, name, **options).scores


@pytest.fixture
def place():
    with strict_cupy.installed():
        yield Place(_library("cupy"), 0)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_upload_is_a_copy(place, rng, dtype, piece, threads):
    send = Uploads(place, piece, threads)
    for shape in ((37, 5), (1, 3), (64, 2), (9, 1)):
        x = rng.standard_normal(shape).astype(dtype)
        for host in (x, np.asfortranarray(x), x[:, ::-1], x[::-1], x[::2], x[:, 1:]):
            if host.size:
                found = send(host)
                assert found.dtype == dtype and found.shape == host.shape
                assert np.array_equal(found.array.get(), host)


def test_upload_of_bfloat16_and_lists(place):
    bits = np.arange(12, dtype=np.uint16).reshape(4, 3)
    for kept in (bits, bits[:, 1:]):
        found = Uploads(place)(Features(kept, "bfloat16"))
        assert found.dtype == "bfloat16" and np.array_equal(found.array.get(), kept)
    assert np.array_equal(Uploads(place)([[1, 2], [3, 4]]).array.get(), [[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture
def read(place, monkeypatch):
    """What was uploaded from, once per upload: "array" or "file"."""
    found, made = [], upload.native_uploader

    class Watched:
        def __init__(self, *args):
            self._native = made(*args)

        def upload(self, file, *rest):
            found.append("array" if file < 0 else "file")
            self._native.upload(file, *rest)

    monkeypatch.setattr(upload, "native_uploader", Watched)
    return found


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("kind", ["npy", "one row", "safetensors", "bfloat16"])
def test_of_a_mapped_file_the_file_is_read(place, rng, tmp_path, read, kind, piece):
    x = rng.standard_normal((1 if kind == "one row" else 37, 5)).astype(np.float32)
    if kind in ("npy", "one row"):
        np.save(path := tmp_path / "x.npy", x)
        host = read_array(path, None)
    else:
        path = tmp_path / "x.safetensors"
        torch = pytest.importorskip("torch")
        save_file = pytest.importorskip("safetensors.torch").save_file
        kept = torch.from_numpy(x)
        kept = kept.to(torch.bfloat16) if kind == "bfloat16" else kept
        save_file({"before": torch.ones(3), "features": kept}, path)
        host = read_array(path, "features")
    found = Uploads(place, piece, 3)(host)
    if kind == "bfloat16":
        assert found.dtype == "bfloat16" and np.array_equal(found.array.get(), host.data)
    else:
        assert np.array_equal(found.array.get(), x)
    assert read == ["file"]


def test_what_is_not_as_in_the_file_is_copied(place, rng, tmp_path, read):
    x, path = rng.standard_normal((37, 6)).astype(np.float32), tmp_path / "x.npy"
    send = Uploads(place, 100, 2)
    for kept in (np.asfortranarray(x), x.astype(">f4"), (100 * x).astype(np.int16)):
        np.save(path, kept)
        assert np.array_equal(send(read_array(path, None)).array.get(), kept)
    np.save(path, x)
    mapped = read_array(path, None)
    for view in (mapped[5:], mapped[:, 2:], mapped[::-1], mapped.reshape(74, 3)):
        assert np.array_equal(send(view).array.get(), view)
    os.rename(path, tmp_path / "other.npy")
    assert np.array_equal(send(mapped).array.get(), x)
    np.save(path, x + 1)
    assert np.array_equal(send(mapped).array.get(), x)
    os.remove(path)
    os.mkfifo(path)
    assert np.array_equal(send(mapped).array.get(), x)
    assert read == 10 * ["array"]


def test_a_file_of_another_device_is_another(monkeypatch):
    found = set()
    for device, inode in ((7, 9), (8, 9), (7, 8), (7, 9)):
        state = SimpleNamespace(st_dev=device, st_ino=inode)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", lambda _, state=state: state)
            found.add(formats._identity(0))
    assert len(found) == 3


@pytest.mark.parametrize("left", [0, 500, 1000])
def test_a_file_that_has_become_shorter(place, tmp_path, left):
    np.save(path := tmp_path / "x.npy", np.ones((37, 6)))
    mapped = read_array(path, None)
    os.truncate(path, left)
    send = Uploads(place, 100, 2)
    with pytest.raises(InputError, match="has become shorter"):
        send(mapped)
    assert np.array_equal(send(np.ones((37, 6))).array.get(), np.ones((37, 6)))


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_map_of_a_file_that_has_become_shorter_is_not_touched(rng, tmp_path, kind):
    """Nothing here is larger than a page, which lets a process live that reads what is gone."""
    x = rng.standard_normal((9, 6)).astype(np.float32)
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, x)
    else:
        pytest.importorskip("safetensors.numpy").save_file({"a": x, "features": x}, path)
    mapped = read_array(path, "features")
    views = mapped, mapped[4:, 1:], mapped.T, Features(mapped.view(np.uint16), "bfloat16")
    for view in (*views, x, [[1.0]], np.array(mapped)):
        check_map(view)
    os.truncate(path, os.path.getsize(path) - 1)
    for view in views:
        with pytest.raises(InputError, match=f"x.{kind}: has become shorter since it was opened"):
            bring_in(view)

    def refused(features):
        raise InputError("features: their file has become shorter since it was opened")

    for uploads in (refused, lambda features: None):
        got = Read("m", features=mapped)
        runner._send(got, uploads)
        assert got.there is None and "has become shorter" in str(got.error)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")  # a = c
@pytest.mark.parametrize("before", ["read", "score"])
def test_a_file_that_is_cut_is_the_failure_of_its_model(tmp_path, monkeypatch, before):
    labels = class_labels([9, 9])
    for name in "abc":
        np.save(tmp_path / f"{name}_c_feature.npy", relu_features(labels, 4, seed=1, spread=0.5))
        np.save(tmp_path / f"{name}_c_label.npy", labels)
    path = tmp_path / "b_c_feature.npy"
    if before == "read":
        read = formats.read_array

        def cutting(file, *rest):
            found = read(file, *rest)
            if file == path:
                os.truncate(path, 200)
            return found

        monkeypatch.setattr(formats, "read_array", cutting)
    else:
        score = Work.score

        def cut(self, read, *rest):
            if read.model == "b":
                os.truncate(path, 200)
            return score(self, read, *rest)

        monkeypatch.setattr(Work, "score", cut)
    found = lf.rank(tmp_path, metric="parc")
    assert list(found.scores) == ["a", "c"]
    assert found.failed == {"b": f"{path}: has become shorter since it was opened"}


@pytest.fixture
def sent(monkeypatch):
    """Names of what is sent to a GPU that is not there, and "released"."""
    found = []

    class Watched:
        def __init__(self, place):
            assert place == "somewhere"

        def __call__(self, features):
            found.append(float(features[0, 0]))

        def release(self):
            found.append("released")

    monkeypatch.setattr(runner, "resolve", lambda device: "somewhere")
    monkeypatch.setattr(runner, "Uploads", Watched)
    return found


def test_what_is_stored_is_not_sent_and_memory_is_given_back(sent, tmp_path):
    labels = class_labels([9, 9])
    zoo = {f"m{at}": relu_features(labels, 4, seed=at, spread=0.5) for at in range(3)}
    for at, x in enumerate(zoo.values()):
        x[0, 0] = at  # its name
    for expected in ([0.0, 1.0, 2.0, "released"], ["released"]):
        lf.rank(zoo, labels, "parc", store=tmp_path / "runs.db")
        assert sent == expected
        sent.clear()


def test_memory_is_given_back_when_the_ranking_fails(sent, monkeypatch):
    labels = class_labels([9, 9])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Work, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lf.rank({"m": relu_features(labels, 4, seed=1)}, labels, "parc")
    assert sent[-1] == "released"


def test_memory_is_waited_for_before_it_is_written_to(place, monkeypatch):
    waited, made = [], upload.native_uploader

    class Watched:
        def __init__(self, *args):
            self._native = made(*args)

        def upload(self, *args):
            waited.append(send._stream.waited)
            self._native.upload(*args)

    monkeypatch.setattr(upload, "native_uploader", Watched)
    send = Uploads(place)
    for _ in range(2):
        send(np.ones((4, 3)))
    assert waited == [1, 2]


def test_what_is_large_or_there_stays_where_it_is(place, monkeypatch):
    x = np.ones((4, 3))
    send = Uploads(place)
    assert send(send(x)) is None
    with pytest.raises(lf.errors.InputError):
        send(np.ones(3))
    monkeypatch.setattr(type(place.library), "total_memory", lambda self, device: 8 * x.nbytes - 1)
    assert Uploads(place)(x) is None


def test_memory_of_the_stream_is_given_back(place):
    send = Uploads(place, threads=2)
    send.release()
    assert place.library.cupy.get_default_memory_pool().freed == []
    send(np.ones((4, 3)))
    stream = send._stream
    send.release()
    assert place.library.cupy.get_default_memory_pool().freed == [stream]
    assert send(np.ones((4, 3))).shape == (4, 3)
