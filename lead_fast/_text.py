"""Small helpers for messages of one line and for JSON that comes from outside."""

from __future__ import annotations


def one_line(error):
    """The message of an exception on one line; its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(name):
    """A name, or a text with names, as one line of visible characters: all others are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name)
    )


def name_list(names, most=8):
    """Names for a message: ``a, b, c``, or the first of them and how many more there are."""
    names = [printable(name) for name in names]
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def unique_keys(pairs):
    """An ``object_pairs_hook`` for :mod:`json` that refuses an object with a key given twice."""
    table = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"names {key} twice")
        table[key] = value
    return table
