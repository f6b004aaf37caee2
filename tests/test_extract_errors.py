"""What goes wrong while features are extracted becomes one error of our own, of one model."""

import json
import os

import numpy as np
import pytest

import lead_fast
from lead_fast.errors import InputError, ScoreWarning
from lead_fast.extract import files, images
from lead_fast.zoo import formats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("PIL.Image")
extracting = pytest.importorskip("extracting")
Net, pairs, small = extracting.Net, extracting.pairs, extracting.small


class OneSize(torch.nn.Module):
    """Takes images of one size, as transformers with learned places do."""

    def forward(self, x):
        return x.reshape(len(x), 7)


def test_what_a_model_raises_is_that_models_error(folder, tmp_path, call, monkeypatch):
    message = r"^odd: cannot be run on images of shape \(3, 16, 16\) \(RuntimeError: shape .*7"
    with pytest.raises(InputError, match=message) as caught:
        lead_fast.extract(OneSize(), pairs(), name="odd")
    assert isinstance(caught.value.__cause__, RuntimeError)
    extracting.opened(monkeypatch, odd=OneSize())
    status, out, err = call("extract", "--data", folder, "--models", "hf:odd", "hf:good",
                            "--out", tmp_path / "zoo", "--workers", 0, "--json")  # fmt: skip
    assert status == 1 and len(err.splitlines()) == 1
    odd, good = json.loads(out)["models"]
    assert (odd["state"], odd["files"]) == ("failed", [])
    assert "cannot be run on images of shape (3, 224, 224)" in odd["error"]
    assert good["state"] == "written" and os.listdir(tmp_path / "zoo") == ["good.safetensors"]


