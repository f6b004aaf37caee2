"""Find the hidden layers of any network: what its blocks give, before the last of them."""

from __future__ import annotations

import numpy as np

from .._optional import need
from ..errors import InputError
from .hooks import watched
from .outputs import tensor_of

_NEARLY_ALL = 0.89  # of the parameters, in what only holds the blocks; 0.8995 in a SigLIP
MOST = 4  # layers that are kept, evenly among those that there are
_LITTLE = ("Pool", "Dropout", "DropPath", "Flatten", "Identity")  # change no feature of interest


def hidden_layers(module, images, classifier=False):
    """Names of at most `MOST` hidden layers, in the order in which they are run.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    images : tensor (B, ...)
        What it is run on, a few times.
    classifier : bool
        Whether it ends with a classifier, which is no block.

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
    heads = _heads(module, images) if classifier else []
    total = _running(module, images) - sum(_size(module.get_submodule(name)) for name in heads)
    opened = set()
    while True:
        children = list(_children(module, "", total, opened, set()))
        blocks = _groups(_run_order(module, images, children))
        classify = [place for place, block in enumerate(blocks) if _meet(block, heads)]
        del blocks[min(classify, default=len(blocks)) :]  # and what runs after it
        closed = [(_size(child), name) for name, child in children if any(child.children())]
        if len(blocks) >= 2 or not closed:
            break
        opened.add(max(closed)[1])
    if len(blocks) < 2:
        raise InputError(f"join: fewer than two blocks in {type(module).__name__}; name layers")
    places = np.linspace(0, len(blocks) - 2, min(MOST, len(blocks) - 1)).round().astype(int)
    return [blocks[place][-1] for place in places]


def _children(module, prefix, total, opened, seen):
    """Pairs of name and block of a model, containers opened; one under two names once."""
    torch = need("torch", "extracting features")
    containers = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if id(child) in seen:
            continue
        seen.add(id(child))
        nearly_all = any(child.children()) and _size(child) > _NEARLY_ALL * total
        if type(child) in containers or nearly_all or full in opened:
            yield from _children(child, f"{full}.", total, opened, seen)
        else:
            yield full, child


def _size(module):
    return sum(one.numel() for one in module.parameters())


def _meet(names, others):
    """Whether one of some modules is one of others, or a part of it, or has it among its parts."""
    return any(
        f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")
        for name in names
        for other in others
    )


def _running(module, images):
    """Parameters without those of parts that do not run, as the half of CLIP that is for texts.

    Parts have layers in them: a layer's weights may be used without a call of it, as those of
    ``torch.nn.MultiheadAttention``.
    """
    known = {name: one for name, one in module.named_modules() if name}
    ran = set()

    def reached(name, _):
        while name and name not in ran:  # and so did what holds it, if only as a list of layers
            ran.add(name)
            name = name.rpartition(".")[0]

    _run(module, images, known.items(), reached)
    used, idle = set(), set()
    for name, one in known.items():
        if name in ran:
            used.update(one.parameters(recurse=False))
        elif any(one.children()):
            idle.update(one.parameters())
    return _size(module) - sum(one.numel() for one in idle - used)


def _run(module, images, layers, reached):
    """Run a model, calling ``reached(name, output)`` for each of some layers; its output."""
    torch = need("torch", "extracting features")
    seen = [pair for pair in layers if not isinstance(pair[1], torch.jit.ScriptModule)]
    with watched(seen, reached), torch.inference_mode():  # scripted ones take no hooks
        return module(images)


def may_classify(module):
    """Linear layers and 1 x 1 convolutions, with their names."""
    torch = need("torch", "extracting features")
    return [
        (name, one)
        for name, one in module.named_modules()
        if isinstance(one, torch.nn.Linear)
        or (isinstance(one, torch.nn.Conv2d) and one.kernel_size == (1, 1))
    ]


def classifier_of(module, images):
    """Name of the last linear layer, or 1 x 1 convolution, that gives the output; or None.

    A convolution's map is averaged over its places; a ReLU or soft-max may follow. Of two whose
    outputs are averaged, as those of distilled models, the last.
    """
    torch = need("torch", "extracting features")
    given = {}

    def reached(name, value):
        given.pop(name, None)  # so that the last one is the last
        if value.ndim == 4:
            given[name] = [one.mean((-2, -1)) for one in (value, value.relu())]
        elif value.ndim == 2:  # of sequences no layer gives the logits
            given[name] = [value.clone(), value.relu(), value.softmax(1), value.log_softmax(1)]

    output = tensor_of(_run(module, images, may_classify(module), reached))
    if not isinstance(output, torch.Tensor) or output.ndim < 2:
        return None
    output = output.flatten(2).mean(2) if output.ndim > 2 else output
    near = 1e-3 * float(output.abs().max())

    def same(value):
        return value.shape == output.shape and bool(((value - output).abs() <= near).all())

    for name, values in reversed(given.items()):
        if any(same(value) for value in values):
            return name
    fitting = [name for name, values in given.items() if values[0].shape == output.shape][-2:]
    averaged = len(fitting) == 2 and same(sum(given[name][0] for name in fitting) / 2)
    # What is not finite equals nothing, and is an error of its own later.
    return fitting[-1] if averaged or (fitting and not output.isfinite().all()) else None


def _heads(module, images):
    """Names of the layers that classify, for :func:`hidden_layers`."""
    if hasattr(module, "get_classifier"):  # timm's, and there may be two
        found = module.get_classifier()
        found = set(found if isinstance(found, tuple | list) else [found])
        return [name for name, one in module.named_modules() if one in found]
    name = classifier_of(module, images)
    return [] if name is None else [name]


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
    """Names of each block's layers, of which the last gives its output."""
    blocks = []
    for name, layer in layers:
        weights, kind = list(layer.parameters()), type(layer).__name__
        # What is called a pooler makes another feature of the last block's output.
        if "Pooler" in kind or (not weights and any(word in kind for word in _LITTLE)):
            continue
        if any(one.ndim > 1 for one in weights) or any(layer.children()):
            blocks.append([name])
        elif blocks:  # a norm or an activation
            blocks[-1].append(name)
    return blocks
