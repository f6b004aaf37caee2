"""Checks of single options, with one wording."""

import math
import numbers

import numpy as np

from .errors import InputError, InputTypeError


def choice(name, value, allowed):
    """Return ``value`` if it is one of ``allowed``."""
    try:
        found = not isinstance(value, bool) and bool(value in allowed)
    except (TypeError, ValueError):  # an array, say
        found = False
    if not found:
        names = ", ".join(str(a) for a in allowed)
        raise InputError(f"{name}: {value!r} does not exist; choose one of: {names}")
    return value


def integer(name, value, low, high=None):
    """Return ``value`` as an int within [low, high]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise InputTypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    value = int(value)
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise InputError(f"{name}: must be {bounds}, got {value}")
    return value


def real(name, value, *, positive=False, finite=True):
    """Return ``value`` as a float that is not negative (and not zero, if ``positive``)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{name}: expected a number, got {type(value).__name__} {value!r}")
    value = float(value)
    if math.isnan(value) or (finite and math.isinf(value)):
        raise InputError(f"{name}: must be finite, got {value}")
    if value < 0.0 or (positive and value == 0.0):
        raise InputError(f"{name}: must be {'positive' if positive else 'at least 0'}, got {value}")
    return value


def flag(name, value):
    """Return ``value`` as a bool, if it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputTypeError(
            f"{name}: expected True or False, got {type(value).__name__} {value!r}"
        )
    return bool(value)


def seed(value):
    """Return a seed: an integer that fits in 64 bits without a sign."""
    return integer("seed", value, 0, 2**64 - 1)
