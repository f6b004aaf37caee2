"""Zoo directories and rankings."""

import json
import math
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import ZOO_LABELS as LABELS
from helpers import zoo_features as features

import lead_fast
from lead_fast._caller import catching, warn_caller
from lead_fast.errors import (
    ConvergenceWarning,
    DeviceError,
    InputError,
    InputTypeError,
    LeadFastError,
    ScoreWarning,
)
from lead_fast.metrics import _several
from lead_fast.zoo import Ranking, work
from lead_fast.zoo.notices import score_notices
from lead_fast.zoo.read import natural_key, open_zoo, read_labels

N, D, K = 60, 8, 3
DIGITS = Path(__file__).parent.parent / "examples" / "zoo" / "digits"


def write_npz(zoo, seed):
    np.savez(zoo / f"m{seed}.npz", features=features(seed), labels=LABELS)


def write_compressed_npz(zoo, seed):
    np.savez_compressed(zoo / f"m{seed}.npz", features=features(seed), labels=LABELS)


def write_safetensors(zoo, seed):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {"features": features(seed), "labels": LABELS}
    library.save_file(arrays, zoo / f"m{seed}.safetensors")


def write_feature_npy(zoo, seed):
    np.save(zoo / f"m{seed}_pets_feature.npy", features(seed))
    np.save(zoo / f"m{seed}_pets_label.npy", LABELS)
    np.save(zoo / f"m{seed}_pets_output.npy", np.zeros((N, 1000)))


def write_directory(zoo, seed):
    (zoo / f"m{seed}").mkdir()
    np.save(zoo / f"m{seed}" / "features.npy", features(seed))
    np.save(zoo / f"m{seed}" / "targets.npy", LABELS)
    np.save(zoo / f"m{seed}" / "preds.npy", np.zeros((N, 1000)))


def write_shared_labels(zoo, seed):
    """Each layout once more, with the labels in one file for all."""
    np.save(zoo / "labels.npy", LABELS)
    if seed % 3 == 0:
        np.savez(zoo / f"m{seed}.npz", features=features(seed))
    elif seed % 3 == 1:
        np.save(zoo / f"m{seed}_pets_feature.npy", features(seed))
    else:
        (zoo / f"m{seed}").mkdir()
        np.save(zoo / f"m{seed}" / "features.npy", features(seed))


LAYOUTS = [
    write_npz,
    write_compressed_npz,
    write_safetensors,
    write_feature_npy,
    write_directory,
    write_shared_labels,
]


def expected_scores(seeds, **options):
    return {f"m{s}": lead_fast.score(features(s), LABELS, **options) for s in seeds}


# ------------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_scores_of_its_arrays(tmp_path, write):
    seeds = [1, 2, 3, 10]
    for seed in seeds:
        write(tmp_path, seed)
    # None of these is a model.
    (tmp_path / "truth.json").write_text("{}")
    (tmp_path / "README.md").write_text("text")
    (tmp_path / ".hidden.npz").write_text("x")
    (tmp_path / "plots").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = lead_fast.rank(tmp_path)
    assert not ranking.failed
    assert ranking.scores == expected_scores(seeds)
    assert [row.rank for row in ranking] == [1, 2, 3, 4]
    assert [row.score for row in ranking] == sorted(ranking.scores.values(), reverse=True)
    assert ranking.best == ranking.rows[0].model
    assert open_zoo(tmp_path).names == ["m1", "m2", "m3", "m10"]
    assert lead_fast.rank(str(tmp_path)).scores == ranking.scores


def test_layouts_mix(tmp_path):
    write_npz(tmp_path, 1)
    write_safetensors(tmp_path, 2)
    write_feature_npy(tmp_path, 3)
    write_directory(tmp_path, 4)
    assert lead_fast.rank(tmp_path).scores == expected_scores([1, 2, 3, 4])


