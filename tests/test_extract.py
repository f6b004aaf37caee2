"""From models and images to files of features."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import lead_fast
from lead_fast import _optional as optional
from lead_fast import cli
from lead_fast.errors import DeviceError, InputError, InputTypeError
from lead_fast.extract import files, images, setting, sources
from lead_fast.zoo import formats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
Image = pytest.importorskip("PIL.Image")
extracting = pytest.importorskip("extracting")
Net, pairs, small = extracting.Net, extracting.pairs, extracting.small


def expected(net, data):
    with torch.no_grad():
        x = torch.stack([image for image, _ in data])
        inner = net.second(torch.relu(net.first(x)))
        return inner.mean((2, 3)).numpy(), inner.relu().mean((2, 3)).numpy(), net(x).numpy()


def assert_near(actual, exact):
    assert actual.dtype == np.float16
    assert np.all(np.abs(actual.astype(np.float64) - exact) <= 1e-3 * np.abs(exact).max())


# ---------------------------------------------------------------------------------------- in memory


def test_what_is_taken_of_a_module():
    net, data = Net(), pairs()
    second, before_head, logits = expected(net, data)
    found = lead_fast.extract(net, data)
    assert list(found.features) == [""]
    assert_near(found.features[""], logits)
    assert np.array_equal(found.labels, [label for _, label in data])
    assert found.logits is None and not found.paths and not found.skipped
    assert found.images_per_second > 0
    found = lead_fast.extract(net, data, logits=True, batch_size=7)
    assert_near(found.features[""], before_head)
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-5)
    found = lead_fast.extract(net, data, layers=["second", "head"], logits=True)
    assert_near(found.features["second"], second)
    assert_near(found.features["head"], logits)
    found = lead_fast.extract(net, data, dtype="float32", precision="bfloat16")
    assert found.features[""].dtype == np.float32
    error = np.abs(found.features[""] - logits).max()
    assert 0 < error <= 0.05 * np.abs(logits).max()  # 8 bits


def test_the_classifier_is_the_linear_layer_that_runs_last():
    """Not the one that is defined last, which another task may use."""
    net = Net()
    net.unused = torch.nn.Linear(5, 7)
    _, before_head, logits = expected(net, pairs())
    found = lead_fast.extract(net, pairs(), logits=True)
    assert_near(found.features[""], before_head)
    assert np.allclose(found.logits, logits, rtol=0, atol=1e-5)
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    convolution.unused = torch.nn.Linear(5, 7)
    convolution.forward = lambda x: convolution[0](x)
    with pytest.raises(InputError, match="reaches no linear layer"):
        lead_fast.extract(convolution, pairs(), logits=True)
    more = torch.ones(9, logits.shape[1])
    net.forward = lambda x: torch.nn.functional.linear(Net.forward(net, x), more)
    with pytest.raises(InputError, match="9 numbers an image"):
        lead_fast.extract(net, pairs(), logits=True)


def test_loaders_and_batches():
    net, data = Net(), pairs()
    expected = lead_fast.extract(net, data).features[""]
    loader = torch.utils.data.DataLoader(data, batch_size=6)
    assert np.array_equal(lead_fast.extract(net, loader).features[""], expected)

    def collate(batch):
        found, labels = torch.utils.data.default_collate(batch)
        return {"pixel_values": found, "labels": labels}

    loader = torch.utils.data.DataLoader(data, batch_size=6, collate_fn=collate)
    assert np.array_equal(lead_fast.extract(net, loader).features[""], expected)
    with pytest.raises(InputError, match="pair of images and labels"):
        lead_fast.extract(net, [(1, 2, 3)])
    with pytest.raises(InputError, match="no image"):
        lead_fast.extract(net, [])
    with pytest.raises(InputTypeError, match="Dataset"):
        lead_fast.extract(net, 3)


def test_the_module_is_left_as_it_was():
    net = Net()
    lead_fast.extract(net, pairs(), layers=["first"], logits=True)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_batches_shrink_when_memory_does_not_suffice():
    seen = []

    class Hungry(Net):
        def forward(self, x):
            seen.append(len(x))
            if len(x) > 5:
                raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
            return super().forward(x)

    data = pairs(40)
    found = lead_fast.extract(Hungry(), data, batch_size=16)
    assert np.array_equal(found.features[""], lead_fast.extract(Net(), data).features[""])
    assert found.batch_size == 4
    assert seen[:3] == [16, 8, 4]
    assert max(seen[3:]) == 4  # what did not fit is not tried again

    class Huge(Net):
        def forward(self, x):
            raise MemoryError

    with pytest.raises(InputError, match="single image"):
        lead_fast.extract(Huge(), data)


def test_numbers_that_cannot_be_kept():
    class Scaled(Net):
        scale = 1.0

        def forward(self, x):
            return super().forward(x) * self.scale

    net = Scaled()
    net.scale = 1e7
    with pytest.raises(InputError, match="beyond float16; use dtype float32"):
        lead_fast.extract(net, pairs())
    assert np.abs(lead_fast.extract(net, pairs(), dtype="float32").features[""]).max() > 65504
    net.scale = float("nan")
    with pytest.raises(InputError, match="NaN or infinity, first in image 0"):
        lead_fast.extract(net, pairs())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["third"]}, "no third; it has: first, second, head"),
        ({"layers": ["first", "first"]}, "twice"),
        ({"dtype": "float64"}, "dtype"),
        ({"precision": "int8"}, "precision"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        lead_fast.extract(Net(), pairs(), **options)


def test_wrong_models():
    for model, message in [
        ("resnet50", "none of timm:NAME"),
        ("timm:", "none of timm:NAME"),
        ("hf:/nowhere/at/all", "cannot be loaded|needs transformers"),
    ]:
        with pytest.raises(InputError, match=message):
            lead_fast.extract(model, pairs())
    with pytest.raises(InputTypeError, match="module or a name"):
        lead_fast.extract(3, pairs())
    convolution = torch.nn.Conv2d(3, 4, 3)
    with pytest.raises(InputError, match="no linear layer"):
        lead_fast.extract(convolution, pairs(), logits=True)


# -------------------------------------------------------------------------------------------- files


def test_files_become_a_zoo(folder, tmp_path):
    out = tmp_path / "zoo"
    for seed in (0, 1):
        found = lead_fast.extract(
            Net(seed), folder, out, name=f"net{seed}", logits=True, transform=small
        )
        assert found.paths == [out / f"net{seed}.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == ["net0.safetensors", "net1.safetensors"]
    metadata = formats.read_metadata(out / "net0.safetensors")
    assert metadata["parameters"] == str(sum(p.numel() for p in Net().parameters()))
    assert metadata["data"] == images.ImageFolder(folder).fingerprint
    assert f"torch {torch.__version__.split('+')[0]}" in metadata["versions"]
    assert metadata["dtype"] == "float16"
    ranking = lead_fast.rank(out, metric=["knn", "leep"])
    assert set(ranking.scores["leep"]) == {"net0", "net1"}
    assert np.array_equal(formats.read_array(found.paths[0], "labels"), [0] * 4 + [1] * 4)


def test_what_matches_is_kept(folder, tmp_path):
    out = tmp_path / "zoo"

    def go(seed=0, **options):
        options = {"transform": small, "name": "net", **options}
        return lead_fast.extract(Net(seed), folder, out, **options).skipped

    assert go() is False
    stamp = (out / "net.safetensors").stat().st_mtime_ns
    assert go() is True
    assert (out / "net.safetensors").stat().st_mtime_ns == stamp
    assert go(seed=1) is False  # other weights under the same name
    assert go(seed=1, dtype="float32") is False
    assert go(seed=1, dtype="float32") is True
    (folder / "cat" / "0.png").rename(folder / "cat" / "9.png")
    assert go(seed=1, dtype="float32") is False
    whole = (out / "net.safetensors").read_bytes()
    (out / "net.safetensors").write_bytes(whole[:-5])
    assert go(seed=1, dtype="float32") is False
    assert (out / "net.safetensors").read_bytes()[-5:] == whole[-5:]
    found = lead_fast.extract(Net(), folder, out, layers=["first", "second"], transform=small)
    names = ["Net@first.safetensors", "Net@second.safetensors"]
    assert [path.name for path in found.paths] == names
    assert set(lead_fast.rank(out, metric="knn").scores) >= {"Net@first", "Net@second"}


def test_a_kill_leaves_no_half_file(tmp_path):
    program = (
        "import os, sys, numpy as np; from lead_fast.extract import files\n"
        "x = np.zeros((4000, 1000), np.float32)\n"
        "for i in range(1000):\n"
        "    files.write(os.path.join(sys.argv[1], 'm.safetensors'), {'features': x + i}, {})\n"
        "    print(i, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    for wait in (0.0, 0.005, 0.01, 0.02):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert child.stdout.readline() == b"0\n"
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            child.communicate()
        found = formats.read_array(tmp_path / "m.safetensors", "features")
        assert found.shape == (4000, 1000)
        assert (found == found[0, 0]).all()


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        files.write(path, {"features": np.zeros(3)}, {})
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_weights_from_files(tmp_path):
    from safetensors.torch import save_file

    donor = Net(5)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": donor.state_dict()}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        net = Net(1)
        sources.load_weights(net, tmp_path / name)
        assert files.weights_fingerprint(net) == files.weights_fingerprint(donor)
    torch.save(donor, tmp_path / "pickle.pt")
    with pytest.raises(InputError, match=r"pickle\.pt: cannot be read as weights"):
        sources.load_weights(Net(), tmp_path / "pickle.pt")
    with pytest.raises(InputError, match="does not fit"):
        sources.load_weights(torch.nn.Linear(2, 2), tmp_path / "w.pt")


# -------------------------------------------------------------------------------- images in folders


def test_image_folder(folder):
    data = images.ImageFolder(folder, small)
    assert (data.classes, len(data), data.labels) == (["cat", "dog"], 8, [0] * 4 + [1] * 4)
    image, label = data[5]
    assert (image.shape, image.dtype, label) == ((3, 16, 16), torch.float32, 1)
    (folder / "dog" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"dog/broken\.png: not a readable image"):
        images.ImageFolder(folder, small)[8]
    with pytest.raises(InputError, match="no such directory"):
        images.ImageFolder(folder / "none")
    with pytest.raises(InputError, match="at least two classes"):
        images.ImageFolder(folder / "cat")


def test_default_transform():
    white = Image.new("RGB", (50, 90), (255, 255, 255))
    found = images.default_transform(white)
    assert found.shape == (3, 224, 224)
    assert np.allclose(found[:, 5, 5], (1 - np.array(images._MEAN)) / np.array(images._STD))


def test_decoding_in_workers_gives_the_same(folder):
    one = lead_fast.extract(Net(), folder, transform=small)
    other = lead_fast.extract(Net(), folder, transform=small, workers=2, batch_size=3)
    assert np.array_equal(one.features[""], other.features[""])
    assert np.array_equal(one.labels, other.labels)


# ------------------------------------------------------------------------------------ other people


def test_a_missing_library_is_named_with_the_command(monkeypatch):
    for name, extra in [("timm", "timm"), ("transformers", "hf"), ("torch", "torch")]:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(optional.MissingError, match=rf"pip install 'lead-fast\[{extra}\]'"):
            optional.need(name, "this")


@pytest.fixture
def vit(tmp_path):
    """A small Vision Transformer as ``save_pretrained`` writes it: a classifier, without pooler."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=16, num_labels=5,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True,
        "do_normalize": True, "rescale_factor": 1 / 255, "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
    }  # fmt: skip
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path / "vit", model


