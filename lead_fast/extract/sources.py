"""Models by name: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME-or-path``.

Weights may come from a file, ``timm:NAME,weights=FILE``: safetensors, or what ``torch.load`` reads
with ``weights_only=True``. Nothing that is unpickled may run code.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from .._optional import need
from .._text import one_line
from ..errors import InputError, InputTypeError
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
        Whether features are what goes into the last linear layer, and the output is logits.
    """

    name: str
    module: object
    transform: object = None
    preprocessing: str = "default"
    classifier: bool = False
    settings: str = ""


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
    except InputError:
        raise
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
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: does not fit the model ({one_line(error)[:300]})") from error


def _timm(name, weights, logits):
    timm = need("timm", "a model of timm")
    module = timm.create_model(name, pretrained=weights is None)
    if weights:
        load_weights(module, weights)
    config = timm.data.resolve_data_config({}, model=module)
    transform = timm.data.create_transform(**config)
    return Source(name, module, transform, repr(sorted(config.items())), True)


def _torchvision(name, weights, logits):
    models = need("torchvision.models", "a model of torchvision")
    default = models.get_model_weights(name).DEFAULT
    module = models.get_model(name, weights=None if weights else default)
    if weights:
        load_weights(module, weights)
    transform = default.transforms()
    return Source(name, module, transform, repr(transform), True)


def _hf(name, weights, logits):
    auto = need("transformers", "a model of Transformers")
    if weights:
        raise InputError("hf: give the folder of the model, which has its weights, as NAME")
    kind = auto.AutoModelForImageClassification if logits else auto.AutoModel
    # Safetensors only: the older files are pickles.
    with _quiet(auto.utils.logging):
        module, info = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        processor = auto.AutoImageProcessor.from_pretrained(name)
    missing = sorted(info["missing_keys"])
    fresh = [key for key in missing if "pooler" not in key]
    if fresh:
        raise InputError(f"hf:{name}: has no weights for {', '.join(fresh[:5])}")
    state = module.state_dict()
    for key in missing:  # not used, but part of the fingerprint
        state[key].zero_()

    def transform(image):
        return processor(image, return_tensors="pt")["pixel_values"][0]

    settings = _settings(module.config)
    if not logits:
        module = _hidden_state(module, pooler=not missing)
    return Source(name, module, transform, processor.to_json_string(), logits, settings)


def _settings(config):
    """What a model's configuration says, such as the number of attention's heads.

    Not where it lies and who wrote it, which some versions of Transformers add.
    """
    found = config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        found.pop(key, None)
    return json.dumps(found, sort_keys=True, default=str)


@contextlib.contextmanager
def _quiet(logging):
    """Without Transformers' own bars, and its table of weights that are not used here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _hidden_state(model, pooler):
    """A model of Transformers whose output is its features.

    Without its pooler where the checkpoint has none: Transformers fills that with random numbers.
    """
    torch = need("torch", "extracting features")

    class HiddenState(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            output = self.model(pixel_values=images)
            found = getattr(output, "pooler_output", None) if pooler else None
            return output.last_hidden_state if found is None else found

    return HiddenState()
