"""What models and files are called, so that none takes the place of another."""

import json
import os
import unicodedata

import numpy as np
import pytest

import lead_fast
from lead_fast.errors import InputError
from lead_fast.extract import files
from lead_fast.extract.names import Spec, file_name, names_of
from lead_fast.zoo import formats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("PIL.Image")
extracting = pytest.importorskip("extracting")
Net, nn, pairs, small = extracting.Net, torch.nn, extracting.pairs, extracting.small


def test_names_of_files():
    assert file_name("hf/vit base", "blocks.3.mlp") == "hf_vit_base@blocks.3.mlp.safetensors"
    assert file_name("../x") == "x.safetensors"
    assert file_name("..") == "model.safetensors"
    assert file_name("模型 一/b") == "模型_一_b.safetensors"
    assert file_name("मॉडल") == "मॉडल.safetensors"  # with signs that are no letters
    assert file_name(unicodedata.normalize("NFD", "é")) == "é.safetensors"
    assert file_name("a\udcff\n*b") == "a_b.safetensors"


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["timm:resnet50", "hf:org/vit", "hf:runs/7/", "timm:a,weights=w/b.pt"],
         ["resnet50", "vit", "7", "a"]),
        (["hf:runA/checkpoint-100", "hf:runB/checkpoint-100", "hf:runC/checkpoint-200"],
         ["runA_checkpoint-100", "runB_checkpoint-100", "checkpoint-200"]),
        (["hf:a/x/last", "hf:b/x/last"], ["a_x_last", "b_x_last"]),
        (["timm:X", "timm:X,weights=a.pt", "timm:X,weights=runs/b.v2.safetensors"],
         ["X", "X_a", "X_b.v2"]),
        (["timm:X,weights=a/model.pt", "timm:X,weights=b/model.pt"], ["X_a_model", "X_b_model"]),
        (["timm:resnet50", "torchvision:resnet50"], ["timm_resnet50", "torchvision_resnet50"]),
        (["hf:org1/m", "hf:org2/m", "timm:m"], ["hf_org1_m", "hf_org2_m", "timm_m"]),
        (["hf:a/m b", "hf:c/m_b"], ["a_m b", "c_m_b"]),  # would share a file
        (["one=hf:a/m", "hf:b/m", "two=timm:m,weights=a=b"], ["one", "m", "two"]),
        (["m=hf:a/x", "hf:b/m"], ["m", "b_m"]),
        (["timm:a", "timm:a", "resnet50", "x=y:z"], ["a", "a", None, None]),
    ],
)  # fmt: skip
def test_names_within_a_command(specs, names):
    assert names_of(specs) == names
    assert names_of(specs[::-1]) == names[::-1]


@pytest.mark.parametrize(
    "specs",
    [
        ["timm:X,weights=a.pt", "timm:X,weights=a.safetensors"],
        ["n=timm:a", "n=timm:b"],
        ["n n=timm:a", "n_n=timm:b"],
        ["hf:a/m", "hf:b/m", "timm:a_m"],
    ],
)
def test_names_that_cannot_be_told_apart(specs, folder, tmp_path, call, monkeypatch):
    opened = extracting.opened(monkeypatch)
    status, out, err = call("extract", "--data", folder, "--out", tmp_path / "zoo", "--models",
                            *specs)  # fmt: skip
    assert (status, out, opened) == (2, "", []) and not (tmp_path / "zoo").exists()
    assert len(err.splitlines()) == 1 and "give them names, as in NAME=" in err


def test_paths_are_the_same_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "run" / "last").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    for text in ("hf:last", "hf:./last/", f"hf:{tmp_path}/run/last"):
        assert str(Spec.parse(text).resolved()) == f"hf:{tmp_path}/run/last"
    assert str(Spec.parse("hf:org/last").resolved()) == "hf:org/last"  # no folder, so on the hub
    spec = Spec.parse("n=timm:X,weights=w.pt").resolved()
    assert str(spec) == f"timm:X,weights={tmp_path}/run/w.pt"
    assert names_of(["hf:last", "hf:../run/last"]) == ["last", "last"]  # one model


def test_models_of_one_command_get_files_of_their_own(folder, tmp_path, call, monkeypatch):
    extracting.opened(monkeypatch)
    command = ["extract", "--data", folder, "--out", tmp_path / "zoo", "--workers", 0, "--json",
               "--models", "hf:a/last", "hf:b/last", "mine=timm:last"]  # fmt: skip
    assert call(*command)[0] == 0
    there = ["a_last.safetensors", "b_last.safetensors", "mine.safetensors"]
    assert sorted(os.listdir(tmp_path / "zoo")) == there
    metadata = [formats.read_metadata(tmp_path / "zoo" / name) for name in there]
    assert [found["model"] for found in metadata] == ["hf:a/last", "hf:b/last", "timm:last"]