def test_a_model_that_cannot_be_moved():
    class Stuck(Net):
        def to(self, device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB")

    with pytest.raises(InputError, match=r"^Stuck: cannot be moved to cpu \(CUDA out of memory"):
        lead_fast.extract(Stuck(), pairs())


class Counted(Net):
    """Knows how often it has been run."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


IMAGE = torch.zeros(3, 16, 16)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"pixel_values": IMAGE}] * 4, "data: a batch without labels"),
        ([(IMAGE, None)] * 4, r"data: TypeError \(default_collate"),
        ([(IMAGE, b"cat")] * 4, r"data: labels of dtype \|S3; they must be integers or strings"),
        ([(IMAGE, 1j)] * 4, "data: .*complex"),
        (
            [(torch.zeros(3, 16, 16 + i), 0) for i in range(4)],
            r"data: RuntimeError \(stack",
        ),
        ([(IMAGE, 0), (IMAGE, 1, 2)], "data: "),
        ([(1.5, 0)], r"Counted: cannot be run on images of shape \(\)"),
        ([(None, 0)], "data: TypeError"),
        ([(IMAGE, [0, 1, 2])] * 4, r"data: labels of shape \(3, 4\) for 4 images"),
    ],
)
def test_data_that_give_no_pairs(data, message):
    net = Counted()
    with pytest.raises(InputError, match=message):
        lead_fast.extract(net, data)
    assert not net.runs or "cannot be run" in message


def test_batches_that_do_not_go_together():
    def batches(*labels):
        sets = [[(IMAGE, label)] for label in labels]
        data = torch.utils.data.ConcatDataset(sets)
        return torch.utils.data.DataLoader(data, batch_size=1)

    for labels in [(0, "cat"), (0, torch.tensor([0, 1]))]:
        with pytest.raises(
            InputError, match="labels: of another shape or kind from batch to batch"
        ):
            lead_fast.extract(Net(), batches(*labels))
    assert lead_fast.extract(Net(), batches("a", "bcd")).labels.tolist() == ["a", "bcd"]

    class Widening(Counted):
        def forward(self, x):
            return super().forward(x)[:, : 3 + self.runs]

    with pytest.raises(InputError, match="features: of another shape or kind from batch to batch"):
        lead_fast.extract(Widening(), batches(0, 1))


def test_labels_that_are_strings(tmp_path):
    data = [(image, ["dog", "cat", "cow"][label]) for image, label in pairs()]
    found = lead_fast.extract(Net(), data, tmp_path / "zoo")
    assert found.labels.tolist() == [label for _, label in data]
    places = formats.read_array(found.paths[0], "labels")
    assert places.dtype == np.int64
    metadata = formats.read_metadata(found.paths[0])
    assert [json.loads(metadata["classes"])[place] for place in places] == found.labels.tolist()
    one = lead_fast.rank(tmp_path / "zoo", metric="logme").scores["Net"]
    assert one == lead_fast.score(found.features[""], found.labels, metric="logme")


def test_a_saved_data_set_with_strings(folder, tmp_path, call, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    paths = sorted(folder.rglob("*.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = {"image": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    extracting.opened(monkeypatch)
    status, _, err = call("extract", "--data", tmp_path / "saved", "--models", "hf:net",
                          "--out", tmp_path / "zoo")  # fmt: skip
    assert status == 0, err
    labels = formats.read_array(tmp_path / "zoo" / "net.safetensors", "labels")
    assert labels.tolist() == [0] * 4 + [1] * 4
    rows["label"][5] = None
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "gaps")
    with pytest.raises(InputError, match="gaps: no label of image 5"):
        images.open_folder(tmp_path / "gaps")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_damaged(folder, workers):
    path = folder / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError) as caught:
        lead_fast.extract(Net(), folder, transform=small, workers=workers)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a readable image (") and "Traceback" not in text


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_prepared(folder, workers):
    def wrong(image):
        raise KeyError("size")

    message = r"^\S+cat/0\.png: cannot be prepared for the model \(KeyError: 'size'\)$"
    with pytest.raises(InputError, match=message):
        lead_fast.extract(Net(), folder, transform=wrong, workers=workers)


class Failing(torch.utils.data.Dataset):
    """Raises what no image does."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        try:
            raise InputError("a cause")
        except InputError as error:
            raise ArithmeticError("on two\nlines") from error


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_dataset_raises(workers):
    with pytest.raises(InputError, match=r"^data: ArithmeticError \(on two lines\)$") as caught:
        lead_fast.extract(Net(), Failing(), workers=workers)
    assert isinstance(caught.value.__cause__, ArithmeticError)


def test_a_link_to_nothing(folder, call, tmp_path):
    (folder / "dog" / "gone.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"dog/gone\.png: No such file or directory"):
        images.ImageFolder(folder)
    status, _, err = call("extract", "--data", folder, "--models", "hf:a", "--out", tmp_path / "z")
    assert status == 2 and "gone.png: No such file" in err


def test_a_file_that_does_not_fit_on_the_disk(tmp_path):
    """What the library calls it is not what Python does."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "m.safetensors"
    files.write(path, {"features": np.ones(3)}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match=r"m\.safetensors: cannot be written \(.*too large"):
            files.write(path, {"features": np.zeros(1000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert formats.read_array(path, "features").tolist() == [1, 1, 1]
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        lead_fast.extract(Net(), pairs(), tmp_path, name="net")
    finally:
        os.umask(before)
    assert (tmp_path / "net.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_file_that_may_not_be_read_is_not_replaced(tmp_path, monkeypatch):
    lead_fast.extract(Net(), pairs(), tmp_path, name="net")
    path = tmp_path / "net.safetensors"
    before = path.read_bytes()

    def refused(path):
        raise InputError(f"{path}: Permission denied") from PermissionError(13, "Permission denied")

    monkeypatch.setattr(formats, "read_metadata", refused)
    with pytest.raises(InputError, match="Permission denied"):
        lead_fast.extract(Net(), pairs(), tmp_path, name="net")
    assert path.read_bytes() == before


@pytest.mark.parametrize("length", [235, 300])
def test_a_name_that_is_too_long_for_a_file(folder, tmp_path, call, monkeypatch, length):
    extracting.opened(monkeypatch, **{"x" * length: Net(), "good": Net()})
    status, out, _ = call("extract", "--data", folder, "--models", f"hf:{'x' * length}", "hf:good",
                          "--out", tmp_path / "zoo", "--workers", 0, "--json")  # fmt: skip
    long, good = json.loads(out)["models"]
    assert status == 1 and "too long for a file" in long["error"]
    assert good["state"] == "written" and os.listdir(tmp_path / "zoo") == ["good.safetensors"]


def test_what_is_no_file_among_the_images(folder, call, tmp_path):
    (folder / "cat" / "folder.png").mkdir()
    count = len(images.ImageFolder(folder))
    os.mkfifo(folder / "cat" / "pipe.png")
    status, _, err = call("extract", "--data", folder, "--models", "hf:any", "--out", tmp_path)
    assert status == 2 and err.endswith("pipe.png: not a regular file\n")
    (folder / "cat" / "pipe.png").unlink()
    assert len(images.ImageFolder(folder)) == count == 8


def test_a_directory_that_may_not_be_written_to(folder, call, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    status, _, err = call("extract", "--data", folder, "--models", "hf:any", "--out", tmp_path)
    assert status == 2 and "cannot write to this directory" in err


class Drawing(torch.nn.Module):
    """As a masked autoencoder, it draws what it looks at."""

    def __init__(self, share):
        super().__init__()
        self.net, self.share = Net(), share

    def forward(self, x):
        return torch.nn.functional.dropout(self.net(x), self.share, training=True)


def test_features_that_are_drawn_are_told():
    with pytest.warns(ScoreWarning, match=r"odd: features of the same images differ by \d+% from"):
        lead_fast.extract(Drawing(0.5), pairs(), name="odd")
    lead_fast.extract(Drawing(0.5), pairs(), layers=["net.first"])  # warnings are errors here
    lead_fast.extract(Drawing(0.0), pairs())
    lead_fast.extract(Drawing(0.0), pairs(), precision="bfloat16")


def test_labels_with_fractions_are_no_classes():
    whole = [(IMAGE, float(i % 2)) for i in range(4)]
    assert lead_fast.extract(Net(), whole).labels.tolist() == [0, 1, 0, 1]
    for label in (2.5, float("nan")):
        with pytest.raises(InputError, match="labels with fractions"):
            lead_fast.extract(Net(), [*whole, (IMAGE, label)])


def test_features_that_are_not_finite_are_told_as_that():
    net = Net()
    net.first.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinity, first in image 0"):
        lead_fast.extract(net, pairs(), logits=True)
