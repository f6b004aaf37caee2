"""Reading arrays out of files: the right bytes from good files, one clear line for bad ones."""

import io
import json
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from lead_fast.errors import InputError
from lead_fast.features import Features
from lead_fast.zoo import formats
from lead_fast.zoo.formats import array_names, read_array


def npy_bytes(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(path, message, name="features"):
    """The message with which a file is refused: one line that names the file."""
    with pytest.raises(InputError, match=message) as caught:
        read_array(path, name)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(6, dtype=np.float16).reshape(3, 2),
    np.arange(5, dtype=">i4"),
    np.array(["cat", "dog", "ü"]),
    np.empty((0, 7), np.float32),
    np.empty((4, 0), np.float32),
    np.array(3.5),
    np.array([True, False]),
]
ids = [f"{a.dtype.str}-{a.shape}" for a in ARRAYS]


@pytest.mark.parametrize("array", ARRAYS, ids=ids)
def test_npy(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    read = read_array(tmp_path / "a.npy", "features")
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)
    assert read.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", ARRAYS, ids=ids)
def test_npz(tmp_path, array, save):
    save(tmp_path / "a.npz", other=np.zeros(3), features=array)
    read = read_array(tmp_path / "a.npz", "features")
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)
    assert read.flags.f_contiguous == array.flags.f_contiguous
    assert read.flags.aligned
    assert array_names(tmp_path / "a.npz") == ["other", "features"]


def test_npy_is_mapped_and_read_only(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    read = read_array(tmp_path / "a.npy", "features")
    assert isinstance(read, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_safetensors_as_its_library_writes_them(tmp_path, dtype):
    library = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    features = (100 * rng.standard_normal((7, 5))).astype(dtype)
    labels = np.arange(7, dtype=np.int16)
    path = tmp_path / "a.safetensors"
    library.save_file({"labels": labels, "features": features}, path, metadata={"by": "a test"})
    read = read_array(path, "features")
    assert read.dtype == features.dtype
    assert np.array_equal(read, features)
    assert read.flags.aligned
    assert np.array_equal(read_array(path, "labels"), labels)
    assert sorted(array_names(path)) == ["features", "labels"]


def test_safetensors_bfloat16(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    values = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    library.save_file({"features": values}, tmp_path / "a.safetensors")
    read = read_array(tmp_path / "a.safetensors", "features")
    assert isinstance(read, Features)
    assert read.dtype == "bfloat16"
    assert read.shape == (7, 5)
    bits = np.asarray(read.data)
    assert bits.dtype == np.uint16
    assert np.array_equal(bits.view(ml_dtypes.bfloat16).astype(np.float32), values.float().numpy())


def test_safetensors_at_odd_addresses(tmp_path):
    # One byte in front of it puts the second tensor where float32 may not lie.
    values = np.arange(4, dtype="<f4")
    header = {
        "one": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "features": {"dtype": "F32", "shape": [2, 2], "data_offsets": [1, 17]},
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(header, b"x" + values.tobytes()))
    read = read_array(path, "features")
    assert read.flags.aligned
    assert np.array_equal(read, values.reshape(2, 2))


def cuts(size):
    """Lengths to truncate a file to: all near both ends, some between."""
    near = range(min(size, 24)), range(max(0, size - 24), size), range(0, size, 37)
    return sorted({length for some in near for length in some})


def write_each_format(folder):
    features = np.arange(60, dtype=np.float32).reshape(12, 5)
    np.save(folder / "a.npy", features)
    np.savez(folder / "b.npz", features=features)
    np.savez_compressed(folder / "c.npz", features=features)
    header = {"features": {"dtype": "F32", "shape": [12, 5], "data_offsets": [0, 240]}}
    (folder / "d.safetensors").write_bytes(safetensors_bytes(header, features.tobytes()))
    return features


@pytest.mark.parametrize("name", ["a.npy", "b.npz", "c.npz", "d.safetensors"])
def test_truncated_anywhere(tmp_path, name):
    features = write_each_format(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    assert np.array_equal(read_array(path, "features"), features)
    for length in cuts(len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "truncated|damaged")


@pytest.mark.parametrize("name", ["a.npy", "d.safetensors"])
def test_longer_than_its_header_says(tmp_path, name):
    write_each_format(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "damaged")


@pytest.mark.parametrize("name", ["a.npy", "b.npz", "c.npz", "d.safetensors"])
def test_flipped_bytes_never_crash(tmp_path, name):
    """Damage is refused, or lies in bytes that carry no structure (and, in .npz, no data)."""
    features = write_each_format(tmp_path)
    path = tmp_path / name
    whole = bytearray(path.read_bytes())
    refusals = 0
    for at in range(0, len(whole), 3):
        damaged = whole.copy()
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read = read_array(path, "features")
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
        else:
            assert np.asarray(read).nbytes == features.nbytes
            if name.endswith(".npz"):
                assert np.array_equal(read, features)
    assert refusals >= 5


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_are_never_opened(tmp_path):
    trap = tmp_path / "opened"
    objects = np.array([Bomb(trap)], dtype=object)
    (tmp_path / "a.npy").write_bytes(npy_bytes(objects, allow_pickle=True))
    refused(tmp_path / "a.npy", "pickled Python objects, which are never opened")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("features.npy", npy_bytes(objects, allow_pickle=True))
    refused(tmp_path / "b.npz", "pickled Python objects, which are never opened")
    for name in ("c.npy", "d.npz", "e.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(trap)))
        refused(tmp_path / name, "truncated|damaged")
    assert not trap.exists()


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "dir.npy").mkdir()
    for name in ("no.npy", "no.npz", "no.safetensors"):
        refused(tmp_path / name, "No such file")
    refused(tmp_path / "dir.npy", "not a regular file")
    (tmp_path / "a.pkl").write_bytes(b"")
    refused(tmp_path / "a.pkl", r"give one of \.npy, \.npz, \.safetensors")


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "not a regular file")


def test_absent_array_names_those_that_are_there(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(2), labels=np.zeros(2))
    refused(tmp_path / "a.npz", "no array named 'features'; it holds 'x', 'labels'")
    header = {"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(header, b"x"))
    refused(tmp_path / "a.safetensors", "no array named 'features'; it holds 'x'")
    (tmp_path / "b.safetensors").write_bytes(safetensors_bytes({}))
    refused(tmp_path / "b.safetensors", "it holds none")


def test_bfloat16_in_npy_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2), ml_dtypes.bfloat16))
    refused(tmp_path / "a.npy", "cannot record bfloat16")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 2), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2), }",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 2), }",
        b"{'descr': '<f4', 'shape': (2, 2), }",
        b"__import__('os').mkdir('opened')",
        b"(" * 500,
        b"'" * 3,
    ],
)
def test_hostile_npy_headers(tmp_path, header, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header += b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    (tmp_path / "a.npy").write_bytes(data)
    refused(tmp_path / "a.npy", "truncated|damaged")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", data)
    refused(tmp_path / "a.npz", "truncated|damaged")
    assert not (tmp_path / "opened").exists()


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "not an object"),
        (b"nonsense", "damaged safetensors header"),
        (b"\xff\xff", "damaged safetensors header"),
        (b'{"a":' * 50_000, "damaged safetensors header"),
        (b'{"features": 3}', "incomplete entry"),
        (b'{"features": {"dtype": "F32"}}', "incomplete entry"),
        (b'{"f": {"dtype":"F32","shape":[4],"data_offsets":[0,16]}, "f": 1}', "names f twice"),
        ({"features": entry(shape=(2, -2))}, "wrong types"),
        ({"features": entry(shape=(2, 2.0))}, "wrong types"),
        ({"features": entry(shape=(4, True))}, "wrong types"),
        ({"features": entry(dtype=4)}, "wrong types"),
        ({"features": entry(offsets=(0, 16, 16))}, "incomplete entry"),
        ({"features": entry(shape=(2**40, 2**40))}, "truncated"),
        ({"features": entry(shape=(2, 1))}, "damaged"),
        ({"features": entry(offsets=(16, 0))}, "truncated"),
        ({"features": entry(dtype="F8_E4M3", offsets=(16, 0))}, "overlap or leave holes"),
        ({"features": entry(shape=(1, 2), offsets=(8, 16))}, "overlap or leave holes"),
        ({"features": entry(), "b": entry()}, "overlap or leave holes"),
        ({"features": entry(shape=(2, 1), offsets=(0, 8))}, "damaged"),
        ({"features": entry(dtype="F8_E4M3")}, "dtype F8_E4M3 cannot be read"),
    ],
)
def test_hostile_safetensors_headers(tmp_path, header, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(header, bytes(16)))
    refused(path, message)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 100_000_001, 25])
