"""Models of Transformers: ``hf:NAME-or-path``."""

from __future__ import annotations

import contextlib
import json

from .._optional import need
from ..errors import InputError


def hf_model(name, logits=False):
    """A model of Transformers whose output is its features or, with `logits`, its logits.

    Returns
    -------
    module : torch.nn.Module
        Takes a batch of images.
    processor
        Prepares an image.
    settings : str
        What the configuration says.
    """
    auto = need("transformers", "a model of Transformers")
    kind = auto.AutoModelForImageClassification if logits else auto.AutoModel
    # Safetensors only: the older files are pickles.
    with _quiet(auto.utils.logging):
        try:
            module, info = kind.from_pretrained(
                name, use_safetensors=True, output_loading_info=True
            )
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise
            what = "classifier of images" if logits else "model of images"
            raise InputError(f"Transformers has no {what} of this kind") from error
        processor = auto.AutoImageProcessor.from_pretrained(name)
    module.float()  # whatever the checkpoint's type; autocast lowers what it may
    missing = sorted(info["missing_keys"])
    pair = hasattr(module, "get_image_features")  # of images and texts, as CLIP
    fresh = [key for key in missing if not _spare(key, pair, logits)]
    if fresh:
        raise InputError(f"has no weights for {', '.join(fresh[:5])}")
    state = module.state_dict()
    for key in missing:  # not used, but part of the fingerprint
        state[key].zero_()
    if module.config.model_type == "vit_mae":
        module.config.mask_ratio = 0.0  # by default three quarters of an image are not looked at
    settings = _settings(module.config)
    if not logits:
        module = _images_of_pair(module) if pair else _hidden_state(module, pooler=not missing)
    return module, processor, settings


def _spare(key, pair, logits):
    """Whether a weight that a checkpoint lacks is not needed: of a pooler whose output is not.

    Transformers fills it with random numbers.
    """
    return "pooler" in key and not logits and (not pair or "text" in key)


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


def _images_of_pair(model):
    """A model of images and texts, whose output is the features of images."""
    torch = need("torch", "extracting features")

    class ImageFeatures(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            output = self.model.get_image_features(pixel_values=images)
            # Up to Transformers 4 a tensor.
            return output if isinstance(output, torch.Tensor) else output.pooler_output

    return ImageFeatures()


def _hidden_state(model, pooler):
    """A model of Transformers whose output is its features.

    Without its pooler where the checkpoint has no weights for it.
    """
    torch = need("torch", "extracting features")
    names = ("pooler_output", "last_hidden_state") if pooler else ("last_hidden_state",)

    class HiddenState(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            output = self.model(pixel_values=images, **_unshuffled(self.model, images))
            for name in names:
                found = getattr(output, name, None)
                if found is not None:
                    return found
            maps = getattr(output, "feature_maps", None)  # of what Transformers calls a backbone
            if not maps:
                raise InputError(f"{type(self.model).__name__} gives no features")
            return maps[-1]

    return HiddenState()


def _unshuffled(model, images):
    """What keeps a masked autoencoder from drawing the order of an image's patches."""
    if model.config.model_type != "vit_mae":
        return {}
    torch = need("torch", "extracting features")
    patches = model.embeddings.patch_embeddings.num_patches
    return {"noise": torch.arange(patches, device=images.device).expand(len(images), -1)}
