"""Features of models of timm, torchvision and Transformers, as each library defines them."""

import json
import sys
import types

import numpy as np
import pytest

import lead_fast
from lead_fast import _optional as optional
from lead_fast.errors import InputError
from lead_fast.extract import images, sources
from lead_fast.extract.hidden import classifier_of, hidden_layers

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("PIL.Image")
pytest.importorskip("extracting")
nn = torch.nn


def importable(name):
    """Why a library cannot be used here, or None."""
    try:
        optional.need(name, "this test")
    except optional.MissingError as error:
        return str(error)
    return None


def stacked(source, folder):
    data = images.ImageFolder(folder, source.transform)
    return torch.stack([data[i][0] for i in range(len(data))])


# --------------------------------------------------------------------------------------------- timm


def timm_spec(name, tmp_path, **options):
    """A model of timm with weights from a file: ``(spec, module)``."""
    reason = importable("timm")
    if reason:
        pytest.skip(reason)
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, **options).eval()
    safetensors.save_file(module.state_dict(), tmp_path / "w.safetensors")
    return f"timm:{name},weights={tmp_path}/w.safetensors", module


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t.c3_in1k",
        "crossvit_tiny_240.in1k",  # two classifiers, of 96 and 192 features
        "deit_tiny_distilled_patch16_224.fb_in1k",  # two, of as many
        "dla46x_c.in1k",  # a convolution
        "efficientvit_m0.r224_in1k",
    ],
)
def test_a_model_of_timm(name, folder, tmp_path):
    spec, module = timm_spec(name, tmp_path)
    found = lead_fast.extract(spec, folder, logits=True, dtype="float32")
    x = stacked(sources.open_model(spec), folder)
    with torch.inference_mode():
        before = module.forward_head(module.forward_features(x), pre_logits=True).numpy()
        logits = module(x).numpy()
    assert found.features[""].shape == (8, module.num_features)
    assert np.allclose(found.features[""], before, rtol=0, atol=1e-5 * np.abs(before).max())
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert np.array_equal(
        lead_fast.extract(spec, folder, dtype="float32").features[""], found.features[""]
    )
    joined = lead_fast.extract(spec, folder, join=True)
    assert 2 < len(joined.layers) <= 4 and joined.features[""].shape[0] == 8


def test_a_model_of_timm_without_a_classifier(folder, tmp_path):
    """As those that learned without labels."""
    spec, module = timm_spec("vit_small_patch16_224.dino", tmp_path)
    assert module.num_classes == 0
    found = lead_fast.extract(spec, folder, dtype="float32").features[""]
    with torch.inference_mode():
        expected = module(stacked(sources.open_model(spec), folder)).numpy()
    assert found.shape == (8, module.num_features)
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(InputError, match="has no classifier"):
        lead_fast.extract(spec, folder, logits=True)


class TwoHeads(nn.Module):
    """The part of timm's interface that is used here: two classifiers whose logits are averaged."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.pretrained_cfg = {"classifier": ("heads.0", "heads.1")}
        self.num_classes = num_classes
        self.stem, self.body = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 3)
        self.heads = nn.ModuleList(nn.Linear(n, num_classes) for n in (4, 6) if num_classes)

    def get_classifier(self):
        return tuple(self.heads)

    def forward_features(self, x):
        first = self.stem(x).relu()
        return first, self.body(first)

    def forward_head(self, x, pre_logits=False):
        x = [one.mean((2, 3)) for one in x]
        if pre_logits or not self.num_classes:
            return torch.cat(x, 1)
        return sum(head(one) for head, one in zip(self.heads, x, strict=True)) / 2

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@pytest.fixture
def like_timm(monkeypatch):
    """A library with timm's functions and one model; its name decides on the classifier."""
    library = types.ModuleType("timm")
    transform = images.default_transform

    def create_model(name, pretrained=False, num_classes=5):
        torch.manual_seed(0)
        if name == "own":
            return nn.Sequential(
                nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )
        return TwoHeads(0 if name == "none" else num_classes)

    library.create_model = create_model
    library.data = types.SimpleNamespace(
        resolve_data_config=lambda _, model: {"size": 32},
        create_transform=lambda size: lambda image: transform(image, size),
    )
    monkeypatch.setitem(sys.modules, "timm", library)