def test_bfloat16_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    values = {seed: torch.from_numpy(features(seed)).bfloat16() for seed in (1, 2)}
    for seed, value in values.items():
        arrays = {"features": value, "labels": torch.from_numpy(LABELS)}
        library.save_file(arrays, tmp_path / f"m{seed}.safetensors")
    expected = {f"m{s}": lead_fast.score(v.float().numpy(), LABELS) for s, v in values.items()}
    scores = lead_fast.rank(tmp_path).scores
    assert scores.keys() == expected.keys()
    for model, score in expected.items():
        assert abs(scores[model] - score) <= 1e-6 * max(1, abs(score))


def test_dictionary(tmp_path):
    zoo = {f"m{s}": features(s) for s in (10, 2, 1)}
    expected = expected_scores([1, 2, 10])
    assert lead_fast.rank(zoo, LABELS).scores == expected
    np.save(tmp_path / "labels.npy", LABELS)
    assert lead_fast.rank(zoo, tmp_path / "labels.npy").scores == expected
    assert lead_fast.rank(zoo, LABELS.tolist()).scores == expected
    assert open_zoo(zoo).names == ["m1", "m2", "m10"]
    with pytest.raises(InputError, match="no labels"):
        lead_fast.rank(zoo)


def test_labels_of_the_caller_come_first(tmp_path):
    for seed in (1, 2):
        np.savez(tmp_path / f"m{seed}.npz", features=features(seed), labels=np.sort(LABELS))
    np.save(tmp_path / "labels.npy", np.sort(LABELS))
    assert lead_fast.rank(tmp_path).scores != expected_scores([1, 2])
    assert lead_fast.rank(tmp_path, LABELS).scores == expected_scores([1, 2])


def test_own_labels_come_before_shared_ones(tmp_path):
    np.save(tmp_path / "labels.npy", LABELS[::-1])
    write_npz(tmp_path, 1)
    write_feature_npy(tmp_path, 2)
    write_directory(tmp_path, 3)
    assert lead_fast.rank(tmp_path).scores == expected_scores([1, 2, 3])


def test_string_labels(tmp_path):
    names = np.array(["ant", "bee", "cat"])[LABELS]
    np.savez(tmp_path / "m1.npz", features=features(1), labels=names)
    assert lead_fast.rank(tmp_path).scores == expected_scores([1])


def test_data_set_is_chosen_where_there_are_several(tmp_path):
    for model, dataset, seed in [
        ("mobilenet_v2", "pets", 1),
        ("resnet50", "pets", 2),
        ("resnet50", "cifar10", 3),
        ("resnet50", "oxford_pets", 4),
    ]:
        np.save(tmp_path / f"{model}_{dataset}_feature.npy", features(seed))
        np.save(tmp_path / f"{model}_{dataset}_label.npy", LABELS)
    with pytest.raises(InputError, match=r"2 data sets \(cifar10, pets\); choose one"):
        lead_fast.rank(tmp_path)
    with pytest.raises(InputError, match=r"no MODEL_dogs_feature.npy.*cifar10, pets"):
        lead_fast.rank(tmp_path, dataset="dogs")
    ranking = lead_fast.rank(tmp_path, dataset="cifar10")
    assert ranking.scores == {"resnet50": lead_fast.score(features(3), LABELS)}
    ranking = lead_fast.rank(tmp_path, dataset="oxford_pets")
    assert ranking.scores == {"resnet50": lead_fast.score(features(4), LABELS)}
    assert open_zoo(tmp_path, "pets").names == ["mobilenet_v2", "resnet50", "resnet50_oxford"]
    with pytest.raises(InputError, match="not of a dictionary"):
        lead_fast.rank({"a": features(1)}, LABELS, dataset="pets")


def test_stray_arrays_are_pointed_out(tmp_path):
    write_npz(tmp_path, 1)
    np.save(tmp_path / "resnet50.npy", features(2))
    np.save(tmp_path / "m9_pets_label.npy", LABELS)
    with pytest.warns(UserWarning, match="ignored.*: m9_pets_label.npy, resnet50.npy$"):
        ranking = lead_fast.rank(tmp_path)
    assert len(ranking.warnings) == 1
    assert list(ranking.scores) == ["m1"]


