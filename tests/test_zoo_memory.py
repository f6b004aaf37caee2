"""Memory that a zoo's files are read into, and their way to a GPU."""

import numpy as np
import pytest
import strict_cupy
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast.device import Place, _library
from lead_fast.features import Features
from lead_fast.zoo.buffers import Buffers
from lead_fast.zoo.upload import Uploads


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
    both = [buffers.empty((rows, 2), np.float64) for rows in (5, 6)]
    assert sizes == [160, 480, 96]  # two at a time
    del both
    assert buffers.empty((6, 2), np.float64).nbytes == 96 and len(sizes) == 3
    assert buffers.empty((0, 2), np.float64).shape == (0, 2)
    assert buffers.empty((), np.float64).shape == ()


def test_a_zoo_is_read_into_two_buffers(tmp_path, monkeypatch):
    labels = class_labels([20, 20])
    models = {f"m{i}": relu_features(labels, 6 + i % 2, seed=i) for i in range(6)}
    for name, x in models.items():
        np.savez(tmp_path / f"{name}.npz", features=x, labels=labels)
    made = []
    init = Buffers.__init__

    def watched(self):
        made.append(self)
        init(self, lambda count: made.append(count) or np.empty(count, np.uint8))

    monkeypatch.setattr(Buffers, "__init__", watched)
    found = lf.rank(tmp_path, metric="logme")
    assert found.scores == lf.rank(models, labels, "logme").scores
    counts = [one for one in made if isinstance(one, int)]
    assert 2 <= len(counts) <= 4  # the larger width may come last


@pytest.fixture
def place():
    with strict_cupy.installed():
        yield Place(_library("cupy"), 0)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_upload_is_a_copy(place, rng, dtype, piece, threads):
    upload = Uploads(place, piece, threads)
    for shape in ((37, 5), (1, 3), (64, 2)):
        x = rng.standard_normal(shape).astype(dtype)
        for host in (x, np.asfortranarray(x), x[:, ::-1]):
            found = upload(host)
            assert found.dtype == dtype and found.shape == shape
            assert np.array_equal(found.array.get(), host)


def test_upload_of_bfloat16_and_lists(place):
    bits = np.arange(12, dtype=np.uint16).reshape(4, 3)
    found = Uploads(place)(Features(bits, "bfloat16"))
    assert found.dtype == "bfloat16" and np.array_equal(found.array.get(), bits)
    assert np.array_equal(Uploads(place)([[1, 2], [3, 4]]).array.get(), [[1.0, 2.0], [3.0, 4.0]])


def test_what_is_large_or_there_stays_where_it_is(place, monkeypatch):
    x = np.ones((4, 3))
    upload = Uploads(place)
    there = upload(x)
    assert upload(there) is there
    monkeypatch.setattr(type(place.library), "total_memory", lambda self, device: 8 * x.nbytes - 1)
    assert upload(x) is x