def test_safetensors_header_length(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(14))
    refused(path, f"a header of {length} bytes in a file of 24")


@pytest.mark.parametrize("library", ["zlib", "zlib_ng.zlib_ng"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_checksums_of_archives(tmp_path, monkeypatch, rng, save, library):
    monkeypatch.setattr(formats, "crc32", pytest.importorskip(library).crc32)
    x = np.asfortranarray(rng.random((700, 300)))  # more than a piece
    path = tmp_path / "m.npz"
    save(path, features=x, empty=np.zeros((0, 3)), labels=np.arange(700))
    for name, expected in {"features": x, "empty": np.zeros((0, 3))}.items():
        found = read_array(path, name)
        assert np.array_equal(found, expected)
        assert found.flags.f_contiguous == expected.flags.f_contiguous
    whole = path.read_bytes()
    for place in (len(whole) // 3, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"m\.npz.*(damaged|truncated)"):
            read_array(path, "features")
        assert np.array_equal(read_array(path, "labels"), np.arange(700))


def test_archives_behind_other_bytes(tmp_path, rng):
    """As self-extracting archives have them: all places in the file are moved."""
    x = rng.random((40, 30))
    np.savez(tmp_path / "plain.npz", features=x)
    path = tmp_path / "m.npz"
    path.write_bytes(b"#!/bin/sh" + (tmp_path / "plain.npz").read_bytes())
    assert np.array_equal(read_array(path, "features"), x)
