"""Find the hidden layers of any network: what its blocks give, before the last of them."""

from __future__ import annotations

import numpy as np

from .._optional import need
from ..errors import InputError
from .hooks import watched
from .outputs import tensor_of

MOST = 4  # layers that are kept, evenly among those that there are
_LITTLE = ("Pool", "Dropout", "DropPath", "Flatten", "Identity")  # change no feature of interest


def hidden_layers(module, images, classifier=False):
    """Names of at most `MOST` hidden layers, in the order in which they are run.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    images : tensor (B, ...)
        What it is run on, once or a few times.
    classifier : bool
        Whether it ends with a classifier (:func:`classifier_of`), which is no block.

    Raises
    ------
    InputError
        There are fewer than two blocks.

    Notes
    -----
    Blocks are the children of the model, and of what in it is only a container (``Sequential`` and
    the like, or nearly all of what runs of the model). A convolution or linear layer among them
    makes one block with the norms and activations after it. The last block gives the features that
    are used otherwise, which are made for what the network was trained on; those before it are
    hidden. Where that leaves fewer than two blocks, the largest of them is opened.
    """
    head = classifier_of(module, images) if classifier else None
    total = _size(module) - _idle(module, images)
    if head is not None:
        total -= _size(module.get_submodule(head))
    opened = set()
    while True:
        children = list(_children(module, "", total, opened, set()))
        blocks = _groups(_run_order(module, images, children))
        if head is not None and blocks and f"{head}.".startswith(f"{blocks[-1]}."):
            blocks.pop()
        closed = [(_size(child), name) for name, child in children if any(child.children())]
        if len(blocks) >= 2 or not closed:
            break
        opened.add(max(closed)[1])
    if len(blocks) < 2:
        raise InputError(f"join: fewer than two blocks in {type(module).__name__}; name layers")
    places = np.linspace(0, len(blocks) - 2, min(MOST, len(blocks) - 1)).round().astype(int)
    return [blocks[place] for place in places]


def _children(module, prefix, total, opened, seen):
    """Pairs of name and block of a model, containers opened; one under two names once."""
    torch = need("torch", "extracting features")
    containers = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if id(child) in seen:
            continue
        seen.add(id(child))
        nearly_all = any(child.children()) and _size(child) > 0.9 * total
        if type(child) in containers or nearly_all or full in opened:
            yield from _children(child, f"{full}.", total, opened, seen)
        else:
            yield full, child


def _size(module):
    return sum(one.numel() for one in module.parameters())


def _idle(module, images):
    """Parameters of the parts that do not run, as the half of CLIP that is for texts.

    Of parts with layers in them: a layer's weights may be used without a call of it, as those of
    ``torch.nn.MultiheadAttention``.
    """
    named, ran = list(module.named_modules()), set()

    def reached(name, _):
        while name and name not in ran:  # and so did what holds it, if only as a list of layers
            ran.add(name)
            name = name.rpartition(".")[0]

    _run(module, images, named, reached)
    idle = [(name, one) for name, one in named if name and name not in ran and any(one.children())]
    return sum(
        _size(one)
        for name, one in idle
        if not any(name.startswith(f"{other}.") for other, _ in idle)
    )


def _run(module, images, layers, reached):
    """Run a model, calling ``reached(name, output)`` for each of some layers."""
    torch = need("torch", "extracting features")
    with watched(layers, reached), torch.inference_mode():
        module(images)


def may_classify(module):
    """Layers, by name, that can be a classifier: linear ones, else convolutions of 1 x 1."""
    torch = need("torch", "extracting features")
    named = list(module.named_modules())
    linear = [(name, one) for name, one in named if isinstance(one, torch.nn.Linear)]
    return linear or [
        (name, one)
        for name, one in named
        if isinstance(one, torch.nn.Conv2d) and one.kernel_size == (1, 1)
    ]


def classifier_of(module, images):
    """Name of the layer that is reached last of those that may classify, or None."""
    order = []
    _run(module, images, may_classify(module), lambda name, _: order.append(name))
    return order[-1] if order else None


def _run_order(module, images, layers):
    """Of these layers those that run once and give a row for each image, in their order."""
    torch = need("torch", "extracting features")
    outputs, calls = {}, dict.fromkeys((name for name, _ in layers), 0)

    def reached(name, given):
        calls[name] += 1
        given = tensor_of(given)
        if isinstance(given, torch.Tensor) and given.is_floating_point() and given.ndim > 1:
            outputs[name] = len(given) == len(images)

    _run(module, images, layers, reached)
    known = dict(layers)
    return [(name, known[name]) for name, rows in outputs.items() if rows and calls[name] == 1]


def _groups(layers):
    """Of each block, the name of the layer that gives its output."""
    blocks = []
    for name, layer in layers:
        weights, kind = list(layer.parameters()), type(layer).__name__
        # What is called a pooler makes another feature of the last block's output.
        if "Pooler" in kind or (not weights and any(word in kind for word in _LITTLE)):
            continue
        if any(one.ndim > 1 for one in weights) or any(layer.children()):
            blocks.append(name)
        elif blocks:  # a norm or an activation
            blocks[-1] = name
    return blocks
