"""The native loop that uploads: its threads, its pieces and its failures, with the CPU's sender."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lead_fast as lf
from lead_fast import backend

GUARD = 64  # bytes beside the target that must stay as they are


def made(threads=3, piece=100):
    return backend.cpu().HostUploader(0, threads, piece)


class Target:
    """Memory to upload to, with a fence at either end."""

    def __init__(self, count):
        self._memory = np.full(count + 2 * GUARD, 0xAB, np.uint8)
        self.bytes = self._memory[GUARD : GUARD + count]
        self.address = self.bytes.ctypes.data

    def check(self, expected):
        assert np.array_equal(self.bytes, expected)
        assert (self._memory[:GUARD] == 0xAB).all() and (self._memory[-GUARD:] == 0xAB).all()


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("count", [0, 1, 7, 63, 64, 65, 1001])
def test_bytes_of_memory_and_of_a_file(rng, tmp_path, count, piece, threads):
    x, up = rng.integers(0, 256, count + 1, np.uint8), made(threads, piece)
    (path := tmp_path / "x").write_bytes(x.tobytes())
    with open(path, "rb") as file:
        for source in ((-1, x.ctypes.data + 1), (file.fileno(), 1)):
            target = Target(count)
            up.upload(*source, count, 1, 1, target.address)
            target.check(x[1:])
            pieces = -(-count // piece)
            assert (up.used, up.sent) == (min(threads, pieces), pieces)


@pytest.mark.parametrize("piece", [1, 24, 100, 1 << 20])
@pytest.mark.parametrize("step", [1, 3, -1, -2])
@pytest.mark.parametrize("width", [1, 5, 60])
def test_rows_with_gaps(rng, width, step, piece):
    x = rng.integers(0, 256, (41, 61), np.uint8)[::step, :width]
    target = Target(x.size)
    made(3, piece).upload(-1, x.ctypes.data, len(x), x.strides[0], width, target.address)
    target.check(x.ravel())


def test_a_thread_fills_one_piece_while_the_other_is_on_its_way(rng):
    x = rng.integers(0, 256, 1000, np.uint8)
    for piece, together in ((1000, 0), (500, 2), (10, 2)):
        up, target = made(1, piece), Target(1000)
        up.upload(-1, x.ctypes.data, 1000, 1, 1, target.address)
        target.check(x)
        assert up.together == together


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("fail_at", [0, 1, 9, 39])
def test_a_failure_of_one_thread_is_everybodys(threads, fail_at):
    x, up, target = np.ones(4000, np.uint8), made(threads), Target(4000)
    up.fail_at = fail_at
    with pytest.raises(RuntimeError, match="the bus is off"):
        up.upload(-1, x.ctypes.data, 4000, 1, 1, target.address)
    # Every piece that was sent is there as a whole, and the rest as it was.
    pieces = target.bytes.reshape(40, 100)
    sent = (pieces == 1).all(axis=1)
    assert (sent | (pieces == 0xAB).all(axis=1)).all()
    assert fail_at <= sent.sum() == up.sent - 1 < 40
    up.fail_at = -1
    up.upload(-1, x.ctypes.data, 4000, 1, 1, target.address)
    target.check(x)


def test_a_failure_stops_the_other_threads():
    x, up, target = np.ones(1 << 21, np.uint8), made(4, 1), Target(1 << 21)
    up.fail_at = 3
    with pytest.raises(RuntimeError, match="the bus is off"):
        up.upload(-1, x.ctypes.data, len(x), 1, 1, target.address)
    assert up.sent < len(x)


@pytest.mark.parametrize("left", [0, 1, 550, 999])
@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_a_file_that_ends_too_early(tmp_path, piece, left):
    (path := tmp_path / "x").write_bytes(bytes(left))
    target = Target(1000)
    with open(path, "rb") as file, pytest.raises(EOFError, match="shorter"):
        made(3, piece).upload(file.fileno(), 0, 1000, 1, 1, target.address)


def test_a_file_that_cannot_be_read(tmp_path):
    folder, target = os.open(tmp_path, os.O_RDONLY), Target(1000)
    try:
        with pytest.raises(IsADirectoryError):
            made().upload(folder, 0, 1000, 1, 1, target.address)
    finally:
        os.close(folder)


def test_wrong_arguments():
    for threads, piece in ((0, 1), (1, 0), (-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="no threads, or pieces of nothing"):
            made(threads, piece)
    target = Target(4)
    here = target.address
    for wrong in ((-1, 0, 1, 1, 1, here), (-1, here, -1, 1, 1, here), (-1, here, 1, 1, 1, 0)):
        with pytest.raises(ValueError, match="no rows, or no memory"):
            made().upload(*wrong)


def test_one_upload_at_a_time_and_release_beside_it(rng):
    x, up = rng.integers(0, 256, (8, 100_000), np.uint8), made(2, 1000)
    targets = [Target(x.shape[1]) for _ in x]

    def send(row, target):
        up.upload(-1, row.ctypes.data, len(row), 1, 1, target.address)

    threads = [threading.Thread(target=send, args=pair) for pair in zip(x, targets, strict=True)]
    for thread in threads:
        thread.start()
        up.release()
    for thread in threads:
        thread.join()
    for row, target in zip(x, targets, strict=True):
        target.check(row)


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(lf.__file__).parents[1])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


# Uploads in a thread that nobody waits for, each of some 100 ms; goes on while one is under way.
ENDLESS = """
import threading, time
import numpy as np
from lead_fast import backend
cpu = backend.cpu()
up, x, y = cpu.HostUploader(0, 2, 1), np.ones(1 << 23, np.uint8), np.ones(1 << 23, np.uint8)
why = []
def send():
    try:
        while True:
            up.upload(-1, x.ctypes.data, len(x), 1, 1, y.ctypes.data)
    except BaseException as error:
        why.append(error)
thread = threading.Thread(target=send, daemon=True)
thread.start()
while up.sent < 1000:
    time.sleep(0.001)
"""


def test_a_process_ends_while_it_uploads():
    for _ in range(3):
        done = run_python(ENDLESS)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_ends_has_its_uploads_stop():
    code = f"""{ENDLESS}
cpu.stop_uploads(30.0)
thread.join(30.0)
print(up.sent < len(x), *why)
try:
    up.upload(-1, x.ctypes.data, len(x), 1, 1, y.ctypes.data)
except RuntimeError as error:
    print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    text = "upload: the process is ending\n"
    assert done.stdout == f"True {text}{text}"
