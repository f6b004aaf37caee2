"""Which files are kept, because nothing of what they were made of has changed."""

import json
import os
import re
import subprocess
import sys

import pytest

import lead_fast
from lead_fast.extract import files, images
from lead_fast.zoo import formats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
Image = pytest.importorskip("PIL.Image")
extracting = pytest.importorskip("extracting")
Net, nn, small = extracting.Net, torch.nn, extracting.small


@pytest.fixture
def kept(folder, tmp_path):
    """Whether a file of these options is kept; after it, one of them is there."""

    def kept(model=None, **options):
        options = {"transform": small, "name": "net", **options}
        found = lead_fast.extract(model or Net(), folder, tmp_path / "zoo", **options)
        return found.skipped

    return kept


def shifted(image):
    return small(image) + 1


def scaled(image):
    return small(image) * 2


def test_a_transform_says_what_it_is(kept, tmp_path, monkeypatch):
    assert not kept() and kept()
    for options in ({"transform": shifted}, {"transform": scaled}, {"transform": scaled}):
        assert not kept(**options)  # as nobody can tell whether these are the same
    monkeypatch.setattr(shifted, "fingerprint", "shifted", raising=False)
    monkeypatch.setattr(scaled, "fingerprint", "scaled", raising=False)
    assert not kept(transform=shifted) and kept(transform=shifted)
    assert not kept(transform=scaled) and kept(transform=scaled)
    assert not kept(transform=None) and kept(transform=None)  # the model's own
    path = tmp_path / "zoo" / "net.safetensors"
    assert formats.read_metadata(path)["preprocessing"] == "default"


def test_a_loader_is_known_by_the_transform_and_the_order_of_its_images(folder, tmp_path):
    def kept(transform=small, **options):
        loader = torch.utils.data.DataLoader(images.ImageFolder(folder, transform), **options)
        return lead_fast.extract(Net(), loader, tmp_path / "zoo", name="net").skipped

    assert not kept() and kept()
    assert kept(batch_size=2)
    assert not kept(scaled) and not kept(scaled)  # which does not say what it is
    assert not kept()
    for options in ({"sampler": range(7, -1, -1)}, {"sampler": range(6)}, {"shuffle": True}):
        assert not kept(**options) and not kept(**options)
    assert not kept(batch_size=3, drop_last=True)
    assert not kept() and kept()


def test_data_without_a_fingerprint_are_never_kept(folder, tmp_path):
    class Pairs(list):
        fingerprint = None

    for _ in range(2):
        found = lead_fast.extract(
            Net(), Pairs(images.ImageFolder(folder, small)), tmp_path / "zoo", name="net"
        )
        assert not found.skipped


class Marked(list):
    """Pairs that say what they are, not in a string."""

    fingerprint = 7


def test_a_dataset_says_what_it_is(tmp_path):
    def kept(data):
        return lead_fast.extract(Net(), data, tmp_path, name="net").skipped

    assert not kept(extracting.pairs()) and not kept(extracting.pairs())
    assert not kept(Marked(extracting.pairs())) and kept(Marked(extracting.pairs()))


def test_the_models_own_preparation_belongs_to_it(folder, tmp_path, call, monkeypatch):
    extracting.opened(monkeypatch, net=Net())
    command = ["extract", "--data", folder, "--out", tmp_path, "--models", "hf:net", "--json",
               "--workers", 0]  # fmt: skip

    def state():
        return json.loads(call(*command)[1])["models"][0]["state"]

    assert [state(), state()] == ["written", "kept"]
    extracting.opened(monkeypatch, preprocessing="another", net=Net())
    assert [state(), state()] == ["written", "kept"]


def test_another_forward_pass_of_the_same_weights(kept):
    layer = nn.Conv2d(3, 8, 3)
    relu, gelu = nn.Sequential(layer, nn.ReLU()), nn.Sequential(layer, nn.GELU())
    assert not kept(relu) and kept(relu)
    assert not kept(gelu) and kept(gelu)


class Printed(nn.Linear):
    """Prints what has an address."""

    def extra_repr(self):
        return f"{object()} {small}"


def test_a_printed_module_is_the_same_in_another_process():
    found = files.module_fingerprint(Printed(2, 2))
    assert re.search("0x[0-9a-f]{6}", repr(Printed(2, 2)))
    program = (
        "import torch; from lead_fast.extract import files; from test_extract_kept import Printed\n"
        "print(files.module_fingerprint(Printed(2, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=os.path.dirname(__file__),
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == found
    assert files.module_fingerprint(Printed(2, 2), "other settings") != found


def test_what_tells_images_apart(folder):
    path = folder / "cat" / "0.bmp"
    Image.new("RGB", (20, 20), "red").save(path)
    os.utime(path, ns=(10**18, 10**18))

    def fingerprint():
        return images.ImageFolder(folder).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert fingerprint() != first  # other pixels may have the same size
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(10**18, 10**18))
    assert fingerprint() != first
    path.write_bytes(path.read_bytes()[:-4])
    os.utime(path, ns=(10**18, 10**18))
    assert fingerprint() == first
    path.rename(folder / "cat" / "1.bmp")
    assert fingerprint() != first


def test_other_pixels_in_a_file_of_the_same_size(kept, folder):
    path = folder / "cat" / "0.bmp"
    Image.new("RGB", (20, 20), "red").save(path)
    assert not kept() and kept()
    size = path.stat().st_size
    Image.new("RGB", (20, 20), "blue").save(path)
    assert path.stat().st_size == size
    assert not kept()


@pytest.mark.parametrize("name", files.MATCH)
def test_whatever_differs_is_noticed(kept, tmp_path, name):
    """Every word of the metadata that must match, by itself."""
    assert not kept(logits=True) and kept(logits=True)
    path = tmp_path / "zoo" / "net.safetensors"
    metadata = formats.read_metadata(path)
    arrays = {key: formats.read_array(path, key) for key in formats.array_names(path)}
    files.write(path, arrays, {**metadata, name: "other"})
    assert not kept(logits=True)
    metadata.pop(name)
    files.write(path, arrays, metadata)
    assert not kept(logits=True) and kept(logits=True)