def test_features_are_what_timm_takes_for_them(like_timm, folder):
    found = lead_fast.extract("timm:two", folder, logits=True, dtype="float32")
    source = sources.open_model("timm:two")
    x = stacked(source, folder)
    with torch.inference_mode():
        before = source.module.forward_head(source.module.forward_features(x), True).numpy()
        logits = source.module(x).numpy()
    assert before.shape == (8, 10)
    assert np.allclose(found.features[""], before, rtol=0, atol=1e-6)
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-6)
    layers = lead_fast.extract("timm:two", folder, logits=True, layers=["stem"])
    assert layers.features["stem"].shape == (8, 4)
    assert np.allclose(layers.logits, logits, rtol=0, atol=1e-6)
    # Without a classifier the output is the features, whatever linear layers there are.
    alone = lead_fast.extract("timm:none", folder, dtype="float32")
    assert np.allclose(alone.features[""], before, rtol=0, atol=1e-6) and alone.logits is None
    with pytest.raises(InputError, match="timm:none: has no classifier"):
        lead_fast.extract("timm:none", folder, logits=True)
    # What users have registered need not have timm's methods.
    own = lead_fast.extract("timm:own", folder, logits=True)
    assert own.features[""].shape == (8, 4) and own.logits.shape == (8, 3)


def test_hidden_layers_stop_before_all_classifiers(like_timm, folder):
    joined = lead_fast.extract("timm:two", folder, join=True)
    assert joined.layers == ["stem"]  # of stem and body


@pytest.mark.parametrize("classes", [5, 3, 0])
def test_weights_of_another_number_of_classes(like_timm, folder, tmp_path, classes):
    """Of a model that has been fine-tuned, or learned without labels."""
    torch.manual_seed(4)
    donor = TwoHeads(classes).eval()
    torch.save({"model": donor.state_dict(), "epoch": 3}, tmp_path / "w.pt")
    found = lead_fast.extract(f"timm:two,weights={tmp_path}/w.pt", folder, logits=classes > 0)
    x = stacked(sources.open_model("timm:two"), folder)
    with torch.inference_mode():
        before = donor.forward_head(donor.forward_features(x), True).numpy()
    assert np.allclose(found.features[""], before, rtol=0, atol=1e-3)
    assert classes == 0 or found.logits.shape == (8, classes)


def test_a_module_of_timm_is_treated_as_by_its_name(folder, tmp_path):
    spec, module = timm_spec("test_vit.r160_in1k", tmp_path)
    by_name = lead_fast.extract(spec, folder, logits=True)
    given = lead_fast.extract(module, folder, logits=True)  # 160 pixels, a mean of 0.5
    assert np.array_equal(given.features[""], by_name.features[""])
    assert np.array_equal(given.logits, by_name.logits)


def test_fine_tuned_weights_of_timm(folder, tmp_path):
    _, module = timm_spec("resnet10t.c3_in1k", tmp_path, num_classes=7)
    found = lead_fast.extract(
        f"timm:resnet10t.c3_in1k,weights={tmp_path}/w.safetensors", folder, logits=True
    )
    assert found.logits.shape == (8, 7) and found.features[""].shape == (8, module.num_features)