def test_a_saved_model_of_transformers(vit, folder, tmp_path):
    path, model = vit
    out = tmp_path / "zoo"
    found = lead_fast.extract(f"hf:{path}", folder, out)
    assert found.features[""].shape == (8, 16)
    again = lead_fast.extract(f"hf:{path}", folder)  # a pooler of random numbers would differ
    assert np.array_equal(found.features[""], again.features[""])
    with_logits = lead_fast.extract(f"hf:{path}", folder, logits=True)
    assert (with_logits.features[""].shape, with_logits.logits.shape) == ((8, 16), (8, 5))
    with torch.no_grad():
        data = images.ImageFolder(folder, sources.open_model(f"hf:{path}").transform)
        x = torch.stack([data[i][0] for i in range(8)])
        hidden = model.vit(x).last_hidden_state.mean(1).numpy()
        logits = model(x).logits.numpy()
    assert_near(found.features[""], hidden)
    assert np.allclose(with_logits.logits, logits, atol=1e-5)
    assert lead_fast.extract(f"hf:{path}", folder, out).skipped
    assert (out / "vit.safetensors").exists()
    joined = lead_fast.extract(f"hf:{path}", folder, join=True)
    with torch.no_grad():
        states = model(x, output_hidden_states=True).hidden_states  # patches, then each layer
    assert_near(joined.features[""], np.hstack([one.mean(1).numpy() for one in states[:-1]]))


