"""Models by name: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME-or-path``.

Weights may come from a file, ``timm:NAME,weights=FILE``: safetensors, or what ``torch.load`` reads
with ``weights_only=True``. Nothing that is unpickled may run code.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .._optional import need
from .._text import one_line
from ..errors import InputError, InputTypeError, LeadFastError
from .hf import hf_model
from .names import Spec
from .weights import fill, load_weights, read_weights


@dataclass
class Source:
    """A model that is ready to be run.

    Attributes
    ----------
    name : str
        For the file of its features.
    module : torch.nn.Module
        In evaluation mode.
    transform : callable or None
        Its own preparation of an image of PIL.
    preprocessing : str
        A description of that, which belongs to the match of files.
    settings : str
        What decides its forward pass beside its weights and the layers that it prints.
    classifier : bool
        Whether the output is logits, and features are what goes into the layer that gives them.
    forward : callable or None
        Gives these features and logits of a batch of images, where the library says how.
    kind : str
        What features of no layer are called in files, so that others are not kept for them.
    """

    name: str
    module: object
    transform: object = None
    preprocessing: str = "default"
    classifier: bool = False
    settings: str = ""
    forward: object = None
    kind: str = ""


def open_model(model, logits=False, name=None):
    """Load a model: :class:`Source`.

    Parameters
    ----------
    model : str or torch.nn.Module
    logits : bool
        Whether the model's classifier is wanted, too.
    name : str, optional
        By default what `model` is called.
    """
    torch = need("torch", "extracting features")
    if isinstance(model, torch.nn.Module):
        source = _module(model, name or type(model).__name__)
    elif isinstance(model, str):
        source = _by_name(model, logits, name)
    else:
        raise InputTypeError(f"model: expected a module or a name, not {type(model).__name__}")
    if logits and source.kind and not source.classifier:
        what = model if isinstance(model, str) else source.name
        raise InputError(f"{what}: has no classifier, so it has no logits")
    return source


def _by_name(model, logits, name):
    spec = Spec.parse(model)
    make = {"timm": _timm, "torchvision": _torchvision, "hf": _hf}[spec.kind]
    try:
        source = make(spec.model, spec.weights or None, logits)
    except LeadFastError as error:
        raise type(error)(f"{model}: {error}") from error.__cause__ or error
    except Exception as error:  # each library has exceptions of its own, down to the network's
        raise InputError(f"{model}: cannot be loaded ({one_line(error)})") from error
    source.name = name or spec.resolved().called()
    source.module.eval()
    return source


def _module(model, name):
    """A module of the caller's."""
    model = getattr(model, "_orig_mod", model)  # compiled, which calls no hooks
    try:
        model.eval()
    except Exception as error:  # of torch.export's, for one
        raise InputError(f"{name}: cannot be set to evaluation ({one_line(error)})") from error
    timm = sys.modules.get("timm")
    if timm is None or not type(model).__module__.startswith("timm."):
        return Source(name, model)
    return _of_timm(timm, name, model)


def _timm(name, weights, _):
    timm = need("timm", "a model of timm")
    if not weights:
        return _of_timm(timm, name, timm.create_model(name, pretrained=True))
    module = timm.create_model(name)
    state = read_weights(weights, module)
    classes = _classes_of_timm(module, state)
    if classes != getattr(module, "num_classes", classes):
        module = timm.create_model(name, num_classes=classes)
    fill(module, state, weights)
    return _of_timm(timm, name, module)


def _classes_of_timm(module, state):
    """Classes of fine-tuned weights; 0 where they have no classifier."""
    layers = (getattr(module, "pretrained_cfg", None) or {}).get("classifier")
    layer = layers[0] if isinstance(layers, tuple | list) and layers else layers
    own = module.state_dict().get(f"{layer}.weight")
    if own is None:  # another kind of classifier
        return getattr(module, "num_classes", 0)
    given = state.get(f"{layer}.weight")
    return 0 if given is None else len(given)


def _of_timm(timm, name, module):
    config = timm.data.resolve_data_config({}, model=module)
    transform = timm.data.create_transform(**config)
    source = Source(name, module, transform, repr(sorted(config.items())), True)
    if hasattr(module, "forward_head"):  # not in every model that users register
        source.kind = "forward_head"
        # Many that learned without labels have no classifier, and give their features.
        source.classifier = getattr(module, "num_classes", 1) > 0
        source.forward = _timm_forward(module) if source.classifier else None
    return source


def _timm_forward(module):
    """Features and logits as timm defines them.

    Hooks would see one of the two inputs of models with two classifiers.
    """

    def forward(images):
        found = module.forward_features(images)
        return module.forward_head(found, pre_logits=True), module.forward_head(found)

    return forward


def _torchvision(name, weights, _):
    models = need("torchvision.models", "a model of torchvision")
    default = models.get_model_weights(name).DEFAULT
    module = models.get_model(name, weights=None if weights else default)
    if weights:
        load_weights(module, weights)
    transform = default.transforms()
    return Source(name, module, transform, repr(transform), True)


def _hf(name, weights, logits):
    if weights:
        raise InputError("give the folder of the model, which has its weights, as NAME")
    module, processor, settings = hf_model(name, logits)

    def transform(image):
        found = processor(image, return_tensors="pt")
        if "spatial_shapes" in found:
            raise InputError(
                "the model takes patches of images of any shape, which is not supported"
            )
        return found["pixel_values"][0]

    return Source(name, module, transform, processor.to_json_string(), logits, settings)
