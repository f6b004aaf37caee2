"""What holds for every metric of the registry, one after the other and several at once."""

import json
import warnings

import golden
import numpy as np
import pytest
from helpers import bfloat16_bits, class_labels, gpu_missing, one_line, relu_features

import lead_fast as lf
from lead_fast import metrics
from lead_fast.errors import (
    DeviceError,
    InputError,
    InputTypeError,
    LeadFastError,
    SaturationWarning,
    ScoreWarning,
)
from lead_fast.features import Features
from lead_fast.labels import encode
from lead_fast.metrics import _several
from lead_fast.metrics._base import Metric
from lead_fast.metrics._shared import Shared

pytestmark = pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")

NAMES = [name for name in metrics.names() if name not in ("lead", "etran")]
MULTI_LABEL = ("logme", "parc", "hscore", "hscore_regularized")
LABELS = class_labels([40, 50, 60], seed=1)
X = relu_features(LABELS, 24, seed=6)
UNGIVEN = ("etran", "leep", "nce", "rsa", "dds")  # by a call with features and labels alone
OPTIONS = {
    "leep": {"source": golden.source_probabilities(X)},
    "nce": {"source": golden.source_probabilities(X)},
    "rsa": {"reference": relu_features(LABELS, 12, seed=7)},
    "dds": {"reference": relu_features(LABELS, 12, seed=7)},
}


def score(name, x=X, labels=LABELS, **options):
    return lf.score(x, labels, name, **{**OPTIONS.get(name, {}), **options})


def test_all_of_the_issue_are_registered():
    assert set(metrics.names()) == {
        "logme", "parc", "nleep", "pactran", "sfda", "gbc", "etran", "ped", "hscore",
        "hscore_regularized", "leep", "nce", "transrate", "knn", "rsa", "dds", "lead",
        "lead+",
    }  # fmt: skip
    for name in metrics.names():
        kind = metrics.get(name)
        assert name == "lead" or issubclass(kind, Metric)
        assert "References" in kind.__doc__ or name == "lead"


def test_labels_of_another_length_say_what_to_do():
    for name in ("lead", "logme"):
        with pytest.raises(InputError, match="150 labels for 149 samples; pass one for each row"):
            lf.score(X[1:], LABELS, name)


@pytest.mark.parametrize("name", [name for name in metrics.names() if name != "lead"])
def test_docstrings_say_what_each_does(name):
    kind = metrics.get(name)
    for part in ("Parameters", "Warns", "Notes", "Time:", "Memory:", "References", "Examples"):
        assert part in kind.__doc__ or (name, part) == ("hscore_regularized", "Warns"), part
    for option in _several.option_names(name):
        assert f"{option} :" in kind.__doc__ or f"{option}," in kind.__doc__, option


@pytest.mark.parametrize("name", NAMES)
def test_precisions_agree(name):
    double = score(name, dtype="float64")
    assert np.isfinite(double)
    limit = 2e-2 if name == "nleep" else 1e-4  # EM amplifies roundings
    assert abs(score(name, dtype="float32") - double) <= limit * abs(double)
    with pytest.raises(InputError, match="float32, float64"):
        score(name, dtype="float16")


@pytest.mark.parametrize("name", NAMES)
def test_input_of_any_kind_and_never_modified(name):
    single = X.astype(np.float32)
    expected = score(name, single, dtype="float64")
    double, frozen = single.astype(np.float64), single.copy()
    frozen.flags.writeable = False
    labels = np.array(["u", "v", "w"])[LABELS]
    limit = 1e-10 * abs(expected)
    for x in (double, frozen, np.asfortranarray(single), single[:, ::-1][:, ::-1]):
        before = x.copy()
        assert abs(score(name, x, labels, dtype="float64") - expected) <= limit
        assert np.array_equal(x, before)
    bits, values = bfloat16_bits(single)
    half = score(name, values, dtype="float64")
    assert abs(score(name, Features(bits, "bfloat16"), dtype="float64") - half) <= 1e-10 * abs(half)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_gets_one_line(name):
    bad = X.copy()
    bad[7, 3] = np.nan
    cases = [
        (bad, LABELS, {}, InputError, "row 7"),
        (X[:-1], LABELS, {}, LeadFastError, "149"),
        (X[0], LABELS, {}, InputError, "2 dimensions"),
        (X, np.zeros(150, int), {}, InputError, "two classes"),
        (X, LABELS, {"nonsense": 1}, InputTypeError, "nonsense"),
        (X * np.float32(1e30), LABELS, {}, InputError, "overflow"),
    ]
    if name not in MULTI_LABEL:
        cases.append((X, np.eye(3)[LABELS], {}, InputError, "one label per sample"))
    for x, labels, options, kind, word in cases:
        with pytest.raises(kind) as caught:
            score(name, x, labels, **options)
        assert word in one_line(caught.value), name


