"""From what a layer gives to one vector per image."""

from __future__ import annotations

from .._optional import need
from ..errors import InputError


def tensor_of(value):
    """The tensor in what a layer gives, or `value` itself where there is none.

    Of what Transformers' models return, ``pooler_output`` counts, else ``last_hidden_state``, else
    ``logits``; of tuples and lists the first.
    """
    for name in ("pooler_output", "last_hidden_state", "logits"):
        found = getattr(value, name, None)
        if found is None and isinstance(value, dict):
            found = value.get(name)
        if found is not None:
            value = found
            break
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value


def pooled(value, where, images):
    """One vector per image, (B, D), from what a layer gives.

    A map (B, C, H, W) is averaged over its places, a sequence (B, T, C) over its tokens. Some
    transformers give maps (B, H, W, C): of square images H = W tells.

    Parameters
    ----------
    value : tensor, or what :func:`tensor_of` takes
    where : str
        The layer's name, for errors.
    images : tensor (B, ...)
        What the model was given.

    Raises
    ------
    InputError
        No floating-point tensor with a row for each image.
    """
    torch = need("torch", "extracting features")
    value = tensor_of(value)
    if not isinstance(value, torch.Tensor):
        raise InputError(f"{where}: gives a {type(value).__name__}, not a tensor")
    if not value.is_floating_point():
        raise InputError(f"{where}: gives {value.dtype}, not floating-point numbers")
    if value.ndim == 0 or len(value) != len(images):
        raise InputError(
            f"{where}: gives shape {tuple(value.shape)} for {len(images)} images; the images must "
            "be the first axis"
        )
    if _channels_last(value, images):
        return value.flatten(1, 2).mean(1)
    if value.ndim > 3:
        return value.flatten(2).mean(2)
    if value.ndim == 3:
        return value.mean(1)
    return value.reshape(len(value), -1)


def _channels_last(value, images):
    square = images.ndim == 4 and images.shape[2] == images.shape[3]
    return square and value.ndim == 4 and value.shape[1] == value.shape[2] != value.shape[3]