def test_natural_order():
    names = ["vit", "resnet101", "resnet18", "resnet018", "r", "resnet", "18", "2"]
    ordered = sorted(names, key=natural_key)
    assert ordered == ["2", "18", "r", "resnet", "resnet018", "resnet18", "resnet101", "vit"]
    assert ordered == sorted(reversed(names), key=natural_key)


# ---------------------------------------------------------------------------------- refused at once


def test_no_zoo(tmp_path):
    with pytest.raises(InputError, match="missing: No such file or directory"):
        lead_fast.rank(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a directory"):
        lead_fast.rank(tmp_path / "file")
    with pytest.raises(InputError, match="empty name"):
        lead_fast.rank("")
    with pytest.raises(InputError, match="empty dictionary"):
        lead_fast.rank({}, LABELS)
    for wrong in (None, 3, [features(1)]):
        with pytest.raises(InputTypeError, match="a directory or a dictionary"):
            lead_fast.rank(wrong, LABELS)
    with pytest.raises(InputTypeError, match="must be strings"):
        lead_fast.rank({1: features(1)}, LABELS)


def test_zoo_with_no_model(tmp_path):
    layouts = (
        "looked for MODEL.npz, MODEL.safetensors, MODEL_DATASET_feature.npy, MODEL/features.npy"
    )
    with pytest.raises(InputError, match=f"no model in it; {layouts}$"):
        lead_fast.rank(tmp_path)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(InputError, match=f"no model in it; {layouts}$"):
        lead_fast.rank(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match=r"folders \(digits\)"):
        lead_fast.rank(tmp_path)
    np.save(tmp_path / "features.npy", features(1))
    with pytest.raises(InputError, match="directory of one model"):
        lead_fast.rank(tmp_path)


def test_two_models_of_one_name(tmp_path):
    write_npz(tmp_path, 1)
    write_directory(tmp_path, 1)
    with pytest.raises(InputError, match=r"two models are called m1: .*; rename or remove one"):
        lead_fast.rank(tmp_path)


@pytest.mark.parametrize("stem", ["resnet50", "_pets"])
def test_feature_file_without_model_or_data_set(tmp_path, stem):
    np.save(tmp_path / f"{stem}_feature.npy", features(1))
    with pytest.raises(InputError, match=r"must be MODEL_DATASET_feature\.npy"):
        lead_fast.rank(tmp_path)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"metric": "nonsense"}, InputError),
        ({"device": "nonsense"}, LeadFastError),
        ({"nonsense": 1}, LeadFastError),
        ({"time": -1.0}, InputError),
        ({"labels": np.zeros((N, 2))}, InputError),
        ({"labels": np.zeros(N, int)}, InputError),
        ({"labels": "no-such-file.npy"}, InputError),
    ],
)
def test_wrong_arguments_are_refused_before_any_model(tmp_path, monkeypatch, options, error):
    write_npz(tmp_path, 1)
    read = []
    score_each = work.score_each
    monkeypatch.setattr(work, "score_each", lambda *given: read.append(given) or score_each(*given))
    assert lead_fast.rank(tmp_path).scores == expected_scores([1])
    assert len(read) == 1
    with pytest.raises(error):
        lead_fast.rank(tmp_path, **options)
    assert len(read) == 1


def test_wrong_device_is_a_device_error(tmp_path):
    write_npz(tmp_path, 1)
    with pytest.raises(DeviceError, match="cpu"):
        lead_fast.rank(tmp_path, device="nonsense")


# ---------------------------------------------------------------------------------- single failures


def break_truncated(zoo):
    path = zoo / "bad.npz"
    np.savez(path, features=features(1), labels=LABELS)
    path.write_bytes(path.read_bytes()[:500])


def break_pickle(zoo):
    np.savez(zoo / "bad.npz", features=np.array([[None]]), labels=LABELS)


def break_no_features(zoo):
    np.savez(zoo / "bad.npz", embeddings=features(1), labels=LABELS)


def break_no_labels(zoo):
    np.savez(zoo / "bad.npz", features=features(1))


