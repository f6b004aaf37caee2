"""The metric lead+size: lead+ and the logarithm of the models' sizes, standardised and added."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import class_labels, relu_features
from scipy.stats import zscore

import lead_fast
from lead_fast import metrics
from lead_fast.errors import InputError, InputTypeError, ScoreWarning

LABELS = class_labels([40, 50, 60], seed=1)
SIZES = {"a": 5_000_000, "b": 60_000_000, "c": 1_000_000, "d": 25_000_000}
ZOO = {
    name: relu_features(LABELS, 12, seed=seed, spread=0.2 + 0.1 * seed)
    for seed, name in enumerate(SIZES)
}


def expected(weight=1.0, sizes=SIZES, **options):
    scores = [lead_fast.score(x, LABELS, "lead+", **options) for x in ZOO.values()]
    whole = zscore(scores) + weight * zscore(np.log(list(sizes.values())))
    return dict(zip(ZOO, whole.tolist(), strict=True))


@pytest.fixture
def folder(tmp_path):
    for name, x in ZOO.items():
        np.savez(tmp_path / f"{name}.npz", features=x, labels=LABELS, parameters=SIZES[name])
    return tmp_path


@pytest.mark.parametrize("options", [{}, {"n_components": 3, "penalty": 2.0}])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_standardised_parts_are_added(weight, options):
    found = lead_fast.rank(ZOO, LABELS, "lead+size", size=SIZES, weight=weight, **options)
    assert found.scores == pytest.approx(expected(weight, **options), rel=1e-12)
    assert sum(found.scores.values()) == pytest.approx(0.0, abs=1e-12)
    larger = {name: 1000.0 * size for name, size in SIZES.items()}  # their unit does not matter
    again = lead_fast.rank(ZOO, LABELS, "lead+size", size=larger, weight=weight, **options)
    assert again.scores == pytest.approx(found.scores, rel=1e-9)


def test_sizes_of_a_file_by_dictionary_and_by_zoo_are_the_same(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("sizes") / "sizes.json"
    table.write_text(json.dumps(SIZES))
    scores = lead_fast.rank(folder, metric="lead+size").scores
    assert scores == pytest.approx(expected(), rel=1e-12)
    assert lead_fast.rank(folder, metric="lead+size", size=table).scores == scores
    assert lead_fast.rank(folder, metric="lead+size", size=SIZES, jobs=2).scores == scores
    assert lead_fast.rank(folder, metric="lead+size", jobs=2).scores == scores
    turned = dict(zip(SIZES, reversed(SIZES.values()), strict=True))
    other = lead_fast.rank(folder, metric="lead+size", size=turned).scores  # not the files'
    assert other == pytest.approx(expected(sizes=turned), rel=1e-12)
    done = subprocess.run(
        [sys.executable, "-m", "lead_fast", "rank", folder, "--metric", "lead+size", "--json",
         "--option", f"size={table}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["scores"]
    assert {row["model"]: row["score"] for row in rows} == scores


def test_metadata_of_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    for name, x in ZOO.items():
        arrays = {"features": x, "labels": LABELS.astype(np.int64)}
        save_file(arrays, tmp_path / f"{name}.safetensors", {"parameters": str(SIZES[name])})
    found = lead_fast.rank(tmp_path, metric="lead+size").scores
    assert found == pytest.approx(expected(), rel=1e-12)


def test_a_store_knows_the_size(folder):
    store = folder.parent / "sizes.db"
    first = lead_fast.rank(folder, metric="lead+size", store=store)
    again = lead_fast.rank(folder, metric="lead+size", store=store)
    assert again.scores == first.scores == pytest.approx(expected(), rel=1e-12)
    turned = dict(zip(SIZES, reversed(SIZES.values()), strict=True))
    other = lead_fast.rank(folder, metric="lead+size", store=store, size=turned)
    assert other.scores == pytest.approx(expected(sizes=turned), rel=1e-12)


def test_all_of_a_zoo_takes_it_where_sizes_are_known(folder):
    found = lead_fast.rank(folder, metric="all", n_per_class=1)
    assert found["lead+size"].scores == pytest.approx(expected(), rel=1e-6)
    (folder / "c.npz").unlink()
    np.savez(folder / "c.npz", features=ZOO["c"], labels=LABELS)
    assert "lead+size" not in lead_fast.rank(folder, metric="all", n_per_class=1).metrics
    (folder / "c.npz").write_bytes(b"damaged")
    found = lead_fast.rank(folder, metric="all", n_per_class=1)
    assert set(found["lead+size"].scores) == {"a", "b", "d"}
    assert "damaged" in found["lead+size"].failed["c"]


@pytest.mark.parametrize(
    "what",
    [np.float64(5e6), np.array([5, 6]), np.int64(0), np.int64(-3), np.array("many"),
     np.array({"a": 1}, dtype=object)],
)  # fmt: skip
def test_what_is_no_number_of_parameters_is_none(folder, what):
    np.savez(folder / "b.npz", features=ZOO["b"], labels=LABELS, parameters=what)
    found = lead_fast.rank(folder, metric="lead+size")
    assert set(found.scores) == {"a", "c", "d"}
    assert "size is not known; give size=" in found.failed["b"]
    assert set(lead_fast.rank(folder, metric="lead+").scores) == set(ZOO)


def test_what_is_missing_or_wrong():
    found = lead_fast.rank(ZOO, LABELS, "lead+size")
    assert not found.scores and "give size={model:" in found.failed["a"]
    for wrong in (5, [1, 2]):
        with pytest.raises(InputError, match="size: for a zoo, give a dictionary"):
            lead_fast.rank(ZOO, LABELS, "lead+size", size=wrong)
    with pytest.raises(InputError, match="size: nothing for b, c, d"):
        lead_fast.rank(ZOO, LABELS, "lead+size", size={"a": 3})
    with pytest.raises(InputError, match="No such file"):
        lead_fast.rank(ZOO, LABELS, "lead+size", size="nowhere.json")
    found = lead_fast.rank(ZOO, LABELS, "lead+size", size={**SIZES, "a": 0, "b": "large"})
    assert set(found.scores) == {"c", "d"}
    assert "must be positive" in found.failed["a"] and "expected a number" in found.failed["b"]
    for name, value, error in (
        ("weight", -1, InputError), ("weight", "much", InputTypeError), ("size", 0, InputError),
        ("penalty", 0, InputError),
    ):  # fmt: skip
        with pytest.raises(error, match=name):
            metrics.get("lead+size")(LABELS, **{name: value})


def test_one_model_has_no_score():
    with pytest.raises(InputError, match="one model has no score"):
        lead_fast.score(ZOO["a"], LABELS, "lead+size", size=3)
    found = lead_fast.rank({"a": ZOO["a"]}, LABELS, "lead+size", size=SIZES)
    assert "at least two" in found.failed["a"]
    metric = metrics.get("lead+size")(LABELS, size=100)
    score, size = metric.parts(metric.share(ZOO["a"]))
    assert score == lead_fast.score(ZOO["a"], LABELS, "lead+")
    assert size == np.log(100)


def test_parts_that_are_the_same_count_as_nothing():
    same = dict.fromkeys(SIZES, 25_557_032)
    with pytest.warns(ScoreWarning, match="size is the same for all models"):
        found = lead_fast.rank(ZOO, LABELS, "lead+size", size=same)
    plain = lead_fast.rank(ZOO, LABELS, "lead+")
    assert [row.model for row in found] == [row.model for row in plain]
    copies = {name: np.roll(ZOO["a"], shift, axis=1) for shift, name in enumerate(SIZES)}
    with pytest.warns(ScoreWarning, match=r"score by lead\+ is the same for all models"):
        found = lead_fast.rank(copies, LABELS, "lead+size", size=SIZES)
    assert [row.model for row in found] == ["b", "d", "a", "c"]  # by size
