"""Warnings that point at the line that called this package, however deep they are raised."""

import sys
import warnings

_PACKAGE = __name__.partition(".")[0]


def _package(frame):
    return (frame.f_globals.get("__name__") or "").partition(".")[0]  # None where code was made up


def warn_caller(message, category):
    """Warn of `message` at the nearest line outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and _package(frame) == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
