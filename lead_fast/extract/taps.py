"""Take features and logits from one forward pass of a model, by hooks."""

from __future__ import annotations

import contextlib

from .._optional import need
from .._text import name_list
from ..errors import InputError
from .hidden import MOST, hidden_layers
from .outputs import pooled


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
    layers : list of str
        Whose outputs are taken; of hidden layers known from the first batch on.
    """

    def __init__(self, module, layers=None, logits=False, join=False):
        torch = need("torch", "extracting features")
        self.module, self.logits, self.join = module, logits, join
        if isinstance(module, torch.jit.ScriptModule) and (layers or logits or join):
            raise InputError("layers, join, logits: a scripted module lets nobody see its layers")
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
        self.layers = self.names
        if join:
            self.names = [""]
            self.kinds = {"": "join " + (",".join(layers) if layers else f"hidden, {MOST} at most")}

    def __call__(self, images):
        """Features ``{name: (B, D)}`` and logits (B, S) or None of a batch of images."""
        if not self.layers:
            self.layers = hidden_layers(self.module, images[:2], self.logits)
            modules = dict(self.module.named_modules())
            self._hooks = [(modules[name], name, False) for name in self.layers]
        found = {}

        def take(name, given):  # at once, as what follows may change it in place
            found[name] = pooled(given, f"layer {name}" if name else "the model", images)

        with contextlib.ExitStack() as stack:
            for module, name, before in self._hooks:
                if before:
                    handle = module.register_forward_pre_hook(
                        lambda _, given, name=name: take(name, given[0])
                    )
                else:
                    handle = module.register_forward_hook(
                        lambda _, __, given, name=name: take(name, given)
                    )
                stack.callback(handle.remove)
            output = self.module(images)
        if not self._hooks:
            take("", output)
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise InputError(f"layers: not reached by a forward pass: {name_list(missing)}")
        logits = None
        if self.logits:
            logits = pooled(getattr(output, "logits", output), "the model", images)
        features = {name: found[name] for name in self.layers}
        if self.join:  # in float32, as autocast gives different types
            torch = need("torch", "extracting features")
            features = {"": torch.cat([part.float() for part in features.values()], dim=1)}
        return features, logits
