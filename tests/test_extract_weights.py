"""Weights of a model, as training programs write them."""

import argparse

import pytest

from lead_fast.errors import InputError
from lead_fast.extract.files import weights_fingerprint
from lead_fast.extract.weights import load_weights

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
Net = pytest.importorskip("extracting").Net

WEIGHTS, OTHER = Net(5).state_dict(), Net(6).state_dict()
KEPT = weights_fingerprint(Net(5))


def under(prefix, state=WEIGHTS):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "written",
    [
        WEIGHTS,
        under("module."),
        under("_orig_mod.module."),
        {"state_dict": under("model."), "epoch": 3},
        {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
        {"model": {"state_dict": WEIGHTS}},
        {"state_dict": {"of": "no tensors"}, "net": WEIGHTS},
        # Moving averages first, as in timm.
        {"state_dict": OTHER, "state_dict_ema": WEIGHTS},
        {"model": OTHER, "model_ema": under("module.")},
    ],
)
def test_what_is_found(written, tmp_path):
    torch.save(written, tmp_path / "w.pt")
    net = Net(1)
    load_weights(net, tmp_path / "w.pt")
    assert weights_fingerprint(net) == KEPT


def test_a_prefix_that_the_module_has(tmp_path):
    outer = torch.nn.ModuleDict({"module": Net(1)})
    torch.save(under("module."), tmp_path / "w.pt")
    load_weights(outer, tmp_path / "w.pt")
    assert weights_fingerprint(outer["module"]) == KEPT


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (under("backbone."), r"it lacks first\.weight, .*; the model has no backbone\.first"),
        ({"first.weight": WEIGHTS["first.weight"]}, "does not fit the model .it lacks first.bias"),
        ({**WEIGHTS, "more": torch.ones(3)}, "does not fit the model .the model has no more"),
        ({**WEIGHTS, "head.bias": torch.ones(3)}, "size mismatch for head.bias"),
        ([1, 2], "holds a list, no weights by name"),
    ],
)
def test_what_does_not_fit(written, message, tmp_path):
    torch.save(written, tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"w\.pt: .*{message}"):
        load_weights(Net(), tmp_path / "w.pt")


def test_no_advice_to_run_code(tmp_path):
    torch.save(Net(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        load_weights(Net(), tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)


def test_weights_that_are_not_there_yet():
    with pytest.raises(InputError, match="its weights cannot be read"):
        weights_fingerprint(torch.nn.Sequential(torch.nn.LazyLinear(3)))
    with pytest.raises(InputError, match="its weights cannot be read"):
        weights_fingerprint(torch.nn.Linear(2, 3, device="meta"))
