"""The exceptions and warnings of lead_fast.

Every error that bad input can cause is an :class:`LeadFastError` whose message is one line: what is
wrong, where, and what to do. Each is also the built-in exception a caller would expect, so
``except ValueError`` works.
"""


class LeadFastError(Exception):
    """Base class of every error lead_fast raises on purpose."""


class InputError(LeadFastError, ValueError):
    """A value that cannot be used: wrong shape, not finite, unknown name, unreadable file."""


class InputTypeError(LeadFastError, TypeError):
    """An argument of a type that cannot be used."""


class StoreError(InputError):
    """A file of results that cannot be opened, read or written."""


class DeviceError(InputError, RuntimeError):
    """A device that does not exist here, or that cannot do what was asked."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The memory of a GPU does not suffice; the message names the bytes wanted and free."""


class ConvergenceWarning(UserWarning):
    """A solver stopped at its pass limit; the message names the gap that was left."""


class ScoreWarning(UserWarning):
    """A score that may not discriminate: ties, saturation, N < D, features drawn at random."""


class SaturationWarning(ScoreWarning):
    """A score that has reached its bound."""
