"""Hidden layers: what counts as one, and their outputs side by side."""

import numpy as np
import pytest

import lead_fast
from lead_fast.errors import InputError
from lead_fast.extract.hidden import classifier_of, hidden_layers
from lead_fast.extract.outputs import pooled
from lead_fast.zoo import formats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
extracting = pytest.importorskip("extracting")
Net, pairs, small, nn = extracting.Net, extracting.pairs, extracting.small, torch.nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inside, outside):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1),
        )  # fmt: skip
        self.past = nn.Conv2d(inside, outside, 1)

    def forward(self, x):
        return self.body(x) + self.past(x)


class ResNet(nn.Module):
    """As torchvision builds them: stages in containers, the classifier an attribute."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8), Block(8, 8))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(x.flatten(1))


class Wrapped(nn.Module):
    """A model in another, whose layers run in another order than they were made."""

    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.after = nn.ModuleList(nn.Linear(6, 6) for _ in range(7))
        self.model.norm = nn.LayerNorm(6)
        self.model.embed = nn.Conv2d(3, 6, 4, 4)
        self.model.unused = nn.Linear(6, 6)

    def forward(self, x):
        x = self.model.embed(x).flatten(2).transpose(1, 2)
        for layer in self.model.after:
            x = x + layer(x)
        return self.model.norm(x)


def sequential(*layers):
    return nn.Sequential(*layers)


IMAGES = torch.rand(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("model", "classifier", "names"),
    [
        # A convolution and what follows it are a block; the last block is not hidden.
        (sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
         False, ["2"]),
        (sequential(nn.Flatten(), nn.Linear(768, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5),
                    nn.Tanh(), nn.Linear(5, 3)), False, ["2", "5"]),
        (sequential(nn.Flatten(), nn.Linear(768, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5),
                    nn.Tanh(), nn.Linear(5, 3)), True, ["2"]),
        # Four at most, evenly, the first and the last hidden one among them.
        (ResNet(), True, ["relu", "layer1.0", "layer1.1", "layer2.0"]),
        (ResNet(), False, ["relu", "layer1.0", "layer2.0", "layer2.1"]),  # fc is the last
        (Wrapped(), False, ["model.embed", "model.after.1", "model.after.3", "model.after.5"]),
        (sequential(*(nn.Conv2d(3, 3, 1) for _ in range(20))), False, ["0", "6", "12", "18"]),
    ],
)  # fmt: skip
def test_what_counts_as_hidden(model, classifier, names):
    model.eval()
    assert hidden_layers(model, IMAGES, classifier) == names
    assert not any(one._forward_hooks for one in model.modules())


class Alias(nn.Module):
    """Its stages stand in a list, too, which is not what runs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        for i in range(4):
            setattr(self, f"layer{i}", Block(4, 4))
        self.stages = nn.ModuleList([getattr(self, f"layer{i}") for i in range(4)])
        self.idle = nn.Sequential(nn.Linear(99, 99), nn.Linear(99, 99))

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(self.layer0(self.stem(x)))))