def test_the_file_of_another_model_stays(folder, tmp_path, call, monkeypatch):
    out = tmp_path / "zoo"
    path = out / "last.safetensors"

    def go(model, seed, *more, runs=tmp_path):
        models = dict.fromkeys(["a/last", "b/last", "last"], Net(seed))
        opened = extracting.opened(monkeypatch, **models)
        monkeypatch.chdir(runs)
        status, text, _ = call("extract", "--data", folder, "--out", out, "--workers", 0, "--json",
                               "--models", model, *more)  # fmt: skip
        (entry,) = json.loads(text)["models"]
        assert len(opened) == 1 and status == (entry["state"] == "failed")
        return entry["error"] or entry["state"]

    assert go("hf:a/last", 0) == "written"
    whole = path.read_bytes()
    message = "last.safetensors: holds the features of hf:a/last, not of hf:b/last; give this model"
    assert message in go("hf:b/last", 1)
    assert path.read_bytes() == whole
    assert go("b=hf:b/last", 1) == "written"
    assert sorted(os.listdir(out)) == ["b.safetensors", "last.safetensors"]
    # Another state of the same model; the same weights at another place, with other options.
    assert go("hf:a/last", 2) == "written"
    assert go("hf:b/last", 2) == "kept"
    assert go("hf:b/last", 2, "--dtype", "float32") == "written"
    # The folder of a model counts, not what it is called from where the command is run.
    path.unlink()
    for name in ("x", "y"):
        (tmp_path / name / "last").mkdir(parents=True)
    assert go("hf:last", 3, runs=tmp_path / "x") == "written"
    message = f"holds the features of hf:{tmp_path}/x/last, not of hf:{tmp_path}/y/last"
    assert message in go("hf:last", 4, runs=tmp_path / "y")
    # Former versions wrote paths as they were given.
    arrays = {key: formats.read_array(path, key) for key in ("features", "labels")}
    files.write(path, arrays, {"model": "hf:last"})
    assert go("hf:last", 5, runs=tmp_path / "x") == "written"


def test_files_of_modules(tmp_path):
    out = tmp_path / "zoo"

    def go(seed, name, **options):
        return lead_fast.extract(Net(seed), pairs(), out, name=name, **options).paths

    assert [path.name for path in go(0, "模型一") + go(1, "模型二")] == [
        "模型一.safetensors", "模型二.safetensors",
    ]  # fmt: skip
    go(0, "a b")
    go(1, "a b")  # trained further, say
    with pytest.raises(InputError, match=r"a_b\.safetensors: holds .* of a b, not of a_b; .*name="):
        go(2, "a_b")
    assert set(lead_fast.rank(out, metric="logme").scores) == {"模型一", "模型二", "a_b"}
    (out / "mine.safetensors").write_bytes((out / "a_b.safetensors").read_bytes()[:-1])
    go(2, "a_b", dtype="float32", layers=["first"])
    with pytest.raises(InputError, match="holds the features of a b"):
        go(2, "mine")  # although it is damaged, its metadata can be read
    (out / "mine.safetensors").write_bytes(b"nothing of the kind")
    go(2, "mine")
    go(0, "bytes\udcff of a path")  # which no metadata can hold as they are
    go(1, "bytes\udcff of a path")


def test_a_file_that_says_nothing_stays(tmp_path):
    from safetensors.numpy import save_file

    save_file({"features": np.ones((2, 2))}, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="of a model that it does not name, not of net"):
        lead_fast.extract(Net(), pairs(), tmp_path, name="net")


def test_layers_that_would_share_a_file(tmp_path):
    net = nn.Sequential()
    net.add_module("a_b", nn.Conv2d(3, 4, 3))
    net.add_module("a b", nn.Conv2d(4, 5, 3))

    def go(*layers, **options):
        return lead_fast.extract(net, pairs(), tmp_path, name="n", layers=list(layers), **options)

    with pytest.raises(InputError, match=r"layers: a_b and a b would have one file, n@a_b\.safe"):
        go("a_b", "a b")
    assert not os.listdir(tmp_path)
    go("a_b", "a b", join=True)
    go("a_b")
    with pytest.raises(InputError, match="features of n, layer a_b, not of n, layer a b; give"):
        go("a b")
    go("a_b", dtype="float32")
