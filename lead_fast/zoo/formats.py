"""Arrays out of ``.npy``, ``.npz`` and ``.safetensors`` files that nobody vouches for.

Every number in a header is checked before it is used, and pickled objects are never opened.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import struct
import zipfile
import zlib

import numpy as np

try:
    from zlib_ng.zlib_ng import crc32  # the same, ten times as fast
except ImportError:
    from zlib import crc32

from .._text import one_line, unique_keys
from ..errors import InputError

ARCHIVES = (".npz", ".safetensors")
SUFFIXES = (".npy", *ARCHIVES)

_SAFETENSORS_MAX_HEADER = 100_000_000  # the limit of the safetensors library
_SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the bits; handed out as Features of dtype "bfloat16"
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
}


def read_array(path, name, empty=np.empty):
    """One array of a file.

    Parameters
    ----------
    path : path-like
        ``.npy`` (holds one array; memory-mapped), ``.npz`` (loaded, with its checksum verified) or
        ``.safetensors`` (memory-mapped).
    name : str
        Which array of an ``.npz`` or ``.safetensors`` file; an ``.npy`` file has no names.
    empty : callable
        Makes the array that is loaded into, as ``numpy.empty`` does.

    Returns
    -------
    ndarray or Features
        Read-only where memory-mapped; Features for bfloat16, without a copy. An array that lies in
        the file at an address its dtype may not have is copied.

    Raises
    ------
    InputError
        The file is missing, not a regular file, damaged, shorter or longer than its header says,
        holds Python objects, or has no such array.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1]
    if suffix == ".npy":
        with _regular_file(path) as file:
            return _read_npy(file, path)
    if suffix == ".npz":
        with _open_npz(path) as (archive, file):
            return _read_npz_member(archive, file, path, name, empty)
    if suffix == ".safetensors":
        return _read_tensor(path, name)
    raise InputError(f"{path}: cannot read this kind of file; give one of {', '.join(SUFFIXES)}")


def array_names(path):
    """Names of the arrays in an ``.npz`` or ``.safetensors`` file, in the order of the file."""
    path = os.fspath(path)
    if path.endswith(".npz"):
        with _open_npz(path) as (archive, _):
            return _npz_names(archive)
    with _regular_file(path) as file:
        return list(_safetensors_header(file, path)[0])


def read_integer(path, name):
    """An integer of no dimensions in an ``.npz`` file; None where that name holds nothing or else.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = os.fspath(path)
    with _open_npz(path) as (archive, file):
        names = _npz_names(archive)
        if name not in names:
            return None
        with archive.open(archive.namelist()[names.index(name)]) as stream:
            try:
                shape, _, dtype = _npy_header(stream, path)
            except InputError:  # whoever asks for that array will be told
                return None
        if shape != () or dtype.kind not in "iu":
            return None
        return int(_read_npz_member(archive, file, path, name, np.empty))


def read_metadata(path):
    """``{str: str}`` that a ``.safetensors`` file says about itself; empty for other files."""
    path = os.fspath(path)
    if not path.endswith(".safetensors"):
        return {}
    with _regular_file(path) as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > min(_SAFETENSORS_MAX_HEADER, os.fstat(file.fileno()).st_size):
            raise InputError(f"{path}: truncated, or not a safetensors file")
        found = _parse_json_header(file.read(length), path).get("__metadata__", {})
    if not isinstance(found, dict) or any(not isinstance(v, str) for v in found.values()):
        raise InputError(f"{path}: damaged safetensors header (metadata of wrong types)")
    return found


@contextlib.contextmanager
def _regular_file(path):
    """Open a file for reading; other OS errors than those of opening pass through as InputError."""
    try:
        # Opening a pipe would wait for a writer, so the kind of file is checked before.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: not a regular file")
        file = open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    with file:
        try:
            yield file
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error


# .npy


def _read_npy(file, path):
    size = os.fstat(file.fileno()).st_size
    shape, fortran_order, dtype = _npy_header(file, path)
    offset = file.tell()
    _check_size(path, shape, dtype, size - offset)
    return _map(file, dtype, shape, offset, order="F" if fortran_order else "C")


def _npy_header(file, where):
    """Shape, order and dtype of an ``.npy`` stream, which is left at the first byte of data."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"header version {version[0]}.{version[1]}, which only records have")
    except (OSError, zlib.error, zipfile.BadZipFile):
        raise
    except Exception as error:
        # NumPy parses the header as a Python literal; what can go wrong in that on hostile bytes
        # (tokenizer errors, recursion, memory) is more than ValueError.
        raise InputError(f"{where}: damaged, or not an .npy array ({one_line(error)})") from error
    shape, _, dtype = header
    if dtype.hasobject:
        raise InputError(
            f"{where}: holds pickled Python objects, which are never opened; "
            "save numbers, or strings with dtype=str"
        )
    if dtype.kind == "V" and dtype.names is None:
        raise InputError(
            f"{where}: holds {dtype.itemsize}-byte values of unknown meaning; .npy cannot record "
            "bfloat16, save it as .safetensors or as float32"
        )
    if any(n < 0 for n in shape):
        raise InputError(f"{where}: damaged, its header gives the shape {shape}")
    return header


