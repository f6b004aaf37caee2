"""Copy features to a GPU through pinned memory, beside the scoring of others."""

from __future__ import annotations

import threading

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
    fill pinned memory costs as much as any copy, so several threads do it.

    Parameters
    ----------
    place : Place
    piece : int
        Bytes of a piece; one is held per thread.
    threads : int, optional

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
            They cannot be taken as features.
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
        rows = max(1, self._piece // (host.itemsize * host.shape[1]))
        starts = iter(range(0, len(host), rows))
        self._share_out(starts, lambda lane, start: lane.send(
            host[start : start + rows], target[start : start + rows]
        ))  # fmt: skip
        if x.dtype == "bfloat16":
            return library.bfloat16(target)
        return DeviceArray(target, library)

    def _share_out(self, starts, send):
        """Call ``send(lane, start)`` for all of `starts`, a thread per lane; wait for them."""
        lock, failures = threading.Lock(), []

        def run(lane):
            try:
                while not failures:
                    with lock:
                        start = next(starts, None)
                    if start is None:
                        return
                    send(lane, start)
            except BaseException as failure:
                failures.append(failure)

        # Daemons, as the thread that reads: one that hangs keeps nobody from leaving.
        threads = [
            threading.Thread(target=run, args=(lane,), name="lead_fast-upload", daemon=True)
            for lane in self._lanes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def release(self):
        """Give back what the library keeps of the memory of these streams."""
        for lane in self._lanes:
            lane.release()
        self._lanes = []


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

    def release(self):
        """Give back free memory of the stream."""
        self._library.free(self._stream, self._device)