def break_no_label_file(zoo):
    np.save(zoo / "bad_pets_feature.npy", features(1))


def break_no_feature_file(zoo):
    (zoo / "bad").mkdir()
    np.save(zoo / "bad" / "targets.npy", LABELS)


def break_no_target_file(zoo):
    (zoo / "bad").mkdir()
    np.save(zoo / "bad" / "features.npy", features(1))


def break_link(zoo):
    (zoo / "bad.npz").symlink_to(zoo / "nowhere.npz")


def break_nan(zoo):
    values = features(1)
    values[7, 2] = np.nan
    np.savez(zoo / "bad.npz", features=values, labels=LABELS)


def break_lengths(zoo):
    np.savez(zoo / "bad.npz", features=features(1)[:-1], labels=LABELS)


def break_shape(zoo):
    np.savez(zoo / "bad.npz", features=np.zeros((N, 2, 2)), labels=LABELS)


def break_one_class(zoo):
    np.savez(zoo / "bad.npz", features=features(1), labels=np.zeros(N, int))


def break_bfloat16_labels(zoo):
    header = {
        "features": {"dtype": "F32", "shape": [N, D], "data_offsets": [0, 4 * N * D]},
        "labels": {"dtype": "BF16", "shape": [N], "data_offsets": [4 * N * D, 4 * N * D + 2 * N]},
    }
    text = json.dumps(header).encode()
    data = features(1).tobytes() + bytes(2 * N)
    (zoo / "bad.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (break_truncated, "bad.npz: truncated"),
        (break_pickle, "bad.npz.*pickled"),
        (break_no_features, "no array named 'features'; it holds 'embeddings', 'labels'"),
        (break_no_labels, "bad.npz: no labels for it .*an array 'labels' in it and labels.npy"),
        (break_no_label_file, "bad_pets_feature.npy: no labels.*bad_pets_label.npy and labels.npy"),
        (break_no_feature_file, "bad/features.npy: No such file"),
        (break_no_target_file, "features.npy: no labels.*bad/targets.npy and labels.npy"),
        (break_link, "bad.npz: No such file"),
        (break_nan, "7"),
        (break_lengths, f"{N - 1}.*{N}|{N}.*{N - 1}"),
        (break_shape, "3"),
        (break_one_class, "class"),
        (break_bfloat16_labels, "bad.safetensors: labels of dtype bfloat16"),
    ],
)
def test_a_model_that_fails_does_not_stop_the_others(tmp_path, broken, message):
    write_npz(tmp_path, 1)
    write_npz(tmp_path, 2)
    broken(tmp_path)
    ranking = lead_fast.rank(tmp_path)
    assert ranking.scores == expected_scores([1, 2])
    last = ranking.rows[-1]
    assert (last.model, last.score, last.rank) == ("bad", None, None)
    assert re.search(message, last.error), last.error
    assert "\n" not in last.error
    assert ranking.failed == {"bad": last.error}
    assert len(ranking) == 3
    assert last.seconds >= 0


def scores_from(monkeypatch, function):
    """Let `function(model's name)` decide what a model's score is."""

    def score_each(metrics, read, readers):
        caught = []
        with catching(caught):
            try:
                outcome = function(read.model)
            except Exception as error:
                outcome = error
        return {name: work.Scored(outcome, 0.0, caught) for name in metrics}

    monkeypatch.setattr(work, "score_each", score_each)


ABC = {"a": features(1), "b": features(2), "c": features(3)}


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (MemoryError(), "out of memory"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (RuntimeError("first\n  second"), "RuntimeError: first second"),
        (ZeroDivisionError(), "ZeroDivisionError: ZeroDivisionError"),
        (InputError("what\nwhere"), "what where"),
    ],
)
def test_unforeseen_failures_of_one_model(monkeypatch, failure, error):
    def score(name):
        if name == "b":
            raise failure
        return -1.0 if name == "a" else -2.0

    scores_from(monkeypatch, score)
    ranking = lead_fast.rank(ABC, LABELS)
    assert ranking.scores == {"a": -1.0, "c": -2.0}
    assert ranking.failed == {"b": error}