def _check_size(where, shape, dtype, n_bytes):
    expected = math.prod(shape) * dtype.itemsize
    if expected != n_bytes:
        state = "truncated" if n_bytes < expected else "damaged"
        raise InputError(
            f"{where}: {state}, its header promises {expected} bytes of data and it has {n_bytes}"
        )


def _map(file, dtype, shape, offset, order="C"):
    if 0 in shape or dtype.itemsize == 0:
        return np.empty(shape, dtype, order)  # nothing to map
    mapped = np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)
    if not mapped.flags.aligned:
        return np.array(mapped, order=order)
    mapped.identity = _identity(file.fileno())
    return mapped


def _identity(descriptor):
    """What no other file has while this one is open or mapped."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def opened_again(array):
    """The file that an array of :func:`read_array` is a map of, for reading it instead.

    Yields
    ------
    file : (int, int) or None
        Descriptor, and offset of the array's first byte. None where there is none: of an array in
        memory, of a view of a map, and where another file has taken the place of the one mapped.
    """
    # NumPy hands its own attributes of a map on to views, of which they are wrong; not this one.
    identity = getattr(array, "identity", None)
    try:
        # Not to wait for a writer, should it be a pipe by now.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
        descriptor = -1 if identity is None else os.open(array.filename, flags)
    except OSError:
        descriptor = -1
    try:
        same = descriptor >= 0 and _identity(descriptor) == identity
        yield (descriptor, array.offset) if same else None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


# .npz


@contextlib.contextmanager
def _open_npz(path):
    with _regular_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive, file
        except (InputError, OSError, MemoryError):
            raise
        except Exception as error:
            # Damage surfaces in many kinds: BadZipFile, zlib.error, struct.error, EOFError,
            # RuntimeError (encrypted), NotImplementedError (unknown compression), ValueError.
            raise InputError(
                f"{path}: truncated, damaged or not an .npz file ({one_line(error)})"
            ) from error


def _npz_names(archive):
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _read_npz_member(archive, file, path, name, empty):
    names = _npz_names(archive)
    if name not in names:
        raise _missing_array(path, name, names)
    # NumPy stores arrays in a zip file unaligned, so mapping them would end in a copy as well.
    member = archive.getinfo(archive.namelist()[names.index(name)])
    where = f"{path}, array {name!r}"
    with archive.open(member) as stream:
        shape, fortran_order, dtype = _npy_header(stream, where)
        _check_size(where, shape, dtype, member.file_size - stream.tell())
        array = empty(shape, dtype, order="F" if fortran_order else "C")
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size:
            before = _go_to_data(file, member, stream.tell())
            if _fill(array, file, where, before) != member.CRC:
                raise InputError(f"{where}: damaged, its checksum is not the archive's")
        else:
            _fill(array, stream, where)  # which verifies its checksum
    return array


def _go_to_data(file, member, done):
    """Go to what follows `done` bytes of a stored member; the checksum of those.

    Reading the archive itself saves the copies that ``zipfile`` makes. Opening the member has
    checked its local header.
    """
    file.seek(member.header_offset)
    header = file.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    file.seek(member.header_offset + 30 + name + extra)
    return crc32(file.read(done))


def _fill(array, stream, where, checksum=None, chunk=1 << 22):
    """Read the bytes of `array` in pieces, so that no second copy of it exists meanwhile.

    Returns `checksum` continued over them, where one is given. Smaller pieces are no faster, and
    after each the interpreter's lock may have to be waited for.
    """
    target = memoryview(array.reshape(-1, order="A").view(np.uint8)) if array.nbytes else b""
    for start in range(0, len(target), chunk):
        piece = target[start : start + chunk]
        count = stream.readinto(piece)
        if count < len(piece):
            raise InputError(
                f"{where}: truncated, {start + count} of {len(target)} bytes of data are there"
            )
        if checksum is not None:
            checksum = crc32(piece, checksum)
    return checksum


# .safetensors: 8 bytes of header length (little-endian), a JSON header, the bytes of all tensors


def _read_tensor(path, name):
    with _regular_file(path) as file:
        tensors, start = _safetensors_header(file, path)
        if name not in tensors:
            raise _missing_array(path, name, tensors)
        code, shape, begin = tensors[name]
        if code not in _SAFETENSORS_DTYPES:
            raise InputError(
                f"{path}, array {name!r}: dtype {code} cannot be read; save it as F32, F16 or BF16"
            )
        array = _map(file, np.dtype(_SAFETENSORS_DTYPES[code]), shape, start + begin)
    if code == "BF16":
        from ..features import Features

        return Features(array, "bfloat16")
    return array


def _safetensors_header(file, path):
    """``{name: (dtype code, shape, first byte)}``, and where in the file the first byte 0 lies."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise InputError(f"{path}: truncated, shorter than a safetensors header")
    (length,) = struct.unpack("<Q", prefix)
    if length > _SAFETENSORS_MAX_HEADER or 8 + length > size:
        raise InputError(
            f"{path}: truncated, or not a safetensors file "
            f"(a header of {length} bytes in a file of {size})"
        )
    header = _parse_json_header(file.read(length), path)
    header.pop("__metadata__", None)
    tensors = {name: _tensor_entry(entry, name, path) for name, entry in header.items()}
    _check_ranges(tensors, size - 8 - length, path)
    return {name: entry[:3] for name, entry in tensors.items()}, 8 + length


