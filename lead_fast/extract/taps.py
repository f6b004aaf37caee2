"""Take features and logits from one forward pass of a model, by hooks."""

from __future__ import annotations

import contextlib

from .._optional import need
from .._text import name_list
from ..errors import InputError
from .hidden import MOST, hidden_layers


def pooled(value, where):
    """One vector per image, (B, D), from what a layer gives.

    A map (B, C, H, W) is averaged over its places, and so is one of (B, H, W, C), which some
    transformers give and only H = W tells; a sequence (B, T, C) over its tokens. Of what
    Transformers' models return, ``pooler_output`` counts, else ``last_hidden_state``, else
    ``logits``; of tuples and lists the first.
    """
    torch = need("torch", "extracting features")
    for name in ("pooler_output", "last_hidden_state", "logits"):
        found = getattr(value, name, None)
        if found is None and isinstance(value, dict):
            found = value.get(name)
        if found is not None:
            value = found
            break
    while isinstance(value, tuple | list) and value:
        value = value[0]
    if not isinstance(value, torch.Tensor):
        raise InputError(f"{where}: gives a {type(value).__name__}, not a tensor")
    if value.ndim == 4 and value.shape[1] == value.shape[2] != value.shape[3]:
        return value.flatten(1, 2).mean(1)
    if value.ndim > 3:
        return value.flatten(2).mean(2)
    if value.ndim == 3:
        return value.mean(1)
    return value.reshape(len(value), -1)


class Taps:
    """What to take from a model's forward pass.

    Parameters
    ----------
    module : torch.nn.Module
    layers : list of str, optional
        Names as in ``module.named_modules()``. By default the output is the features; with
        `logits`, what goes into the last linear layer.
    logits : bool
        Whether the output of the model is kept as the logits of its classifier.
    join : bool
        Whether the features are the layers' outputs side by side; by default those of hidden
        layers, which are looked for with the first batch.

    Attributes
    ----------
    names : list of str
        Keys of the features.
    kinds : dict {name: str}
        What each is taken from, for the metadata of its file.
    """

    def __init__(self, module, layers=None, logits=False, join=False):
        torch = need("torch", "extracting features")
        self.module, self.logits, self.join = module, logits, join
        self._hooks = []  # (module, name, whether its input is taken)
        modules = dict(module.named_modules())
        if layers:
            absent = [name for name in layers if name not in modules or not name]
            if absent:
                held = name_list([name for name in modules if name], 20)
                raise InputError(f"layers: the model has no {name_list(absent)}; it has: {held}")
            if len(set(layers)) < len(layers):
                raise InputError(f"layers: a name given twice in {', '.join(layers)}")
            self.names = list(layers)
            self._hooks = [(modules[name], name, False) for name in layers]
        elif join:
            self.names = []
        elif logits:
            linear = [one for one in modules.values() if isinstance(one, torch.nn.Linear)]
            if not linear:
                raise InputError("logits: the model has no linear layer; name layers")
            self.names = [""]
            self._hooks = [(linear[-1], "", True)]
        else:
            self.names = [""]
        self.kinds = {name: name for name in self.names}
        self._layers = self.names
        if join:
            self.names = [""]
            self.kinds = {"": "join " + (",".join(layers) if layers else f"hidden, {MOST} at most")}

    def __call__(self, images):
        """Features ``{name: (B, D)}`` and logits (B, S) or None of a batch of images."""
        if not self._layers:
            self._layers = hidden_layers(self.module, images[:2], self.logits)
            modules = dict(self.module.named_modules())
            self._hooks = [(modules[name], name, False) for name in self._layers]
        found = {}
        with contextlib.ExitStack() as stack:
            for module, name, before in self._hooks:
                if before:
                    handle = module.register_forward_pre_hook(
                        lambda _, given, name=name: found.__setitem__(name, given[0])
                    )
                else:
                    handle = module.register_forward_hook(
                        lambda _, __, given, name=name: found.__setitem__(name, given)
                    )
                stack.callback(handle.remove)
            output = self.module(images)
        if not self._hooks:
            found[""] = output
        missing = [name for name in self._layers if name not in found]
        if missing:
            raise InputError(f"layers: not reached by a forward pass: {name_list(missing)}")
        logits = None
        if self.logits:
            logits = pooled(getattr(output, "logits", output), "the model")
        features = {n: pooled(found[n], f"layer {n}" if n else "the model") for n in self._layers}
        if self.join:  # in float32, as autocast gives different types
            torch = need("torch", "extracting features")
            features = {"": torch.cat([part.float() for part in features.values()], dim=1)}
        return features, logits
