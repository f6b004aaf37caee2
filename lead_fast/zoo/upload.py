"""Copy features to a GPU through pinned memory, beside the scoring of others."""

from __future__ import annotations

import numpy as np

from .. import backend
from ..device import DeviceArray, on_gpu
from ..errors import InputError
from ..features import Features, as_features
from .formats import opened_again

# Bytes: small enough for both pieces of a thread to stay in its core's cache until the bus has read
# them, large enough for a copy to take long compared with what it costs to begin it.
_PIECE = 512 << 10
_MOST_THREADS = 12
_SHARE = 1 / 8  # of the GPU's memory, so that the model that is scored meanwhile has the rest


class Uploads:
    """Copies host arrays to one GPU: native threads fill pinned pieces and send them.

    Copies from pinned memory need no help of the processor and reach the bus's full rate; but to
    fill pinned memory costs as much as any copy, so several threads do it. Of an array that is a
    map of a file they read the file: to map its pages costs more than to copy them.

    Parameters
    ----------
    place : Place
    piece : int
        Bytes of a piece; two are held per thread.
    threads : int, optional
        The caller's among them.

    Notes
    -----
    The interpreter's lock is not held while copies are made, and not asked for between them: a
    caller that scores in another thread keeps it for 5 ms whenever it is asked for.

    Copies are on streams of their own: the caller's stream is neither waited for nor kept waiting.
    What is copied is complete when it is returned. Its memory belongs to one more stream, which is
    given no work: libraries use memory that was dropped again for its own stream only, thus for
    later uploads. These wait for nothing else, so that it must not be dropped before all work with
    it is done, which a score is once it is a number on the host.
    """

    def __init__(self, place, piece=_PIECE, threads=None):
        self._place, self._piece = place, piece
        self._threads = min(backend.threads(), _MOST_THREADS) if threads is None else threads
        self._most = self._stream = self._native = None

    def __call__(self, features):
        """Features (N, D) on the GPU: DeviceArray.

        None where they are there already, or are too large to lie beside another model.

        Raises
        ------
        InputError, InputTypeError
            They cannot be taken as features, or their file has become shorter.
        """
        if on_gpu(features):
            return None
        x, library, device = as_features(features), self._place.library, self._place.device
        if self._most is None:
            self._most = _SHARE * library.total_memory(device)
        if x.data.nbytes > self._most:
            return None
        if self._native is None:
            self._stream = library.side_stream(device)
            self._native = native_uploader(device, self._threads, self._piece)
        host = x.data.view(np.int16) if x.dtype == "bfloat16" else x.data  # both libraries have it
        with library.on_stream(self._stream, device):
            target = library.empty(host.shape, host.dtype.name, device)
        # Ours is what a pool may hand out in the order of that stream, of which torch, who has but
        # few, may have given others the same.
        self._stream.synchronize()
        rows, length = len(host), host.shape[1] * host.itemsize
        with opened_again(_mapped(features, x.data)) as file:
            if file is None:
                source = -1, host.ctypes.data, rows, host.strides[0], length
            else:
                source = *file, rows, length, length
            try:
                self._native.upload(*source, library.address(target))
            except EOFError as error:
                raise InputError(
                    "features: their file has become shorter since it was opened"
                ) from error
        if x.dtype == "bfloat16":
            return library.bfloat16(target)
        return DeviceArray(target, library)

    def release(self):
        """Give back pinned memory, and what the library keeps of the memory on the GPU."""
        if self._native is not None:
            self._native.release()
            self._place.library.free(self._stream, self._place.device)
        self._stream = self._native = None


def native_uploader(device, threads, piece):
    """What copies to a GPU: its ``upload(file, begin, rows, stride, length, target)``.

    `begin` is the first row's offset in the file of that descriptor, or its address where the
    descriptor is negative; `stride` and `length` are bytes.
    """
    return backend.cuda().Uploader(device, threads, piece)


def _mapped(features, data):
    """The map of a file whose bytes, in their order, are those of `data`, or None."""
    array = features.data if isinstance(features, Features) else features
    if not isinstance(array, np.memmap):
        return None
    return array if array.flags.c_contiguous and np.may_share_memory(array, data) else None
