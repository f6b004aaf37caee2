"""Copy features to a GPU through pinned memory, beside the scoring of others."""

from __future__ import annotations

import os
import threading

import numpy as np

from .. import backend
from ..device import DeviceArray, on_gpu
from ..errors import InputError
from ..features import Features, as_features
from .formats import opened_again

# Bytes: small enough for pieces of all threads to stay in the processor's cache until the bus has
# read them, large enough for a copy to take long compared with what Python does for it.
_PIECE = 4 << 20
_MOST_THREADS = 8
_SHARE = 1 / 8  # of the GPU's memory, so that the model that is scored meanwhile has the rest


class Uploads:
    """Copies host arrays to one GPU: each thread fills a pinned piece and sends it.

    Copies from pinned memory need no help of the processor and reach the bus's full rate; but to
    fill pinned memory costs as much as any copy, so several threads do it. Of an array that is a
    map of a file they read the file: to map its pages costs more than to copy them.

    Parameters
    ----------
    place : Place
    piece : int
        Bytes of a piece; one is held per thread.
    threads : int, optional
        The caller's among them.

    Notes
    -----
    Everything is on streams of its own, made at the first call: the caller's stream is neither
    waited for nor kept waiting. What is copied is complete when it is returned, and its memory
    belongs to one of these streams: it must not be dropped before all work with it is done, which
    a score is once it is a number on the host.
    """

    def __init__(self, place, piece=_PIECE, threads=None):
        self._place, self._piece = place, piece
        self._threads = min(backend.threads(), _MOST_THREADS) if threads is None else threads
        self._lanes = []

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
        if x.data.nbytes > _SHARE * library.total_memory(device):
            return None
        if not self._lanes:
            self._lanes = [_Lane(self._place) for _ in range(self._threads)]
        host = x.data.view(np.int16) if x.dtype == "bfloat16" else x.data  # both libraries have it
        with self._lanes[0].active():
            target = library.empty(host.shape, host.dtype.name, device)
        with opened_again(_mapped(features, x.data)) as file:
            fill = _copying(host) if file is None else _reading(*file, host.strides[0])
            self.share_out(host, lambda lane, rows: lane.send(
                lane.filled(fill, host[rows], rows.start), target[rows]
            ))  # fmt: skip
        if x.dtype == "bfloat16":
            return library.bfloat16(target)
        return DeviceArray(target, library)

    def share_out(self, host, send):
        """Call ``send(lane, rows)`` for pieces of `host`, a thread per lane; wait for them."""
        rows = max(1, self._piece // (host.itemsize * host.shape[1]))
        starts = range(0, len(host), rows)
        waiting, lock, failures = iter(starts), threading.Lock(), []

        def run(lane):
            try:
                with lane.active():
                    while not failures:
                        with lock:
                            start = next(waiting, None)
                        if start is None:
                            return
                        send(lane, slice(start, min(start + rows, len(host))))
            except BaseException as failure:
                failures.append(failure)

        own, *others = self._lanes[: len(starts)]
        # Daemons, as the thread that reads: one that hangs keeps nobody from leaving.
        threads = [
            threading.Thread(target=run, args=(lane,), name="lead_fast-upload", daemon=True)
            for lane in others
        ]
        for thread in threads:
            thread.start()
        run(own)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def release(self):
        """Give back what the library keeps of the memory of these streams."""
        for lane in self._lanes:
            lane.release()
        self._lanes = []


def _mapped(features, data):
    """The map of a file whose bytes, in their order, are those of `data`, or None."""
    array = features.data if isinstance(features, Features) else features
    if not isinstance(array, np.memmap) or not hasattr(os, "preadv"):
        return None
    return array if array.flags.c_contiguous and np.may_share_memory(array, data) else None


def _copying(host):
    """What fills a piece with rows of an array, beginning with `start`."""

    def fill(piece, start):
        np.copyto(piece, host[start : start + len(piece)])

    return fill


def _reading(descriptor, begin, row_bytes):
    """What fills a piece with rows of a file."""

    def fill(piece, start):
        room, at = memoryview(piece.reshape(-1).view(np.uint8)), begin + start * row_bytes
        while room:
            count = os.preadv(descriptor, [room], at)
            if count == 0:
                raise InputError("features: their file has become shorter since it was opened")
            room, at = room[count:], at + count

    return fill


class _Lane:
    """One thread's stream and pinned memory."""

    def __init__(self, place):
        self._library, self._device = place.library, place.device
        self._stream = self._library.side_stream(place.device)
        self._pinned = np.empty(0, np.uint8)

    def active(self):
        """The context in which memory is of this lane's stream, and copies are sent to it."""
        return self._library.on_stream(self._stream, self._device)

    def filled(self, fill, like, start):
        """Pinned memory in the shape of `like`, filled."""
        if self._pinned.size < like.nbytes:
            self._pinned = self._library.pinned(like.nbytes)
        piece = self._pinned[: like.nbytes].view(like.dtype).reshape(like.shape)
        fill(piece, start)
        return piece

    def send(self, piece, target):
        """Copy a filled piece, and wait for it; where this lane is active."""
        self._library.send(piece, target, self._stream)
        self._stream.synchronize()

    def release(self):
        """Give back free memory of the stream."""
        self._library.free(self._stream, self._device)
