"""Features on their way to a GPU, through pinned memory."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import gpu
import numpy as np
import pytest

import lead_fast as lf
from lead_fast import backend
from lead_fast.device import Place, _library
from lead_fast.errors import InputError
from lead_fast.features import Features
from lead_fast.zoo.formats import read_array
from lead_fast.zoo.upload import Uploads

pytestmark = pytest.mark.gpu

# Bytes of a piece and threads: many pieces for each, fewer pieces than threads, one piece.
CUTS = [(1000, 3), (1 << 16, 8), (1 << 22, None)]


@pytest.fixture(params=gpu.LIBRARIES)
def place(request):
    gpu.library(request.param)
    return Place(_library(request.param), 0)


@pytest.mark.parametrize(("piece", "threads"), CUTS)
def test_upload_is_a_copy(place, rng, tmp_path, piece, threads):
    send = Uploads(place, piece, threads)
    for dtype in ("float16", "float32", "float64"):
        x = rng.standard_normal((701, 129)).astype(dtype)
        np.save(tmp_path / "x.npy", x)
        mapped = read_array(tmp_path / "x.npy", None)
        for host in (x, x[::-1], x[::3, 5:], x[:1], x[:, :1], mapped, mapped[7:]):
            found = send(host)
            assert found.dtype == dtype and found.shape == host.shape
            assert np.array_equal(gpu.get(found.array), host)
    bits = rng.integers(0, 0x4700, (300, 40)).astype(np.uint16)
    found = send(Features(bits, "bfloat16"))
    assert found.dtype == "bfloat16" and found.shape == (300, 40)
    labels, head = np.arange(300) % 3, lf.Head(40, 3, device="cuda")
    expected = lf.class_rates(place.upload(bits, "bfloat16"), labels, head)
    np.testing.assert_array_equal(lf.class_rates(found, labels, head), expected)


def test_memory_is_used_again_and_given_back(place, rng):
    send = Uploads(place)
    for _ in range(3):
        for rows in (5000, 20_000, 40_001):
            x = rng.standard_normal((rows, 512)).astype(np.float32)
            for _ in range(3):
                found = send(x)
                assert np.array_equal(gpu.get(found.array), x)
                del found
        send.release()


def test_the_callers_stream_is_neither_waited_for_nor_kept_waiting(rng):
    torch = gpu.library("torch")
    x, other = rng.standard_normal((20_000, 512)).astype(np.float32), torch.cuda.Stream()
    send = Uploads(Place(_library("torch"), 0))

    def total():
        found = send(x)
        with torch.cuda.stream(other):
            return found.array.double().sum().item()  # complete on return, for any stream

    first, awake = total(), torch.cuda.Event()  # what is made once, for which streams are waited
    torch.cuda._sleep(6_000_000_000)  # three seconds
    awake.record()
    x += 1
    second = total()
    assert not awake.query()
    torch.cuda.synchronize()
    assert abs(second - first - x.size) <= 1e-3 * x.size


def test_a_file_that_has_become_shorter(place, tmp_path):
    x = np.ones((5000, 600))
    np.save(path := tmp_path / "x.npy", x)
    mapped = read_array(path, None)
    os.truncate(path, x.nbytes // 2)
    send = Uploads(place)
    with pytest.raises(InputError, match="has become shorter"):
        send(mapped)
    assert np.array_equal(gpu.get(send(x).array), x)


def test_threads_leave_the_device_as_it_was(place):
    before = backend.cuda().current_device()
    Uploads(place)(np.ones((500, 4)))
    assert backend.cuda().current_device() == before


def _in_child(native, x, address, queue):
    try:
        native.upload(-1, x.ctypes.data, len(x), 1, 1, address)
    except RuntimeError as error:
        queue.put(str(error))
    native.release()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_frees_nothing(place, rng):
    x = rng.integers(0, 256, 100_000).astype(np.uint8)
    target = place.empty((len(x),), "uint8")
    address = target.memory()[0]
    native = backend.cuda().Uploader(0, 3, 1000)
    native.upload(-1, x.ctypes.data, len(x), 1, 1, address)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(native, x, address, queue))
    child.start()
    try:
        assert "spawn" in queue.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    x += 1
    native.upload(-1, x.ctypes.data, len(x), 1, 1, address)
    assert np.array_equal(gpu.get(target.array), x)


ENDLESS = """
import threading
import numpy as np
from lead_fast.device import resolve
from lead_fast.zoo.upload import Uploads
send, x, begun = Uploads(resolve("cuda")), np.ones((40_000, 2048), np.float32), threading.Event()
def run():
    try:
        while True:
            send(x)
            begun.set()
    except RuntimeError:  # the process is ending
        pass
threading.Thread(target=run, daemon=True).start()
assert begun.wait(60)
"""


def test_a_process_ends_while_it_uploads():
    gpu.library("cupy")
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", ENDLESS],
            env={**os.environ, "PYTHONPATH": str(Path(lf.__file__).parents[1])},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
