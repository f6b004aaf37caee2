"""What is the same for every model of a command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .._optional import need
from .._text import one_line
from ..errors import DeviceError, InputError, InputTypeError
from ..options import choice, integer
from .images import open_folder

PRECISIONS = ("float32", "float16", "bfloat16")
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Setting:
    """Data and options that have been looked at, before any model is loaded.

    Attributes
    ----------
    data : Folder, Dataset or DataLoader
    out : Path or None
        A directory that is there.
    device : torch.device
    precision, dtype : str
    batch_size, workers : int
    """

    data: object
    out: Path | None
    device: object
    precision: str
    dtype: str
    batch_size: int
    workers: int

    @classmethod
    def checked(cls, data, out, device, precision, dtype, batch_size, workers):
        """A setting of what :func:`extract` takes.

        Raises
        ------
        InputError
            Data, a directory, a device or an option that cannot be used.
        """
        choice("precision", precision, PRECISIONS)
        choice("dtype", dtype, DTYPES)
        batch_size = integer("batch_size", batch_size, 1)
        workers = integer("workers", workers, 0)
        device, data = _device(device), _data(data)
        out = None if out is None else Path(out)
        if out is not None:
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{out}: {error.strerror}") from error
            if not os.access(out, os.W_OK | os.X_OK):
                raise InputError(f"{out}: cannot write to this directory")
        return cls(data, out, device, precision, dtype, batch_size, workers)


def _device(device):
    torch = need("torch", "extracting features")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except Exception as error:  # torch's RuntimeError; AssertionError where it has no CUDA
        raise DeviceError(f"device: {device} cannot be used ({one_line(error)[:300]})") from error
    return found


def _data(data):
    if isinstance(data, str | os.PathLike):
        return open_folder(data)
    torch = need("torch", "extracting features")
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not indexed and not isinstance(data, torch.utils.data.DataLoader):
        raise InputTypeError(
            f"data: expected a folder, a Dataset or a DataLoader, not {type(data).__name__}"
        )
    return data
