"""Weights of a model out of a file."""

from __future__ import annotations

import argparse
import contextlib
from collections import OrderedDict

from .._optional import need
from .._text import name_list, one_line
from ..errors import InputError

# Where training programs keep weights in what they write; moving averages first, as timm does.
_PARTS = (
    "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net", "network",
    "weights",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.")  # of wrappers in which a model was trained


def read_weights(path, module):
    """The weights of a file, by name: safetensors, or what ``torch.load(weights_only=True)`` reads.

    Out of a checkpoint the moving average of the weights if there is one, as in timm; without the
    prefixes that wrappers put before all names and the module's have not.

    Raises
    ------
    InputError
        A file that cannot be read, or holds more than tensors.
    """
    torch = need("torch", "extracting features")
    try:
        if str(path).endswith(".safetensors"):
            state = need("safetensors.torch", "reading weights").load_file(path)
        else:
            with _options_allowed(torch):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and the system's
        raise InputError(f"{path}: cannot be read as weights ({_told(error)})") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, no weights by name")
    return _bare(_part(state, torch), module.state_dict())


def _told(error):
    """What was wrong, without torch's advice, which is to let the file run code."""
    _, found, what = one_line(error).partition("WeightsUnpickler error: ")
    if not found:
        return one_line(error)[:300]
    return f"it holds more than tensors: {what.partition('. ')[0][:200]}"


def _options_allowed(torch):
    """Let checkpoints hold what the command line of the training program said."""
    allowed = getattr(torch.serialization, "safe_globals", None)  # since 2.5
    return allowed([argparse.Namespace]) if allowed else contextlib.nullcontext()


def _part(state, torch):
    """The first part that has tensors, within parts, too."""
    for part in _PARTS:
        found = state.get(part)
        if isinstance(found, dict):
            found = _part(found, torch)
            if any(isinstance(value, torch.Tensor) for value in found.values()):
                return found
    return state


def _bare(state, own):
    """Names without the prefixes that all of them have, until one is the module's own."""
    if not all(isinstance(name, str) for name in state):
        return state
    for prefix in _PREFIXES:
        if state and not any(name in own for name in state) and _all_start(state, prefix):
            kept = OrderedDict((name[len(prefix) :], value) for name, value in state.items())
            versions = getattr(state, "_metadata", None)
            if versions is not None:
                kept._metadata = {
                    name[len(prefix) :]: one
                    for name, one in versions.items()
                    if f"{name}.".startswith(prefix)
                }
            return _bare(kept, own)
    return state


def _all_start(names, prefix):
    return all(name.startswith(prefix) for name in names)


def load_weights(module, path):
    """Fill a module with the weights of a file.

    Raises
    ------
    InputError
        A file that cannot be read, holds more than tensors, or does not fit.
    """
    fill(module, read_weights(path, module), path)


def fill(module, state, path):
    """Fill a module with weights that were read from a file."""
    if not hasattr(state, "_metadata"):
        # Safetensors keep no versions of modules, and torchvision's MNASNet loads nothing without
        # its own. Not of the layers in it: older files of batch norms, above all, are to fit.
        state = OrderedDict(state)
        state._metadata = {"": {"version": module._version}}
    try:
        found = module.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: does not fit the model ({one_line(error)[:300]})") from error
    wrong = [
        f"{what} {name_list(names)}"
        for what, names in (
            ("it lacks", found.missing_keys), ("the model has no", found.unexpected_keys)
        )
        if names
    ]  # fmt: skip
    if wrong:
        raise InputError(f"{path}: does not fit the model ({'; '.join(wrong)})")
