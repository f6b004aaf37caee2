"""Write the features of a model in one step, and know what is there already."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path

import numpy as np

from .._optional import need
from .._output import whole_file
from .._text import one_line
from ..errors import InputError
from ..zoo import formats

# What must be equal for a file to be kept; the rest of the metadata is for people.
MATCH = ("data", "weights", "module", "layer", "dtype", "logits", "precision", "preprocessing")


def matches(path, metadata):
    """Whether a complete file is there that was made of the same things."""
    try:
        formats.array_names(path)  # checks that no part is missing
        found = formats.read_metadata(path)
    except InputError:
        return False
    return all(name in metadata and found.get(name) == metadata[name] for name in MATCH)


def refuse_other(path, known, models, layer=""):
    """Refuse to replace a file that says it was made from another model.

    Parameters
    ----------
    path : path-like
    known : dict {str: str}
        What must match for a file to be kept. The same weights in the same module are one model,
        wherever they lie.
    models : tuple of str
        What the model has been called in files, the present name first.
    layer : str
        The layer whose name is in the file's, if there is one.

    Raises
    ------
    InputError
        Names both models. A file that is damaged may be replaced, one that may not be read not.
    """
    try:
        found = formats.read_metadata(path)
    except InputError as error:
        if isinstance(error.__cause__, OSError) and path.exists():
            raise
        return
    same = all(found.get(name) == known[name] for name in ("weights", "module"))
    if (same or found.get("model") in models) and (not layer or found.get("layer") == layer):
        return
    here = found.get("model", "a model that it does not name")
    if found.get("layer"):
        here += f", layer {found['layer']}"
    there = f"{models[0]}, layer {layer}" if layer else models[0]
    raise InputError(
        f"{path}: holds the features of {here}, not of {there}; give this model another name "
        "(NAME=SPEC, in Python name=) or out, or remove the file"
    )


def write(path, arrays, metadata):
    """Write a file under a temporary name, and rename it when it is whole.

    Parameters
    ----------
    path : path-like
    arrays : dict {str: ndarray}
    metadata : dict {str: str}
    """
    save_file = need("safetensors.numpy", "writing features").save_file
    failed = need("safetensors", "writing features").SafetensorError
    path = Path(path)
    try:
        with whole_file(path) as temporary:
            mode = stat.S_IMODE(temporary.stat().st_mode)  # that a new file is to have
            save_file(arrays, temporary, metadata)  # which takes a new one, for its user alone
            os.chmod(temporary, mode)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except failed as error:  # the library's own name for a disk that is full
        raise InputError(f"{path}: cannot be written ({one_line(error)})") from error


def label_numbers(labels):
    """Labels as numbers, which is all that a file holds, and the metadata that names them.

    Strings become their places among the sorted names: what every metric makes of them, too.
    """
    if labels.dtype.kind != "U":
        return labels, {}
    names, places = np.unique(labels, return_inverse=True)
    return places.reshape(labels.shape), {"classes": json.dumps(names.tolist())}


def weights_fingerprint(module):
    """SHA-256 of a module's parameters and buffers and their names.

    Raises
    ------
    InputError
        Weights that have no values yet.
    """
    try:
        return _weights_fingerprint(module)
    except (ValueError, NotImplementedError) as error:  # of lazy layers, and of the meta device
        raise InputError(f"model: its weights cannot be read ({one_line(error)})") from error


def _weights_fingerprint(module):
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not hasattr(value, "detach"):  # extra state, in whatever form
            found.update(f"{name} {value!r}".encode())
            continue
        value = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.numel():
            import torch

            found.update(memoryview(value.reshape(-1).view(torch.uint8).numpy()))
    return found.hexdigest()


def module_fingerprint(module, settings=""):
    """SHA-256 of a module as it is printed, and of what else is known of its forward pass.

    Weights alone do not tell a ReLU from a GELU. Addresses, which differ from run to run, are left
    out of what is printed.
    """
    text = re.sub(r"\b0x[0-9a-fA-F]+", "", repr(module))
    return hashlib.sha256(f"{text}\n{settings}".encode("utf-8", "surrogatepass")).hexdigest()