def test_parts_that_do_not_run():
    assert hidden_layers(Alias().eval(), IMAGES) == ["stem", "layer0", "layer1", "layer2"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_scripted_parts():
    model = ResNet().eval()
    model.relu = torch.jit.script(nn.ReLU())  # which takes no hooks
    names = ["bn1", "layer1.0", "layer1.1", "layer2.0"]
    assert hidden_layers(model, IMAGES, True)[1:] == names[1:]


@pytest.mark.parametrize("last", [nn.ReLU(), nn.Softmax(1), nn.LogSoftmax(1)])
def test_what_follows_a_classifier_belongs_to_it(last):
    layers = [nn.Flatten(), nn.Linear(768, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh()]
    alone = nn.Sequential(*layers, nn.Linear(5, 3)).eval()
    followed = nn.Sequential(*layers, nn.Linear(5, 3), last).eval()
    assert hidden_layers(alone, IMAGES, True) == hidden_layers(followed, IMAGES, True) == ["2"]
    assert classifier_of(followed, IMAGES) == "5"


class Auxiliary(nn.Module):
    """Another classifier of as many classes runs after that which gives the output."""

    def __init__(self, both):
        super().__init__()
        self.body, self.both = nn.Conv2d(3, 6, 3), both
        self.head, self.aux = nn.Linear(6, 5), nn.Linear(6, 5)

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        found = self.head(input=2 * x)
        aux = self.aux(x)
        return (found, aux) if self.both else found


@pytest.mark.parametrize("both", [False, True])
def test_the_classifier_gives_the_output(both):
    model = Auxiliary(both).eval()
    assert classifier_of(model, IMAGES) == "head"
    data = [(image, i) for i, image in enumerate(IMAGES)]
    found = lead_fast.extract(model, data, logits=True, dtype="float32")
    with torch.inference_mode():
        x = model.body(IMAGES).mean((2, 3))
        assert np.allclose(found.features[""], 2 * x, atol=1e-6)
        assert np.allclose(found.logits, model.head(2 * x), atol=1e-6)
    if both:
        with pytest.raises(InputError, match="2 outputs"):
            lead_fast.extract(model, data, logits=True, layers=["body"])
    del model.head, model.aux
    model.forward = lambda x: model.body(x).mean((2, 3))
    with pytest.raises(InputError, match="no linear layer"):
        lead_fast.extract(model, data, logits=True)


def test_classifiers_that_are_averaged():
    model = Auxiliary(False).eval()
    model.forward = lambda x: (
        sum(head(model.body(x).mean((2, 3))) for head in (model.head, model.aux)) / 2
    )
    assert classifier_of(model, IMAGES) == "aux"


def test_a_compiled_module_has_its_layers():
    model = ResNet().eval()
    data = [(image, i) for i, image in enumerate(IMAGES)]
    expected = lead_fast.extract(model, data, logits=True)
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)
    found = lead_fast.extract(compiled, data, logits=True)
    assert np.array_equal(found.features[""], expected.features[""])


class Fixed(nn.Module):
    """For batches of four, as traced modules may be."""

    def forward(self, x):
        return x.view(4, 3, 256).mean(2)


def test_batches_of_one_size():
    data = [(image, i % 2) for i, image in enumerate(torch.rand(8, 3, 16, 16))]
    assert lead_fast.extract(Fixed(), data, batch_size=4).features[""].shape == (8, 3)


def test_maps_of_images_that_are_not_square():
    images = torch.rand(2, 3, 56, 112)
    for shape, width in [((2, 14, 28, 96), 96), ((2, 96, 14, 28), 96), ((2, 2, 4, 768), 768),
                         ((2, 64, 7, 14), 64), ((2, 14, 14, 28), 14)]:  # fmt: skip
        assert pooled(torch.rand(shape), "it", images).shape == (2, width)
    square = torch.rand(2, 3, 64, 64)
    for shape, width in [((2, 8, 8, 15), 15), ((2, 8, 8, 8), 8), ((2, 16, 7, 8), 16)]:
        assert pooled(torch.rand(shape), "it", square).shape == (2, width)
    maps = [torch.rand(2, 8 << i, 32 >> i, 32 >> i) for i in range(3)]
    assert pooled(maps, "it", square).shape == (2, 32)  # the last of a pyramid


class PoolBlock(nn.Module):
    """A block with weights, whatever its name."""

    def __init__(self, outside):
        super().__init__()
        self.weights = nn.Linear(3, outside)

    def forward(self, x):
        return self.weights(x.movedim(1, 3))  # channels last, as Swin has them


def test_channels_last():
    model = sequential(PoolBlock(5), nn.LayerNorm(5), nn.Flatten(), nn.Linear(5 * 256, 2)).eval()
    assert hidden_layers(model, IMAGES) == ["1"]
    data = pairs()
    found = lead_fast.extract(model, data, join=True, dtype="float32").features[""]
    with torch.no_grad():
        maps = model[1](model[0](torch.stack([image for image, _ in data])))
    assert maps.shape == (20, 16, 16, 5)
    assert np.allclose(found, maps.mean((1, 2)).numpy(), atol=1e-5)


def test_too_few_blocks():
    for model in (sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten()):
        with pytest.raises(InputError, match=r"fewer than two blocks in \w+; name layers"):
            hidden_layers(model.eval(), IMAGES)
    with pytest.raises(InputError, match="name layers"):
        lead_fast.extract(sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), pairs(), join=True)


def test_outputs_side_by_side():
    net, data = Net(), pairs()
    apart = lead_fast.extract(net, data, layers=["first", "second"]).features
    joined = lead_fast.extract(net, data, layers=["second", "first"], join=True).features
    assert list(joined) == [""]
    assert np.array_equal(joined[""], np.hstack([apart["second"], apart["first"]]))
    model = ResNet().eval()
    hidden = lead_fast.extract(model, data, join=True, logits=True, batch_size=5)
    names = ["relu", "layer1.0", "layer1.1", "layer2.0"]
    apart = lead_fast.extract(model, data, layers=names).features
    assert np.allclose(hidden.features[""], np.hstack(list(apart.values())), atol=1e-3)
    assert hidden.logits.shape == (len(data), 5)
    assert not any(one._forward_hooks for one in model.modules())


