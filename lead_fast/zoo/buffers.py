"""Memory that files are read into, one after the other."""

from __future__ import annotations

import math
import weakref

import numpy as np


class Buffers:
    """Arrays whose memory is used again once nobody refers to them any more.

    Memory that a process touches for the first time costs more than reading a file from the page
    cache into it: the system hands it out page by page, each filled with zeros.

    Parameters
    ----------
    allocate : callable, optional
        From a number of bytes to a one-dimensional uint8 array that owns them, or keeps alive what
        does.

    Notes
    -----
    Holds what is in use and one piece of memory beside. Not for several threads at once.
    """

    def __init__(self, allocate=None):
        self._allocate = allocate or (lambda count: np.empty(count, np.uint8))
        self._held = []  # pairs of memory and a weak reference to the array that lends it

    def empty(self, shape, dtype, order="C"):
        """As ``numpy.empty``, for plain dtypes."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) * dtype.itemsize
        if count == 0:
            return np.empty(shape, dtype, order)
        memory = self._take(count)
        lent = np.frombuffer(memoryview(memory)[:count], np.uint8)
        # Views of an array refer to it, not to what it is of, where that is no array.
        self._held.append((memory, weakref.ref(lent)))
        return lent.view(dtype).reshape(shape, order=order)

    def _take(self, count):
        """Memory of at least `count` bytes that nobody uses, taken out of what is held."""
        free = [memory for memory, lent in self._held if lent() is None]
        self._held = [(memory, lent) for memory, lent in self._held if lent() is not None]
        fitting = min((m for m in free if len(m) >= count), key=len, default=None)
        if fitting is None:
            free.clear()  # given back before more is asked for
            fitting = self._allocate(count)
        # Of other free memory one piece stays, as two are in use at a time; the rest is given back.
        spare = [memory for memory in free if memory is not fitting]
        self._held += [(memory, _nobody) for memory in sorted(spare, key=len)[-1:]]
        return fitting


def _nobody():
    return None