def test_interruption_is_not_a_failure(monkeypatch):
    def score(name):
        raise KeyboardInterrupt

    scores_from(monkeypatch, score)
    with pytest.raises(KeyboardInterrupt):
        lead_fast.rank(ABC, LABELS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_failure(monkeypatch, value):
    scores_from(monkeypatch, lambda name: value if name == "b" else -1.0)
    with pytest.warns(ScoreWarning, match="tied"):
        ranking = lead_fast.rank(ABC, LABELS)
    assert ranking.scores == {"a": -1.0, "c": -1.0}
    assert f"the score is {value}" in ranking.failed["b"]
    json.dumps(ranking.to_dict(), allow_nan=False)


# ---------------------------------------------------------------------------- one scorer per labels


def test_scorer_is_made_again_only_for_other_labels(tmp_path, monkeypatch):
    made = []
    make = _several.make

    def counted(names, labels, *rest, **options):
        made.append(np.asarray(labels))
        return make(names, labels, *rest, **options)

    monkeypatch.setattr(_several, "make", counted)
    other = (LABELS + 1) % K
    for seed, labels in [(1, LABELS), (2, LABELS.astype(np.int16)), (3, other), (4, other)]:
        np.savez(tmp_path / f"m{seed}.npz", features=features(seed), labels=labels)
    ranking = lead_fast.rank(tmp_path)
    assert len(ranking.scores) == 4
    assert len(made) == 3  # the one that checks the options, and two
    assert np.array_equal(made[1], LABELS)
    assert np.array_equal(made[2], other)
    made.clear()
    lead_fast.rank(tmp_path, LABELS)
    assert len(made) == 1


# ----------------------------------------------------------------------------------------- warnings


def test_ties_share_the_smallest_rank_and_are_named(monkeypatch):
    scores = {"a": -3.0, "b": -1.0, "c": -1.0, "d": -2.0, "e": -3.0}
    scores_from(monkeypatch, scores.get)
    with pytest.warns(ScoreWarning) as caught:
        ranking = lead_fast.rank(dict.fromkeys(scores, ABC["a"]), LABELS)
    assert [(row.rank, row.model) for row in ranking] == [
        (1, "b"),
        (1, "c"),
        (3, "d"),
        (4, "a"),
        (4, "e"),
    ]
    assert len(caught) == 1
    assert ranking.warnings == [str(caught[0].message)]
    assert "tied" in ranking.warnings[0]
    assert "b = c, a = e" in ranking.warnings[0]
    assert "d" not in ranking.warnings[0].split(": ")[1]


def test_equal_features_tie(tmp_path):
    with pytest.warns(ScoreWarning, match="tied.*a = b"):
        ranking = lead_fast.rank({"a": ABC["a"], "b": ABC["a"].copy()}, LABELS)
    assert [row.rank for row in ranking] == [1, 1]


def test_saturated_scores_are_named(monkeypatch):
    scores_from(monkeypatch, {"a": -1e-13, "b": -0.5, "c": -1e-15}.get)
    with pytest.warns(ScoreWarning, match="saturated.*: c, a$"):
        ranking = lead_fast.rank(ABC, LABELS)
    assert len(ranking.warnings) == 1
    assert [row.rank for row in ranking] == [1, 2, 3]


def test_late_times_saturate():
    with pytest.warns(ScoreWarning, match="saturated.*: a, b, c$") as caught:
        lead_fast.rank(ABC, LABELS, time=1e12)
    assert len(caught) == 1


def test_fewer_samples_than_features_is_one_warning():
    zoo = {f"m{s}": features(s, width=100 + s) for s in (1, 2, 3)} | {"narrow": features(4)}
    with pytest.warns(ScoreWarning) as caught:
        ranking = lead_fast.rank(zoo, LABELS)
    assert len(ranking.warnings) == len(caught) == 1
    (text,) = ranking.warnings
    assert text.startswith("m1: ")
    assert text.endswith("likewise m2, m3")
    assert "60" in text
    assert "101" in text


def test_convergence_warnings_carry_the_name(monkeypatch):
    def score(name):
        if name != "b":
            warn_caller("gap of 0.1 left", ConvergenceWarning)
        return -1.0 - ord(name)

    scores_from(monkeypatch, score)
    with pytest.warns(ConvergenceWarning) as caught:
        ranking = lead_fast.rank(ABC, LABELS)
    assert ranking.warnings == ["a: gap of 0.1 left", "c: gap of 0.1 left"]
    assert [str(w.message) for w in caught] == ranking.warnings


def test_other_warnings_pass(monkeypatch):
    def score(name):
        warnings.warn("something else", RuntimeWarning, stacklevel=2)
        return -1.0 - ord(name)

    scores_from(monkeypatch, score)
    with pytest.warns(RuntimeWarning, match="something else"):
        ranking = lead_fast.rank(ABC, LABELS)
    assert ranking.warnings == []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # once for each place
        lead_fast.rank(ABC, LABELS)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_rankings_in_two_threads_leave_the_warnings_as_they_were(monkeypatch):
    turns, found_by = threading.Barrier(2, timeout=30), {}

    def score(name):
        warn_caller(f"of {threading.current_thread().name}", ScoreWarning)
        turns.wait()  # both are in the middle of a score
        if threading.current_thread().name == "second":
            turns.wait()  # and the first ends before
        return -1.0

    def run(name):
        found = lead_fast.rank({"a": ABC["a"]}, LABELS)
        if name == "first":
            turns.wait()
        found_by[name] = found.warnings

    def state():
        return warnings._showwarnmsg_impl, warnings.showwarning, list(warnings.filters)

    scores_from(monkeypatch, score)
    before = state()
    threads = [
        threading.Thread(target=run, args=(name,), name=name) for name in ("first", "second")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found_by == {name: [f"a: of {name}"] for name in ("first", "second")}
    assert state() == before


def test_warnings_that_only_have_the_name_of_ours_pass():
    foreign, caught = type("ScoreWarning", (UserWarning,), {}), []
    with pytest.warns(foreign, match="of another package"), catching(caught):
        warnings.warn("of another package", foreign, stacklevel=1)
        warn_caller("of this one", ScoreWarning)
    assert caught == [("ScoreWarning", "of this one")]


# --------------------------------------------------------------------------------------- the result


def example(**failures):
    outcomes = [("m10", -0.5, 0.1, None), ("m9", -0.5, 0.2, None), ("z", -0.1, 0.3, None)]
    outcomes += [(model, None, 0.0, error) for model, error in failures.items()]
    return Ranking(outcomes, "lead", "cpu")


def test_ranking_as_json():
    ranking = example(bad="damaged")
    assert ranking.to_dict() == {
        "metric": "lead",
        "device": "cpu",
        "scores": [
            {"model": "z", "score": -0.1, "rank": 1, "seconds": 0.3, "error": None},
            {"model": "m9", "score": -0.5, "rank": 2, "seconds": 0.2, "error": None},
            {"model": "m10", "score": -0.5, "rank": 2, "seconds": 0.1, "error": None},
            {"model": "bad", "score": None, "rank": None, "seconds": 0.0, "error": "damaged"},
        ],
        "tau": None,
    }
    truth = {"z": 90.0, "m9": 80.0, "m10": 70.0}
    tau = ranking.to_dict(truth)["tau"]
    assert tau == ranking.tau(truth)
    assert list(tau) == ["scipy", "paper"]
    scores, accuracies = [-0.1, -0.5, -0.5], [90.0, 80.0, 70.0]
    for convention, value in tau.items():
        assert value == lead_fast.weighted_tau(scores, accuracies, convention)


def test_undefined_tau_is_null_in_json():
    ranking = Ranking([("a", -1.0, 0.1, None), ("b", -1.0, 0.1, None)], "lead", "cpu")
    truth = {"a": 1.0, "b": 2.0}
    assert math.isnan(ranking.tau(truth)["scipy"])
    assert ranking.to_dict(truth)["tau"] == {"scipy": None, "paper": 0.0}
    assert "SciPy's convention: undefined" in ranking.table(truth)


def test_tau_leaves_out_what_has_no_score_or_no_accuracy():
    ranking = example(bad="damaged")
    assert ranking.tau({"z": 2.0, "m9": 1.0}) == {"scipy": 1.0, "paper": 1.0}
    assert ranking.tau({"z": 2.0, "m9": 1.0, "bad": 9.0}) == {"scipy": 1.0, "paper": 1.0}
    with pytest.raises(InputError, match="names what is not among the models: other"):
        ranking.tau({"z": 2.0, "m9": 1.0, "other": 3.0})
    with pytest.raises(InputError, match="needs"):
        ranking.tau({"z": 2.0})
    with pytest.raises(InputError, match="at least 2 models"):
        ranking.tau({"z": 2.0, "bad": 1.0})


def test_table():
    ranking = example(bad="damaged")
    assert str(ranking).splitlines() == [
        "rank  model   score  seconds",
        "   1  z        -0.1    0.300",
        "   2  m9       -0.5    0.200",
        "   2  m10      -0.5    0.100",
        "   -  bad    failed    0.000",
        "bad: damaged",
    ]
    lines = ranking.table({"z": 90.0, "m9": 88.25}).splitlines()
    assert lines[:2] == [
        "rank  model   score  accuracy  seconds",
        "   1  z        -0.1        90    0.300",
    ]
    assert lines[3] == "   2  m10      -0.5         -    0.100"
    assert lines[-2:] == [
        "weighted tau, SciPy's convention: 1.0000",
        "weighted tau, Eq. (1) of the paper: 1.0000",
    ]


def test_ranking_of_failures_only():
    ranking = Ranking([("a", None, 0.1, "damaged")], "lead", "cpu")
    assert ranking.best is None
    assert ranking.scores == {}
    assert [row.rank for row in ranking] == [None]
    assert "1 failed" in repr(ranking)


def test_progress(capsys):
    lead_fast.rank(ABC, LABELS)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    lead_fast.rank(ABC, LABELS, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err or "0/3" in captured.err
    lead_fast.rank(ABC, LABELS, progress=False)
    assert capsys.readouterr().err == ""


# -------------------------------------------------------------------------------------- label files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3\n-1\n+2\n", np.array([3, -1, 2])),
        ("10\n9\n\n\n", np.array([10, 9])),
        ("cat\r\n dog \r\n", np.array(["cat", "dog"])),
        ("1\ntwo\n", np.array(["1", "two"])),
        ("", np.array([], dtype=str)),
        (" \n\n", np.array([], dtype=str)),
        ("\ufeff1\n2\n", np.array([1, 2])),
        # Python takes each of these for the end of a line, or for a blank, too.
        ("a\x85b\nc\u2028\n\u2029d\r\n", np.array(["a\x85b", "c\u2028", "\u2029d"])),
        ("a\x0bb\x0c\nc\x1c\nd\re\n", np.array(["a\x0bb\x0c", "c\x1c", "d\re"])),
    ],
)
def test_text_labels(tmp_path, text, expected):
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    labels = read_labels(path)
    assert labels.dtype.kind == expected.dtype.kind
    assert np.array_equal(labels, expected)


def test_unusable_label_files(tmp_path):
    path = tmp_path / "labels.txt"
    with pytest.raises(InputError, match="No such file"):
        read_labels(path)
    path.write_text("1\n\n2\n")
    with pytest.raises(InputError, match="line 2 is empty"):
        read_labels(path)
    path.write_bytes(b"\xff\xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_labels(path)
    with pytest.raises(InputError, match="kind of file"):
        read_labels(tmp_path / "labels.csv")


# -------------------------------------------------------------------------------------- the example


def test_example_zoo():
    truth = json.loads((DIGITS / "truth.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        ranking = lead_fast.rank(DIGITS)
    assert len(ranking.scores) == 16
    assert ranking.scores.keys() == truth.keys()
    assert all(value <= 0 for value in ranking.scores.values())
    for model in ("res-omni2-sup", "cnn_s-notmnist-sup"):
        with np.load(DIGITS / f"{model}.npz") as arrays:
            score = lead_fast.score(arrays["features"], arrays["labels"])
        assert ranking.scores[model] == score
    tau = ranking.tau(truth)
    assert all(-1 <= value <= 1 for value in tau.values())


@pytest.mark.parametrize("others", ["b", "ab", "ba", "bb"])
def test_models_with_different_labels_are_pointed_out(tmp_path, others):
    labels = {"a": LABELS, "b": np.sort(LABELS)}
    for seed, which in enumerate("a" + others):
        np.savez(tmp_path / f"m{seed}.npz", features=features(seed), labels=labels[which])
    with pytest.warns(ScoreWarning, match="different labels"):
        lead_fast.rank(tmp_path, metric="knn")


def test_options_are_bounded_by_the_zoo_and_not_by_the_probe(tmp_path):
    labels = np.arange(300) % 2
    wide = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    ranking = lead_fast.rank({"m": wide + labels[:, None]}, labels, cross_fit=150, tol=0.1)
    assert ranking.scores["m"] < 0
    np.savez(tmp_path / "m.npz", features=wide, labels=labels)
    assert lead_fast.rank(tmp_path, cross_fit=150, tol=0.1).scores["m"] < 0


def test_names_are_printed_on_one_line():
    ranking = lead_fast.rank({"a\nb": features(1), "\x1b[31mred": features(2)}, LABELS)
    lines = str(ranking).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("metric", ["parc", ["parc", "lead"]])
def test_names_that_cannot_be_printed_are_escaped_and_no_others(tmp_path, call, metric):
    zoo = tmp_path / "\x1b[31m"
    zoo.mkdir()
    for name in ("\u00e9", "e\x1b"):
        np.savez(zoo / f"{name}.npz", features=features(1, 70), labels=LABELS)
    for name in ("\x1b[32m", "\u6a21\n"):
        (zoo / f"{name}.npz").write_bytes(b"nothing")
    ranking = lead_fast.rank(zoo, metric=metric)
    texts = [*str(ranking).splitlines(), *ranking.warnings]
    flags = ["--metric", metric if isinstance(metric, str) else ",".join(metric)]
    status, out, err = call("rank", zoo, *flags)
    texts += [*out.splitlines(), *err.splitlines()]
    assert status == 1 and all(text.isprintable() for text in texts)
    assert any("e\\x1b = \u00e9" in text for text in ranking.warnings)  # tied
    assert any("\u6a21\\n: " in text for text in str(ranking).splitlines())
    if "lead" in metric:
        assert any("e\\x1b: fewer samples" in text for text in ranking.warnings)


def test_notices_of_many_models():
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return super().__eq__(other)

    scores = dict.fromkeys(map(Name, range(300)), 0.0)
    for saturated in (None, [str(name) for name in scores]):
        (text,) = score_notices(scores, saturated)
        assert "and 293 more" in text
    assert compared <= 2 * 300


@pytest.mark.parametrize(
    ("what", "known"),
    [
        (np.int64(25_557_032), 25_557_032),
        (np.uint8(7), 7),
        (np.int64(0), None),
        (np.int64(-3), None),
        (np.float64(5e6), None),
        (np.array([5, 6]), None),
        (np.array("many"), None),
        (np.array({"a": 1}, dtype=object), None),
    ],
)
def test_the_size_of_a_model_in_an_archive(tmp_path, what, known):
    labels = np.arange(12) % 3
    x = np.random.default_rng(0).standard_normal((12, 4))
    np.savez(tmp_path / "a.npz", features=x, labels=labels, parameters=what)
    np.savez(tmp_path / "b.npz", features=x + labels[:, None], labels=labels)
    found = {row.model: row for row in lead_fast.rank(tmp_path, metric="parc")}
    assert found["a"].error is found["b"].error is None
    assert found["a"].details.get("parameters") == known
    assert "parameters" not in found["b"].details