def test_joined_files_are_known_by_their_layers(tmp_path, folder):
    net = ResNet().eval()

    def made(**options):
        return lead_fast.extract(net, folder, tmp_path / "zoo", name="net", transform=small,
                                 **options)  # fmt: skip

    found = made(join=True)
    assert found.paths == [tmp_path / "zoo" / "net.safetensors"] and not found.skipped
    assert formats.read_array(found.paths[0], "features").shape[1] == 4 + 4 + 8 + 8
    assert made(join=True).skipped
    assert not made(layers=["relu"], join=True).skipped
    assert formats.read_array(found.paths[0], "features").shape[1] == 4
    assert made(layers=["relu"], join=True).skipped
    assert not made().skipped and made().skipped  # the last layer, as ever
    assert not made(join=True).skipped


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_mixed_precision(precision):
    model = ResNet().eval()
    found = lead_fast.extract(model, pairs(), join=True, precision=precision).features[""]
    expected = lead_fast.extract(model, pairs(), join=True).features[""]
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=3e-2 * np.abs(expected).max())


class Shared(nn.Module):
    """One activation after every layer; a head that contains the classifier."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.act = nn.ReLU()
        self.head = nn.Module()
        self.head.fc = nn.Linear(3, 4)
        self.spare = nn.Linear(3, 9)

    def forward(self, x):
        for layer in (self.c1, self.c2, self.c3):
            x = self.act(layer(x))
        return self.head.fc(x.mean((2, 3)))


class Head(nn.Module):
    """A classifier in a module of its own."""

    def __init__(self, inside, classes):
        super().__init__()
        self.fc = nn.Linear(inside, classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class Backbone(nn.Module):
    """Much smaller than the classifier on it; gives what Transformers' models do."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(4)))

    def forward(self, x):
        return {"last_hidden_state": self.stages(x)}


class Classified(nn.Module):
    """A small backbone under a large classifier."""

    def __init__(self):
        super().__init__()
        self.backbone, self.fc = Backbone(), nn.Linear(3, 5000)

    def forward(self, x):
        return self.fc(self.backbone(x)["last_hidden_state"].mean((2, 3)))


def tied():
    layer = nn.Conv2d(3, 3, 3)
    return sequential(sequential(layer), sequential(layer), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))


@pytest.mark.parametrize(
    ("model", "classifier", "names"),
    [
        (Shared(), True, ["c1", "c2"]),  # an activation that runs three times has no place
        (sequential(*(nn.Conv2d(3, 3, 3) for _ in range(3)), Head(3, 4)), True, ["0", "1"]),
        (Classified(), True, ["backbone.stages.0", "backbone.stages.1", "backbone.stages.2"]),
        (tied(), False, ["2"]),  # a layer that runs twice neither
        (sequential(nn.Hardtanh(), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)), False, ["1"]),
        (Block(3, 4), False, ["body.2", "body.3"]),
    ],
)  # fmt: skip
def test_unusual_networks(model, classifier, names):
    assert hidden_layers(model.eval(), IMAGES, classifier) == names


class TimeFirst(nn.Module):
    """Rows are the places of a sequence, as torch's LSTM has them by default."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.LSTM(64, 6)
        self.second, self.head = nn.LSTM(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x).permute(2, 0, 1, 3).flatten(2)  # (16, B, 64)
        return self.head(self.second(self.first(x)[0])[0][-1])


def test_rows_that_are_no_images():
    model, data = TimeFirst().eval(), pairs(6)
    assert hidden_layers(model, IMAGES) == ["stem"]
    assert lead_fast.extract(model, data, join=True).features[""].shape == (6, 4)
    with pytest.raises(InputError, match=r"layer first: gives shape \(16, 6, 6\) for 6 images"):
        lead_fast.extract(model, data, layers=["first"])


def test_maps_that_are_not_square():
    """(B, C, H, W) with C = H is no (B, H, W, C)."""
    data = [(torch.rand(3, 16, 8), 0)] * 4
    net = sequential(nn.Conv2d(3, 16, 3, padding=1))
    assert lead_fast.extract(net, data, layers=["0"]).features["0"].shape == (4, 16)


def test_what_follows_may_change_an_output():
    model = sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)).eval()
    data = pairs()
    found = lead_fast.extract(model, data, layers=["1"], dtype="float32").features["1"]
    with torch.no_grad():
        expected = model[1](model[0](torch.stack([image for image, _ in data]))).mean((2, 3))
    assert np.allclose(found, expected.numpy(), atol=1e-6)


class Integers(nn.Module):
    """Gives what cannot be averaged."""

    def forward(self, x):
        return x.argmax(1)


def test_outputs_that_are_no_features():
    with pytest.raises(InputError, match=r"gives torch\.int64"):
        lead_fast.extract(Integers(), pairs())
    with pytest.raises(InputError, match="scripted"):
        lead_fast.extract(torch.jit.script(nn.Conv2d(3, 4, 3).eval()), pairs(), join=True)


def test_names_of_joined_layers(tmp_path, folder):
    found = lead_fast.extract(ResNet(), folder, tmp_path / "zoo", join=True, transform=small)
    assert found.layers == ["relu", "layer1.0", "layer2.0", "layer2.1"]
    metadata = formats.read_metadata(found.paths[0])
    assert metadata["layers"] == "relu,layer1.0,layer2.0,layer2.1"
