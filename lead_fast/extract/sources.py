"""Models by name: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME-or-path``.

Weights may come from a file, ``timm:NAME,weights=FILE``: safetensors, or what ``torch.load`` reads
with ``weights_only=True``. Nothing that is unpickled may run code.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .._optional import need
from .._text import one_line
from ..errors import InputError, InputTypeError
from .hf import hf_model
from .names import Spec


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
    """

    name: str
    module: object
    transform: object = None
    preprocessing: str = "default"
    classifier: bool = False
    settings: str = ""
    forward: object = None


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
        return Source(name or type(model).__name__, model.eval())
    if not isinstance(model, str):
        raise InputTypeError(f"model: expected a module or a name, not {type(model).__name__}")
    spec = Spec.parse(model)
    make = {"timm": _timm, "torchvision": _torchvision, "hf": _hf}[spec.kind]
    try:
        source = make(spec.model, spec.weights or None, logits)
    except InputError as error:
        raise type(error)(f"{model}: {error}") from error
    except Exception as error:  # each library has exceptions of its own, down to the network's
        raise InputError(f"{model}: cannot be loaded ({one_line(error)})") from error
    source.name = name or spec.resolved().called()
    source.module.eval()
    return source


def load_weights(module, path):
    """Fill a module with the weights of a file.

    Raises
    ------
    InputError
        A file that cannot be read, holds more than tensors, or does not fit.
    """
    torch = need("torch", "extracting features")
    try:
        if str(path).endswith(".safetensors"):
            state = need("safetensors.torch", "reading weights").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and the system's
        raise InputError(f"{path}: cannot be read as weights ({one_line(error)[:300]})") from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if isinstance(state, dict) and not hasattr(state, "_metadata"):
        # Safetensors keep no versions of modules, and torchvision's MNASNet loads nothing without
        # its own. Not of the layers in it: older files of batch norms, above all, are to fit.
        state = OrderedDict(state)
        state._metadata = {"": {"version": module._version}}
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: does not fit the model ({one_line(error)[:300]})") from error


def _timm(name, weights, logits):
    timm = need("timm", "a model of timm")
    module = timm.create_model(name, pretrained=weights is None)
    if weights:
        load_weights(module, weights)
    config = timm.data.resolve_data_config({}, model=module)
    transform = timm.data.create_transform(**config)
    preprocessing = repr(sorted(config.items()))
    if not hasattr(module, "forward_head"):  # one that a user has registered
        return Source(name, module, transform, preprocessing, True)
    # The settings tell from files that hold what hooks had found.
    if module.num_classes > 0:
        forward = _timm_forward(module)
        return Source(name, module, transform, preprocessing, True, "forward_head", forward)
    if logits:
        raise InputError("has no classifier, so it has no logits")
    return Source(name, module, transform, preprocessing, False, "forward_head")


def _timm_forward(module):
    """Features and logits as timm defines them.

    Hooks would see one of the two inputs of models with two classifiers.
    """

    def forward(images):
        found = module.forward_features(images)
        return module.forward_head(found, pre_logits=True), module.forward_head(found)

    return forward


def _torchvision(name, weights, logits):
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
        return processor(image, return_tensors="pt")["pixel_values"][0]

    return Source(name, module, transform, processor.to_json_string(), logits, settings)
