"""From what a layer gives to one vector per image."""

from __future__ import annotations

import math

from .._optional import need
from ..errors import InputError


def tensor_of(value):
    """The tensor in what a layer gives, or `value` itself where there is none.

    Of what Transformers' models return, ``pooler_output`` counts, else ``last_hidden_state``, else
    ``logits``; of tuples and lists the first, of maps that become smaller and smaller the last.
    """
    for name in ("pooler_output", "last_hidden_state", "logits"):
        found = getattr(value, name, None)
        if found is None and isinstance(value, dict):
            found = value.get(name)
        if found is not None:
            value = found
            break
    while isinstance(value, tuple | list) and value:
        value = value[-1 if _pyramid(value) else 0]
    return value


def _pyramid(values):
    """Whether these are maps (B, C, H, W) that become smaller and smaller."""
    if not all(getattr(one, "ndim", 0) == 4 for one in values):
        return False
    areas = [one.shape[2] * one.shape[3] for one in values]
    return areas[0] > areas[-1] and areas == sorted(areas, reverse=True)


def pooled(value, where, images):
    """One vector per image, (B, D), from what a layer gives.

    A map (B, C, H, W) is averaged over its places, a sequence (B, T, C) over its tokens. Some
    transformers give maps (B, H, W, C): H and W are to each other as the images' are.

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
    """Whether its second and third axes, more than its last, are to each other as the images'."""
    if images.ndim != 4 or value.ndim != 4 or 0 in value.shape:
        return False
    height, width = images.shape[2:]

    def off(a, b):
        return abs(math.log(a * width / (b * height)))

    return off(*value.shape[1:3]) < off(*value.shape[2:])