def _parse_json_header(text, path):
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged safetensors header ({one_line(error)})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: damaged safetensors header (not an object)")
    return header


def _tensor_entry(entry, name, path):
    """``(dtype code, shape, begin, end)`` of one tensor, the types and the size checked."""
    where = f"{path}, array {name!r}"
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{where}: damaged safetensors header (incomplete entry)") from error
    if not isinstance(code, str) or any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
        raise InputError(f"{where}: damaged safetensors header (wrong types)")
    # A dtype we do not know has a size we do not know; it matters only if that tensor is asked for.
    if code in _SAFETENSORS_DTYPES:
        _check_size(where, shape, np.dtype(_SAFETENSORS_DTYPES[code]), end - begin)
    return code, shape, begin, end


def _check_ranges(tensors, n_bytes, path):
    """The tensors must tile the data: no hole, no overlap, nothing missing or left at the end."""
    reached = 0
    for _, _, begin, end in sorted(tensors.values(), key=lambda entry: entry[2:]):
        if begin != reached or end < begin:
            raise InputError(f"{path}: damaged safetensors header (tensors overlap or leave holes)")
        reached = end
    if reached != n_bytes:
        state = "truncated" if n_bytes < reached else "damaged"
        raise InputError(
            f"{path}: {state}, its header promises {reached} bytes of data and it has {n_bytes}"
        )


def _missing_array(path, name, names):
    held = ", ".join(repr(other) for other in names) or "none"
    return InputError(f"{path}: no array named {name!r}; it holds {held}")
