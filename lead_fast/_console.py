"""What the commands print: results to stdout, messages to stderr, one line each."""

from __future__ import annotations

import contextlib
import json
import os
import sys

from ._text import one_line
from .errors import InputError


def print_text(text):
    """Print to stdout; a reader that has gone away is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise InputError(f"cannot write to stdout: {error.strerror}") from error


def drop_stdout():
    """Send what is still buffered nowhere, or the interpreter complains about it at exit."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(kind, text):
    """A message of a kind, "error" or "warning", to stderr."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            print(f"lead-fast: {kind}: {text}", file=sys.stderr, flush=True)


def show_warning(message, category, filename, lineno, file=None, line=None):
    """What :func:`warnings.showwarning` is replaced by."""
    say("warning", one_line(message))


def as_json(value):
    """A value as JSON of several lines, without NaN."""
    return json.dumps(value, indent=1, allow_nan=False)


def plain(value):
    """A value as words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
