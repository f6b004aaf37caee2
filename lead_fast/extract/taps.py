"""Take features and logits from one forward pass of a model, by hooks."""

from __future__ import annotations

from .._optional import need
from .._text import name_list
from ..errors import InputError
from .hidden import MOST, classifier_of, hidden_layers, may_classify
from .hooks import watched
from .outputs import pooled, tensor_of


class Taps:
    """What to take from a model's forward pass.

    Parameters
    ----------
    module : torch.nn.Module
    layers : list of str, optional
        Names as in ``module.named_modules()``. By default the output is the features; with
        `logits`, what goes into the classifier, see :func:`classifier_of`.
    logits : bool
        Whether the output of the model is kept as the logits of its classifier.
    join : bool
        Whether the features are the layers' outputs side by side; by default those of hidden
        layers, which are looked for with the first batch.
    forward : callable, optional
        Gives features and logits of a batch of images, for models that say themselves what goes
        into their classifier.
    kind : str
        What to call features of no layer.

    Attributes
    ----------
    layers : list of str
        Whose outputs are taken, "" for what the model gives otherwise; of hidden layers known from
        the first batch on.
    kinds : dict {name: str}
        By the features' keys, what they are taken from, for the metadata of their files.
    """

    def __init__(self, module, layers=None, logits=False, join=False, forward=None, kind=""):
        torch = need("torch", "extracting features")
        self.module, self.logits, self.join = module, logits, join
        if isinstance(module, torch.jit.ScriptModule) and (layers or logits or join):
            raise InputError("layers, join, logits: a scripted module lets nobody see its layers")
        modules = dict(module.named_modules())
        self._watched, self._inputs, self._forward = [], False, None
        if layers:
            absent = [name for name in layers if name not in modules or not name]
            if absent:
                held = name_list([name for name in modules if name], 20)
                raise InputError(f"layers: the model has no {name_list(absent)}; it has: {held}")
            if len(set(layers)) < len(layers):
                raise InputError(f"layers: a name given twice in {', '.join(layers)}")
            self._watch(layers)
        elif join:
            self.layers = []
        else:
            self.layers = [""]
            self._forward = forward
            if logits and not forward:
                if not may_classify(module):
                    raise InputError(
                        "logits: the model has no linear layer or 1 x 1 convolution; name layers"
                    )
                self._inputs = True  # of what is looked for with the first batch
        if join:
            joined = ",".join(layers) if layers else f"hidden blocks, {MOST} at most"
            self.kinds = {"": f"join {joined}"}
        else:
            self.kinds = {name: name or kind for name in self.layers}

    def _watch(self, layers):
        modules = dict(self.module.named_modules())
        self.layers = list(layers)
        self._watched = [(name, modules[name]) for name in layers]

    def __call__(self, images):
        """Features ``{name: (B, D)}`` and logits (B, S) or None of a batch of images."""
        if not self.layers:
            self._watch(hidden_layers(self.module, images[:2], self.logits))
        if self._inputs and not self._watched:
            name = classifier_of(self.module, images[:2])
            if name is None:
                raise InputError(_no_classifier(self.module(images[:2])))
            self._watched = [("", self.module.get_submodule(name))]
        found = {}

        def take(name, given):  # at once, as what follows may change it in place
            found[name] = pooled(given, f"layer {name}" if name else "the model", images)

        if self._forward:
            given, output = self._forward(images)
            take("", given)
        else:
            with watched(self._watched, take, self._inputs):
                output = self.module(images)
            if not self._watched:
                take("", output)
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise InputError(f"layers: not reached by a forward pass: {name_list(missing)}")
        logits = None
        if self.logits:
            if isinstance(output, tuple | list) and len(output) > 1 and not self._inputs:
                raise InputError(f"logits: the model gives {len(output)} outputs; which are they?")
            logits = pooled(getattr(output, "logits", output), "the model", images)
        features = {name: found[name] for name in self.layers}
        if self.join:  # in float32, as autocast gives different types
            torch = need("torch", "extracting features")
            features = {"": torch.cat([part.float() for part in features.values()], dim=1)}
        return features, logits


def _no_classifier(output):
    found = tensor_of(output)
    gives = f"gives {found.shape[1]} numbers an image" if getattr(found, "ndim", 0) > 1 else "runs"
    return (
        f"logits: the model {gives}, and reaches no linear layer or 1 x 1 convolution that gives "
        "the same, which would be its classifier; name layers"
    )