@pytest.mark.parametrize("name", MULTI_LABEL)
def test_several_labels_per_sample(name):
    nested = np.eye(3, dtype=int)[LABELS]
    assert lf.score(X, nested.tolist(), name) == lf.score(X, nested, name)
    targets = (np.random.default_rng(2).random((150, 4)) < 0.4).astype(np.int64)
    assert np.isfinite(score(name, X, targets))
    assert metrics.get(name).multi_label


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "counts, d",
    [([1] * 12, 5), ([1, 1, 30], 8), ([3] * 11, 20), ([4, 4], 40), ([20, 20], 1)],
    ids=["one sample per class", "rare classes", "many classes", "few samples", "one column"],
)
def test_edges_give_a_number_or_say_why(name, counts, d):
    labels = class_labels(counts, seed=3)
    x = relu_features(labels, d, seed=8, dtype=np.float64)
    x[:, 0] = 2.0 if d > 1 else x[:, 0]
    rng = np.random.default_rng(4)
    options = {
        "leep": {"source": rng.dirichlet(np.ones(5), len(labels))},
        "nce": {"source": rng.integers(0, 3, len(labels))},
        "rsa": {"reference": rng.standard_normal((len(labels), 6))},
        "dds": {"reference": rng.standard_normal((len(labels), 6))},
        "nleep": {"n_per_class": 1},
    }.get(name, {})
    try:
        found = lf.score(x, labels, name, dtype="float64", **options)
    except InputError as error:
        one_line(error)
    else:
        assert np.isfinite(found)
        bound = lf.Scorer(labels, name, **options)._metric.upper_bound
        assert bound is None or found <= bound * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_a_scorer_repeats_itself(name):
    scorer = lf.Scorer(LABELS, name, **OPTIONS.get(name, {}))
    assert scorer(X) == scorer(X) == score(name)
    assert (scorer.metric, scorer.device) == (name, "cpu")


# ------------------------------------------------------------------------------ several at once


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_not_there_is_refused_not_ignored(name):
    if gpu_missing() is None:
        pytest.skip("there is one")
    with pytest.raises(DeviceError, match="cuda"):
        metrics.get(name)(LABELS, device="cuda", **OPTIONS.get(name, {}))
    with pytest.raises(DeviceError, match="devices here: cpu"):
        metrics.get(name)(LABELS, device="gpu", **OPTIONS.get(name, {}))


def test_several_metrics_give_what_each_gives_alone():
    names = ["logme", "transrate", "hscore", "sfda", "knn", "lead"]
    together = lf.score(X, LABELS, names, dtype="float64")
    assert list(together) == names
    for name in names:
        alone = score(name, **({} if name == "lead" else {"dtype": "float64"}))
        assert abs(together[name] - alone) <= 1e-9 * abs(alone)


def test_all_takes_what_can_be_computed():
    found = set(lf.score(X, LABELS, "all"))
    assert found == set(metrics.names()) - set(UNGIVEN)
    found = lf.score(X, LABELS, "all", source=OPTIONS["leep"]["source"])
    assert {"leep", "nce"} <= set(found)
    targets = np.eye(3, dtype=int)[LABELS]
    assert set(lf.score(X, targets, "all")) == set(MULTI_LABEL)


def test_all_leaves_out_what_fails_and_says_so():
    few = np.arange(150) % 75
    with pytest.warns(ScoreWarning, match="left out: nleep: 375 components for 150 samples"):
        scorer = lf.Scorer(few, "all")
    assert set(scorer.metric) == set(metrics.names()) - {"nleep", *UNGIVEN}
    with pytest.warns(ScoreWarning, match="left out: sfda: the features do not vary"):
        found = lf.score(np.ones_like(X), LABELS, "all")
    assert "sfda" not in found and np.isfinite(list(found.values())).all()
    for wrong in ({"eps": 0.0}, {"n_per_class": "five"}, {"device": "abacus"}):
        with pytest.raises(LeadFastError, match=next(iter(wrong))):
            lf.score(X, LABELS, "all", **wrong)
    with pytest.raises(InputError, match="NaN"):
        lf.score(np.full_like(X, np.nan), LABELS, "all")
    with pytest.raises(InputError, match="375 components"):
        lf.score(X, few, ["knn", "nleep"])