def test_settings_of_a_saved_model_belong_to_it(vit, folder, tmp_path):
    """Those that neither its weights nor its layers show."""
    path, _ = vit

    def kept():
        return lead_fast.extract(f"hf:{path}", folder, tmp_path / "zoo").skipped

    assert not kept() and kept()
    for name, key, value in [
        ("config.json", "num_attention_heads", 4),
        ("preprocessor_config.json", "image_mean", [0.4] * 3),
    ]:
        settings = json.loads((path / name).read_text())
        assert settings[key] != value
        (path / name).write_text(json.dumps({**settings, key: value}))
        assert not kept() and kept()


def test_a_data_set_of_hugging_face(folder, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    paths = sorted(folder.rglob("*.png"))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {"image": [str(p) for p in paths], "label": [p.parent.name == "dog" for p in paths]}
    rows["label"] = [int(label) for label in rows["label"]]
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    one = lead_fast.extract(Net(), tmp_path / "saved", transform=small)
    other = lead_fast.extract(Net(), folder, transform=small)
    assert np.array_equal(one.features[""], other.features[""])
    assert np.array_equal(one.labels, other.labels)


# -------------------------------------------------------------------------------- the command line


def test_the_command(vit, folder, tmp_path, capsys):
    path, _ = vit
    out = tmp_path / "zoo"
    command = ["extract", "--data", str(folder), "--out", str(out), "--models", f"hf:{path}"]
    assert cli.main([*command, "--logits"]) == 0
    first = capsys.readouterr()
    assert first.out.startswith("vit  8 x 16  ")
    assert cli.main([*command[:4], f"{out}-hidden", *command[5:], "--join"]) == 0
    assert capsys.readouterr().out.startswith("vit  8 x 32  ")
    assert cli.main([*command, "hf:/nowhere", "--logits", "--json"]) == 1
    second = capsys.readouterr()
    result = json.loads(second.out)["models"]
    assert [entry["state"] for entry in result] == ["kept", "failed"]
    assert second.err.startswith("lead-fast: error: hf:/nowhere: ")
    assert second.err.count("hf:/nowhere") == 1 and "hf:" not in result[1]["error"]
    assert lead_fast.rank(out, metric="leep").best == "vit"
    assert cli.main(["extract", "--data", str(folder), "--out", str(out), "--models", "x"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "precision: 'int8' does not exist"),
        (["--dtype", "float64"], "dtype: 'float64' does not exist"),
        (["--batch-size", "0"], "batch_size: must be at least 1"),
        (["--workers", "-1"], "workers: must be at least 0"),
        (["--data", "{tmp}/none"], "none: no such directory of images"),
        (["--data", "{tmp}/data/cat"], "at least two classes"),
        (["--out", "{tmp}/data/notes.txt"], "notes.txt: File exists"),
        (["--device", "gpu"], "device: gpu cannot be used"),
    ],
)
def test_wrong_usage_is_told_before_any_model_is_loaded(
    folder, tmp_path, call, monkeypatch, options, message
):
    opened = extracting.opened(monkeypatch)
    options = [option.format(tmp=tmp_path) for option in options]
    status, out, err = call("extract", "--data", folder, "--out", tmp_path / "zoo", *options,
                            "--models", "hf:a", "hf:b")  # fmt: skip
    assert (status, out, opened) == (2, "", [])
    assert len(err.splitlines()) == 1 and message in err
    assert not (tmp_path / "zoo").exists()


def test_devices_that_are_not_there(monkeypatch):
    net = Net()
    for device in ("foo", "cpu:x"):
        with pytest.raises(DeviceError, match=f"device: {device} cannot be used"):
            lead_fast.extract(net, pairs(), device=device)

    def empty(*shape, device):  # as a torch that was built without CUDA
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(DeviceError, match=r"cuda cannot be used \(Torch not compiled with CUDA"):
        lead_fast.extract(net, pairs(), device="cuda")


def test_the_folder_is_looked_at_once(folder, tmp_path, call, monkeypatch):
    opened, folders = extracting.opened(monkeypatch), []

    def open_folder(folder):
        folders.append(folder)
        return images.ImageFolder(folder)

    monkeypatch.setattr(setting, "open_folder", open_folder)
    status, _, err = call("extract", "--data", folder, "--out", tmp_path / "zoo", "--workers", 0,
                          "--models", "hf:a", "hf:b", "--json")  # fmt: skip
    assert (status, len(folders), opened) == (0, 1, ["hf:a", "hf:b"]), err
    assert set(lead_fast.rank(tmp_path / "zoo", metric="knn").scores) == {"a", "b"}
