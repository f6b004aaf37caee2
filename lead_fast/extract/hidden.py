"""Find the hidden layers of any network: what its blocks give, before the last of them."""

from __future__ import annotations

import contextlib

import numpy as np

from .._optional import need
from ..errors import InputError

MOST = 4  # layers that are kept, evenly among those that there are
_LITTLE = ("Pool", "Dropout", "DropPath", "Flatten", "Identity")  # changes no feature of interest


def hidden_layers(module, images, classifier=False):
    """Names of at most `MOST` hidden layers, in the order in which they are run.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    images : tensor (B, ...)
        What it is run on once.
    classifier : bool
        Whether its last linear layer classifies, so that it is no block.

    Raises
    ------
    InputError
        There are fewer than two blocks.

    Notes
    -----
    Blocks are the children of the model, and of what in it is only a container (``Sequential`` and
    the like, or nearly all of the model). A convolution or linear layer among them makes one block
    with the norms and activations after it. The last block gives the features that are used
    otherwise, which are made for what the network was trained on; those before it are hidden.
    """
    blocks = _groups(_run_order(module, images))
    if classifier:
        torch = need("torch", "extracting features")
        linear = [n for n, one in module.named_modules() if isinstance(one, torch.nn.Linear)]
        blocks = [name for name in blocks if not linear or name != linear[-1]]
    if len(blocks) < 2:
        raise InputError(f"join: fewer than two blocks in {type(module).__name__}; name layers")
    places = np.linspace(0, len(blocks) - 2, min(MOST, len(blocks) - 1)).round().astype(int)
    return [blocks[place] for place in places]


def _children(module, prefix, total):
    """Pairs of name and block of a model, containers opened."""
    torch = need("torch", "extracting features")
    containers = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        nearly_all = any(child.children()) and _size(child) > 0.9 * total
        if type(child) in containers or nearly_all:
            yield from _children(child, f"{full}.", total)
        else:
            yield full, child


def _size(module):
    return sum(one.numel() for one in module.parameters())


def _run_order(module, images):
    """Pairs of name and block, as they are reached by a forward pass and give a tensor."""
    torch = need("torch", "extracting features")
    found = {}
    with contextlib.ExitStack() as stack:
        for name, child in _children(module, "", _size(module)):

            def reached(_, __, given, name=name, child=child):
                given = given[0] if isinstance(given, tuple | list) and given else given
                if isinstance(given, torch.Tensor) and given.is_floating_point():
                    found.setdefault(name, child)

            stack.callback(child.register_forward_hook(reached).remove)
        with torch.inference_mode():
            module(images)
    return list(found.items())


def _groups(layers):
    """Of each block, the name of the layer that gives its output."""
    blocks = []
    for name, layer in layers:
        weights = list(layer.parameters())
        if not weights and any(word in type(layer).__name__ for word in _LITTLE):
            continue
        weighs = any(one.ndim > 1 for one in weights)
        if weighs or any(layer.children()) or not blocks:
            blocks.append(name)
        else:  # a norm or an activation
            blocks[-1] = name
    return blocks
