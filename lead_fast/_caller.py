"""Warnings that point at the line that called this package, however deep they are raised."""

import contextlib
import contextvars
import sys
import warnings

from ._text import one_line

_PACKAGE = __name__.partition(".")[0]


def _package(frame):
    return (frame.f_globals.get("__name__") or "").partition(".")[0]  # None where code was made up


# Of this thread alone: `warnings.catch_warnings` would change what the whole process shows.
_caught = contextvars.ContextVar("caught", default=None)


@contextlib.contextmanager
def catching(caught):
    """Append what :func:`warn_caller` is given to the list `caught`, as (category's name, text)."""
    before = _caught.set(caught)
    try:
        yield
    finally:
        _caught.reset(before)


def warn_caller(message, category):
    """Warn of `message` at the nearest line outside this package, unless that is being caught."""
    caught = _caught.get()
    if caught is not None:
        caught.append((category.__name__, one_line(message)))
        return
    level, frame = 2, sys._getframe(1)
    while frame is not None and _package(frame) == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