def test_a_reference_has_one_meaning():
    reference = OPTIONS["dds"]["reference"]
    found = lf.score(X, LABELS, "all", reference=reference)
    for name in ("ped", "dds"):
        assert found[name] == pytest.approx(score(name), rel=1e-6)
    with pytest.raises(InputError, match=r"of ped the same model's .* of rsa another model's"):
        lf.score(X, LABELS, ["ped", "rsa"], reference=X)


@pytest.mark.parametrize("name, option", [
    ("sfda", "log"), ("nleep", "log"), ("leep", "log"), ("pactran", "flatness"),
    ("dds", "debiased"), ("transrate", "weighted"),
])  # fmt: skip
def test_a_word_is_no_truth_value(name, option):
    assert np.isfinite(score(name, **{option: np.False_}))
    for word in ("False", "no", 0, None):
        with pytest.raises(InputTypeError, match=f"{option}: expected True or False"):
            score(name, **{option: word})


def test_what_no_metric_takes_is_refused():
    source = OPTIONS["leep"]["source"]
    scorer = lf.Scorer(LABELS, ["leep", "knn"])
    assert set(scorer(X, source=source)) == {"leep", "knn"}
    with pytest.raises(InputTypeError, match="none of the metrics takes 'sorce'"):
        scorer(X, sorce=source)
    with pytest.raises(InputError, match=r"etran: .* use rank"):
        lf.score(X, LABELS, ["etran", "knn"])


def test_options_as_other_libraries_have_them():
    expected = score("knn", dtype="float64")
    for dtype in (np.dtype(np.float64), "float64"):
        assert score("knn", dtype=dtype) == expected
    for wrong in (np.array(["float64", "float32"]), None, True, []):
        with pytest.raises(InputError, match=r"dtype: .* choose one of"):
            score("knn", dtype=wrong)


def test_a_caller_without_a_name():
    few = np.arange(60) % 30
    names = {"__name__": None, "lf": lf, "x": relu_features(few, 80), "few": few}
    exec("found = lf.score(x, few, 'logme')", names)  # of whom Python drops the warning
    assert np.isfinite(names["found"])


def test_warnings_point_at_the_caller():
    few = np.arange(60) % 30
    x = relu_features(few, 80, seed=1)
    calls = {
        "score": lambda: lf.score(x, few, "knn"), "several": lambda: lf.score(x, few, ["knn"]),
        "lead": lambda: lf.lead(x, few), "rank": lambda: lf.rank({"m": x}, few),
        "scorer": lambda: lf.Scorer(few, "transrate")(x), "all": lambda: lf.score(x, few, "all"),
        "svm": lambda: lf.MultiClassSVM(max_passes=1, tol=1e-9).fit(x, few),
    }  # fmt: skip
    for name, call in calls.items():
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        assert found or name in ("score", "several"), name
        assert {one.filename for one in found} <= {__file__}, name


def test_options_go_to_whom_they_belong():
    found = lf.score(X, LABELS, ["knn", "transrate"], k=3, eps=0.1)
    assert found == {"knn": score("knn", k=3), "transrate": score("transrate", eps=0.1)}
    with pytest.raises(InputTypeError, match="none of the metrics has an option 'time'"):
        lf.score(X, LABELS, ["knn", "transrate"], time=3)
    for wrong in ([], ["knn", "knn"], ["knn", "guess"]):
        with pytest.raises(InputError, match="metric"):
            lf.score(X, LABELS, wrong)


def test_shared_work_is_done_once(monkeypatch):
    from lead_fast.metrics import _shared

    passes = []
    original = _shared.Shared.blocks

    def counted(self, rows=None):
        passes.append(self.dtype.name)
        return original(self, rows)

    monkeypatch.setattr(_shared.Shared, "blocks", counted)
    lf.score(X, LABELS, ["hscore", "logme", "hscore_regularized"], dtype="float64")
    together = len(passes)
    passes.clear()
    for name in ("hscore", "logme", "hscore_regularized"):
        lf.score(X, LABELS, name, dtype="float64")
    assert 0 < together < len(passes)