# -------------------------------------------------------------------------------------- torchvision


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("shufflenet_v2_x0_5", 1024),
        ("squeezenet1_1", 512),  # its classifier is a convolution
        ("mnasnet0_5", 1280),  # does not load weights without a version
    ],
)
def test_a_model_of_torchvision(name, width, folder, tmp_path):
    reason = importable("torchvision")
    if reason:
        pytest.skip(reason)
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    safetensors.save_file(module.state_dict(), tmp_path / "w.safetensors")
    spec = f"torchvision:{name},weights={tmp_path}/w.safetensors"
    found = lead_fast.extract(spec, folder, logits=True)
    assert found.features[""].shape == (8, width)
    with torch.inference_mode():
        logits = module(stacked(sources.open_model(spec), folder)).numpy()
    assert logits.shape[1] == 1000
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    joined = lead_fast.extract(spec, folder, join=True)
    assert len(joined.layers) == 4 and joined.features[""].shape[0] == 8


class Squeeze(nn.Module):
    """Without a linear layer: a convolution of 1 x 1 gives a map of logits, which are averaged."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU())
        self.classifier = nn.Conv2d(6, 5, 1)
        self.classifier.bias.data.zero_()  # so that the ReLU matters

    def forward(self, x):
        return self.classifier(self.body(x)).relu().mean((2, 3))


def test_a_convolution_that_classifies():
    torch.manual_seed(0)
    net, data = Squeeze(), [(torch.rand(3, 16, 16), i % 3) for i in range(6)]
    x = torch.stack([image for image, _ in data])
    assert classifier_of(net, x) == "classifier"
    assert hidden_layers(net, x, True) == ["body.1"]
    found = lead_fast.extract(net, data, logits=True, dtype="float32")
    with torch.inference_mode():
        before, logits = net.body(x).mean((2, 3)).numpy(), net(x).numpy()
    assert np.allclose(found.features[""], before, rtol=0, atol=1e-6)
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-6)
    net.forward = lambda x: torch.cat([Squeeze.forward(net, x)] * 2, 1)
    with pytest.raises(InputError, match=r"10 numbers an image, .* 1 x 1 convolution"):
        lead_fast.extract(net, data, logits=True)


class Versioned(nn.Linear):
    """Loads nothing that does not say of which version it is."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version") != 2:
            raise ValueError("version should be 2")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_weights_without_versions(tmp_path):
    donor, module = Versioned(3, 2), Versioned(3, 2)
    safetensors.save_file(donor.state_dict(), tmp_path / "w.safetensors")
    sources.load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.weight, donor.weight)
    # A batch norm as it was before it counted batches, which is known by having no version.
    old = nn.Sequential(nn.BatchNorm1d(3))
    state = {name: one for name, one in old.state_dict().items() if "num_batches" not in name}
    safetensors.save_file(state, tmp_path / "old.safetensors")
    sources.load_weights(nn.Sequential(nn.BatchNorm1d(3)), tmp_path / "old.safetensors")
    # What says that it is older is told so.
    state = donor.state_dict()
    state._metadata[""]["version"] = 1
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt: does not fit .*version should be 2"):
        sources.load_weights(module, tmp_path / "w.pt")


# ------------------------------------------------------------------------------------- Transformers

PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True,
    "do_normalize": True, "rescale_factor": 1 / 255, "size": {"height": 32, "width": 32},
    "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
}  # fmt: skip
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """Save a small model of Transformers with random weights: ``saved(kind, **settings)``."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")

    def save(kind, **settings):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **settings)
        model = transformers.AutoModel.from_config(config).eval()
        model.save_pretrained(tmp_path / kind)
        (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        return f"hf:{tmp_path / kind}", model

    return save


def test_a_masked_autoencoder_sees_whole_images(saved, folder):
    """By default it draws three quarters of an image's patches, which it does not look at."""
    spec, model = saved("vit_mae", **SMALL)
    found = lead_fast.extract(spec, folder, dtype="float32").features[""]
    assert np.array_equal(lead_fast.extract(spec, folder, dtype="float32").features[""], found)
    x = stacked(sources.open_model(spec), folder)
    model.config.mask_ratio = 0.0
    with torch.inference_mode():
        expected = model(pixel_values=x).last_hidden_state
    assert expected.shape == (8, 17, 16)  # all patches, and the first token
    expected = expected.mean(1).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_half_of_clip_that_is_for_images(saved, folder):
    text = {**SMALL, "num_hidden_layers": 9, "vocab_size": 999}
    spec, model = saved("clip", text_config=text, vision_config=SMALL, projection_dim=12)
    found = lead_fast.extract(spec, folder, dtype="float32")
    x = stacked(sources.open_model(spec), folder)
    with torch.inference_mode():
        expected = model.visual_projection(model.vision_model(x).pooler_output).numpy()
    assert found.features[""].shape == (8, 12)
    assert np.allclose(found.features[""], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # Hidden layers are those of its encoder, although most of the parameters are for texts.
    joined = lead_fast.extract(spec, folder, join=True)
    assert all(layer.startswith("model.vision_model.") for layer in joined.layers)
    assert len(joined.layers) > 1


def test_a_backbone_of_transformers(saved, folder):
    """What ``AutoModel`` gives for some networks has maps of features and nothing else."""
    spec, model = saved(
        "hgnet_v2", stem_channels=[3, 4, 6], stage_in_channels=[6, 8, 12, 16],
        stage_mid_channels=[4, 4, 6, 8], stage_out_channels=[8, 12, 16, 20],
        stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1, 1, 1, 1], embedding_size=6,
        hidden_sizes=[8, 12, 16, 20],
    )  # fmt: skip
    found = lead_fast.extract(spec, folder, dtype="float32").features[""]
    with torch.inference_mode():
        maps = model(stacked(sources.open_model(spec), folder)).feature_maps
    expected = maps[-1].mean((2, 3)).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def drop(path, word):
    """Take the weights whose names have a word out of a checkpoint."""
    file = path.removeprefix("hf:") + "/model.safetensors"
    kept = {name: one for name, one in safetensors.load_file(file).items() if word not in name}
    safetensors.save_file(kept, file, {"format": "pt"})


def test_a_checkpoint_without_poolers(saved, folder):
    text = {**SMALL, "num_hidden_layers": 1, "vocab_size": 99}
    config = {"vision_config": {"model_type": "vit", **SMALL},
              "text_config": {"model_type": "bert", **text, "max_position_embeddings": 64},
              "projection_dim": 12}  # fmt: skip
    spec, _ = saved("vision-text-dual-encoder", **config)
    expected = lead_fast.extract(spec, folder).features[""]
    assert expected.shape == (8, 12)
    drop(spec, "text_model.pooler")  # which images do not need
    assert np.array_equal(lead_fast.extract(spec, folder).features[""], expected)
    drop(spec, "pooler")
    with pytest.raises(InputError, match=r"has no weights for vision_model\.pooler"):
        lead_fast.extract(spec, folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_checkpoints_of_half_precision_are_run_in_float32(saved, folder, dtype):
    spec, model = saved("convnext", hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1])
    model.to(getattr(torch, dtype)).save_pretrained(spec.removeprefix("hf:"))
    assert sources.open_model(spec).module.model.dtype == torch.float32
    assert lead_fast.extract(spec, folder).features[""].shape == (8, 10)


def test_no_classifier_in_transformers(saved, folder):
    spec, _ = saved("vit_mae", **SMALL)
    with pytest.raises(InputError, match="Transformers has no classifier of images of this kind"):
        lead_fast.extract(spec, folder, logits=True)


class Patches:
    """What a processor of NaFlex gives."""

    def __call__(self, image, return_tensors):
        return {"pixel_values": torch.ones(1, 64, 192), "spatial_shapes": torch.ones(1, 2)}

    def to_json_string(self):
        return "{}"


def test_patches_of_images_of_any_shape(saved, folder, monkeypatch):
    spec, _ = saved("vit", **SMALL)
    source = sources.open_model(spec)
    assert source.transform(images.ImageFolder(folder, lambda x: x)[0][0]).shape == (3, 32, 32)
    monkeypatch.setattr(sources, "hf_model", lambda *_: (source.module, Patches(), "settings"))
    with pytest.raises(InputError, match="patches of images of any shape"):
        lead_fast.extract(spec, folder)
