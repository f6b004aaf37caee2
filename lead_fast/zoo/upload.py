"""Copy features to a GPU through pinned memory, beside the scoring of others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import backend
from ..device import DeviceArray, on_gpu
from ..features import as_features

_PIECE = 16 << 20  # bytes: the copy of one takes long compared with its launch
_MOST_THREADS = 8
_SHARE = 1 / 8  # of the GPU's memory, so that the model that is scored meanwhile has the rest


class Uploads:
    """Copies host arrays to one GPU: each thread fills a pinned piece and sends it.

    Copies from pinned memory need no help of the processor and reach the bus's full rate; but to
    fill pinned memory costs as much as any copy, so several threads do it. Everything is on streams
    of its own, memory included: the caller's stream is neither waited for nor kept waiting.

    Parameters
    ----------
    place : Place
    piece : int
        Bytes of a piece; one is held per thread.
    threads : int, optional
    """

    def __init__(self, place, piece=_PIECE, threads=None):
        self._place, self._piece = place, piece
        count = min(backend.threads(), _MOST_THREADS) if threads is None else threads
        self._lanes = [_Lane(place) for _ in range(count)]

    def __call__(self, features):
        """Features (N, D) on the GPU, complete: DeviceArray.

        What cannot be taken as features, or is too large to lie beside another model, or is there
        already, is returned as it is.
        """
        if on_gpu(features):
            return features
        x = as_features(features)
        if x.data.nbytes > _SHARE * self._place.library.total_memory(self._place.device):
            return features
        library, host = self._place.library, x.data
        if x.dtype == "bfloat16":
            host = host.view(np.int16)  # both libraries have it
        with self._lanes[0].active():
            target = library.empty(host.shape, host.dtype.name, self._place.device)
        rows = max(1, self._piece // (host.itemsize * host.shape[1]))
        starts, lock = iter(range(0, len(host), rows)), threading.Lock()

        def run(lane):
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                lane.send(host[start : start + rows], target[start : start + rows])

        with ThreadPoolExecutor(len(self._lanes)) as pool:
            list(pool.map(run, self._lanes))
        if x.dtype == "bfloat16":
            return library.bfloat16(target)
        return DeviceArray(target, library)


class _Lane:
    """One thread's stream and pinned memory."""

    def __init__(self, place):
        self._library, self._device = place.library, place.device
        self._stream = self._library.side_stream(place.device)
        self._pinned = np.empty(0, np.uint8)

    def active(self):
        """The context in which memory is of this lane's stream."""
        return self._library.on_stream(self._stream, self._device)

    def send(self, host, target):
        """Copy one piece, and wait for it."""
        if self._pinned.size < host.nbytes:
            self._pinned = self._library.pinned(host.nbytes)
        piece = self._pinned[: host.nbytes].view(host.dtype).reshape(host.shape)
        np.copyto(piece, host)
        with self.active():
            self._library.send(piece, target, self._stream)
        self._stream.synchronize()