def test_within_comes_with_the_classes():
    plain = Shared(X, encode(LABELS), np.float64)
    classes = Shared(X, encode(LABELS), np.float64)
    total = sum(np.triu(scatter) for _, scatter in classes.class_scatters())
    assert np.abs(np.triu(plain.within) - total).max() <= 1e-10
    assert np.abs(plain.within - classes.within).max() <= 1e-10
    with pytest.raises(ValueError, match="read-only"):
        plain.within[0, 0] = 1


@pytest.mark.parametrize("dtype, limit", [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_moments(dtype, limit, monkeypatch):
    far = X.astype(np.float64) + 50.0
    for rows in (16, 4096):
        monkeypatch.setattr(Shared, "block_rows", lambda self, n=None, rows=rows: min(rows, self.n))
        shared = Shared(far, encode(LABELS), dtype)
        means = np.stack([far[LABELS == c].mean(axis=0) for c in range(3)])
        residual, centred = far - means[LABELS], far - far.mean(axis=0)
        size = (centred**2).sum()
        assert np.abs(shared.class_means - means).max() <= 1e-12 * 50
        for found, exact in (
            (shared.within, residual.T @ residual),
            (shared.total, centred.T @ centred),
            (shared.norms[None], (centred**2).sum(axis=1)[None]),
        ):
            # float32 rounds the features themselves to 50 * 6e-8.
            assert np.abs(found - exact).max() <= max(limit * size, 1e-12 * size)
        gram = far.T @ far
        assert np.abs(shared.gram - gram).max() <= limit * np.abs(gram).max()
        outer = far @ far.T
        assert np.abs(shared.sample_gram - outer).max() <= limit * np.abs(outer).max()


def test_failures_of_one_metric_leave_the_others(rng):
    made = _several.make(["dds", "knn"], LABELS, None, {"dds": OPTIONS["dds"], "knn": {}})
    found = _several.score_each(made, np.ones((150, 3)))
    assert isinstance(found["dds"][0], InputError)
    assert found["knn"][0] <= 1.0


# ---------------------------------------------------------------------------------------- a zoo


@pytest.fixture
def sfda_zoo(tmp_path):
    """Two models on DATASET pets, with outputs and features on general, as the public code has."""
    for seed, model in enumerate(("a", "b")):
        x = relu_features(LABELS, 16, seed=seed, spread=1.0 + seed)
        np.save(tmp_path / f"{model}_pets_feature.npy", x)
        np.save(tmp_path / f"{model}_pets_label.npy", LABELS)
        np.save(tmp_path / f"{model}_pets_output.npy", x @ np.ones((16, 5)) * np.arange(5))
        general = np.random.default_rng(seed).standard_normal((90, 16)) * (2 + seed)
        np.save(tmp_path / f"{model}_general_feature.npy", general)
    return tmp_path


def files(zoo, model):
    return {
        kind: np.load(zoo / f"{model}_{kind}.npy")
        for kind in ("pets_feature", "pets_output", "general_feature")
    }


def test_rank_by_several(sfda_zoo):
    rankings = lf.rank(sfda_zoo, metric=["logme", "knn", "lead"], dataset="pets", seed=3)
    assert isinstance(rankings, lf.Rankings)
    assert rankings.metrics == ["logme", "knn", "lead"]
    for name in rankings.metrics:
        alone = lf.rank(
            sfda_zoo, metric=name, dataset="pets", **({"seed": 3} if name == "lead" else {})
        )
        assert rankings[name].scores == alone.scores
    result = rankings.to_dict({"a": 1.0, "b": 2.0})
    assert result["metrics"] == ["logme", "knn", "lead"]
    assert list(result["rankings"]["knn"]) == ["scores", "tau"]
    json.dumps(result, allow_nan=False)
    lines = rankings.table({"a": 1.0, "b": 2.0}).splitlines()
    assert lines[0].split() == ["rank", "model", "accuracy", "logme", "knn", "lead"]
    assert len(lines) == 6


def test_outputs_and_references_come_from_the_zoo(sfda_zoo):
    found = lf.rank(
        sfda_zoo, metric=["leep", "nce", "ped"], dataset="pets", reference="general", n_sigma=3.0
    )
    for model in "ab":
        have = files(sfda_zoo, model)
        x, out = have["pets_feature"], have["pets_output"]
        assert found["leep"].scores[model] == lf.score(x, LABELS, "leep", source=out)
        assert found["nce"].scores[model] == lf.score(x, LABELS, "nce", source=out)
        expected = lf.score(x, LABELS, "ped", reference=have["general_feature"], n_sigma=3.0)
        assert found["ped"].scores[model] == expected
    assert lf.rank(sfda_zoo, metric="leep", dataset="pets").scores == found["leep"].scores
    alone = lf.rank(sfda_zoo, metric="ped", dataset="pets", reference="general", n_sigma=3.0)
    assert alone.scores == found["ped"].scores
    (sfda_zoo / "b_pets_output.npy").unlink()
    ranking = lf.rank(sfda_zoo, metric="leep", dataset="pets")
    assert list(ranking.scores) == ["a"]
    assert "_output.npy" in ranking.failed["b"]
    ranking = lf.rank(sfda_zoo, metric="ped", dataset="pets", reference="other")
    assert all("other_feature.npy" in error for error in ranking.failed.values())


def test_a_reference_model_of_the_zoo(sfda_zoo):
    b = files(sfda_zoo, "b")["pets_feature"]
    for name in ("rsa", "dds"):
        ranking = lf.rank(sfda_zoo, metric=name, dataset="pets", reference="b")
        assert ranking.best == "b"
        a = files(sfda_zoo, "a")["pets_feature"]
        assert ranking.scores["a"] == lf.score(a, LABELS, name, reference=b)
        file = sfda_zoo / "b_pets_feature.npy"
        assert (
            lf.rank(sfda_zoo, metric=name, dataset="pets", reference=file).scores == ranking.scores
        )
        with pytest.raises(InputError, match="neither a model"):
            lf.rank(sfda_zoo, metric=name, dataset="pets", reference="c")
        with pytest.raises(InputError, match="reference="):
            lf.rank(sfda_zoo, metric=name, dataset="pets")


def test_all_of_a_zoo(sfda_zoo):
    found = lf.rank(sfda_zoo, metric="all", dataset="pets")
    assert set(found.metrics) == set(metrics.names()) - {"rsa", "dds"}
    assert not found.failed
    found = lf.rank(sfda_zoo, metric="all", dataset="pets", reference="b", n_per_class=1)
    assert {"rsa", "dds"} < set(found.metrics)
    assert not found.failed
    alone = lf.rank(sfda_zoo, metric="ped", dataset="pets")
    # Of ped, b would be another data set.
    assert found["ped"].scores == pytest.approx(alone.scores, rel=1e-6)
    with pytest.raises(InputError, match=r"of ped the same model's .* of dds another model's"):
        lf.rank(sfda_zoo, metric=["ped", "dds"], dataset="pets", reference="b")


def test_metrics_that_few_samples_rule_out(tmp_path):
    few = np.arange(60) % 20
    for model in "ab":
        np.savez(tmp_path / f"{model}.npz", features=relu_features(few, 8), labels=few)
    with pytest.warns(ScoreWarning, match="nleep: left out: .*100 components for 60 samples"):
        found = lf.rank(tmp_path, metric="all")
    assert "nleep" not in found.metrics and not found.failed
    found_of_all = found.metrics
    found = lf.rank(tmp_path, metric=["nleep", "knn"])
    assert not found["knn"].failed and set(found["nleep"].failed) == {"a", "b"}
    assert "100 components" in found["nleep"].failed["a"]
    with pytest.raises(InputError, match="100 components"):
        lf.rank(tmp_path, few, metric=["nleep", "knn"])
    with pytest.raises(InputError, match="eps: must be positive"):
        lf.rank(tmp_path, metric="all", eps=0.0)
    with pytest.warns(ScoreWarning, match="nleep: left out: .*100 components for 60 samples"):
        given = lf.rank(tmp_path, few, metric="all")
    assert given.metrics == found_of_all
    # One model's labels, however bad, are its own affair.
    np.savez(tmp_path / "a.npz", features=relu_features(few, 8), labels=np.zeros(60, int))
    plenty = np.arange(60) % 2
    np.savez(tmp_path / "b.npz", features=relu_features(plenty, 8), labels=plenty)
    found = lf.rank(tmp_path, metric="all")
    assert "nleep" in found.metrics
    for ranking in found:
        assert set(ranking.failed) == {"a"} and "two classes" in ranking.failed["a"]


def test_a_reference_for_all_of_a_zoo(tmp_path):
    for model in "ab":
        np.savez(tmp_path / f"{model}.npz", features=relu_features(LABELS, 8), labels=LABELS)
    np.save(tmp_path.parent / "reference.npy", relu_features(LABELS, 5))
    zoo = {model: relu_features(LABELS, 8, seed=seed) for seed, model in enumerate("ab")}
    options = {"metric": "all", "n_per_class": 1}
    for place, labels in ((tmp_path, None), (zoo, LABELS)):
        found = lf.rank(place, labels, reference=tmp_path.parent / "reference.npy", **options)
        assert {"rsa", "dds", "ped"} <= set(found.metrics) and not found.failed
        found = lf.rank(place, labels, reference=zoo, **options)
        assert "ped" in found.metrics and "rsa" not in found.metrics and not found.failed


def test_all_of_a_zoo_with_a_damaged_archive(tmp_path):
    for model in "ab":
        np.savez(tmp_path / f"{model}.npz", features=relu_features(LABELS, 8), labels=LABELS)
    (tmp_path / "c.npz").write_bytes(b"not an archive")
    found = lf.rank(tmp_path, metric="all", n_per_class=1)
    assert "leep" not in found.metrics and set(found["logme"].scores) == {"a", "b"}
    assert "not an .npz file" in found["logme"].failed["c"]


def test_etran_scales_over_the_zoo(sfda_zoo):
    ranking = lf.rank(sfda_zoo, metric="etran", dataset="pets")
    etran = metrics.get("etran")(LABELS)
    parts = [etran.parts(etran.share(files(sfda_zoo, m)["pets_feature"])) for m in "ab"]
    assert list(ranking.scores) in (["a", "b"], ["b", "a"])
    for model, expected in zip("ab", etran.combine(parts), strict=True):
        assert ranking.scores[model] == expected
    with pytest.raises(InputError, match="etran"):
        lf.score(X, LABELS, "etran")
    single = lf.rank({"only": X}, LABELS, metric="etran")
    assert "at least two" in single.failed["only"]


def test_a_mapping_takes_mappings():
    zoo = {"a": X, "b": X[:, :9]}
    source = {m: OPTIONS["leep"]["source"] for m in zoo}
    assert lf.rank(zoo, LABELS, metric="leep", source=source).scores.keys() == {"a", "b"}
    with pytest.raises(InputError, match="nothing for b"):
        lf.rank(zoo, LABELS, metric="leep", source={"a": source["a"]})
    with pytest.raises(InputError, match="dictionary"):
        lf.rank(zoo, LABELS, metric="leep", source=source["a"])
    with pytest.raises(InputError, match="dictionary"):
        lf.rank(zoo, LABELS, metric="ped", reference=np.ones((5, 5)))
    references = {"a": X, "b": X[:, :9]}
    assert len(lf.rank(zoo, LABELS, metric="ped", reference=references).scores) == 2


def test_outputs_of_the_other_layouts(tmp_path):
    out = OPTIONS["leep"]["source"]
    folder = tmp_path / "tll"
    folder.mkdir()
    for name, array in (("features", X), ("targets", LABELS), ("preds", out)):
        np.save(folder / f"{name}.npy", array)
    np.savez(tmp_path / "archive.npz", features=X, labels=LABELS, output=out)
    np.savez(tmp_path / "without.npz", features=X, labels=LABELS)
    ranking = lf.rank(tmp_path, metric="leep")
    assert ranking.scores == dict.fromkeys(("archive", "tll"), score("leep"))
    assert list(ranking.failed) == ["without"]


def test_saturated_scores_of_other_metrics_are_named():
    x = np.repeat(np.arange(3.0), [40, 50, 60])[:, None] * 10
    labels = np.repeat(np.arange(3), [40, 50, 60])
    near = x + np.random.default_rng(0).standard_normal((150, 1))
    with pytest.warns(ScoreWarning, match="at their bound.*: a, b"):
        ranking = lf.rank({"a": x, "b": near}, labels, metric="knn")
    assert ranking.scores == {"a": 1.0, "b": 1.0}
    with pytest.warns(SaturationWarning):
        lf.score(x, labels, "knn")
    # Zero is no bound of most metrics.
    assert not [w for w in lf.rank({"a": near}, labels, metric="gbc").warnings if "saturated" in w]


def test_the_unwritten_triangle_is_zero():
    """Whole matrices are added, and garbage there makes NumPy complain of invalid values."""
    shared = Shared(X, encode(LABELS), np.float32)
    for array in (shared._work(), *(scatter for _, scatter in shared.class_scatters())):
        assert array.flags.f_contiguous
        assert not np.tril(array, -1).any()
