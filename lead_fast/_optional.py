"""Libraries that only some parts need."""

import importlib

from ._text import one_line
from .errors import InputError

_EXTRAS = {
    "torch": "torch", "safetensors": "torch", "PIL": "torch", "timm": "timm",
    "torchvision": "timm", "transformers": "hf", "datasets": "hf", "matplotlib": "plot",
    "dask": "dask", "distributed": "dask", "ray": "ray",
}  # fmt: skip


class MissingError(InputError, ImportError):
    """A library that cannot be imported; the message says how to install it."""


def need(name, purpose):
    """Import a module.

    Parameters
    ----------
    name : str
        Of the module; its first part is the library's.
    purpose : str
        What needs it, for the message.

    Raises
    ------
    MissingError
        With the command that installs it, or why it does not work although it is there.
    """
    library = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build for another torch fails in ways of its own
        command = f"pip install 'lead-fast[{_EXTRAS[library]}]'"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(library):
            raise MissingError(f"{purpose} needs {library}: {command}") from error
        raise MissingError(
            f"{purpose} needs {library}, which is installed but cannot be imported "
            f"({one_line(error)}); {command}"
        ) from error
