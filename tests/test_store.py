"""Results in a SQLite file: resuming, several writers, kills at any moment."""

import contextlib
import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ZOO_LABELS as LABELS
from helpers import zoo_features as features

import lead_fast
from lead_fast import Head
from lead_fast.errors import ScoreWarning, StoreError
from lead_fast.zoo import fingerprint, runner, work
from lead_fast.zoo.read import ModelFiles
from lead_fast.zoo.runs import Results
from lead_fast.zoo.store import Store
from lead_fast.zoo.work import Outcome

N = len(LABELS)
KEY = ("features", "labels", "lead", "{}")


@pytest.fixture
def scored(monkeypatch):
    """Names of the models that were scored, in order."""
    names, score_each = [], work.score_each

    def counted(metrics, read, readers):
        names.append(read.model)
        return score_each(metrics, read, readers)

    monkeypatch.setattr(work, "score_each", counted)
    return names


# ----------------------------------------------------------------------------------------- resuming


def test_an_unchanged_model_is_not_scored_twice(zoo, tmp_path, scored):
    store = tmp_path / "runs.db"
    first = lead_fast.rank(zoo, store=store)
    assert first.scores == lead_fast.rank(zoo).scores
    scored.clear()
    again = lead_fast.rank(zoo, store=store)
    assert scored == []
    assert [(r.model, r.score, r.rank) for r in again] == [
        (r.model, r.score, r.rank) for r in first
    ]
    assert again.rows[0].details == first.rows[0].details
    np.savez(zoo / "m2.npz", features=features(5), labels=LABELS)
    assert lead_fast.rank(zoo, store=store).scores["m2"] == lead_fast.score(features(5), LABELS)
    assert scored == ["m2"]


def test_what_a_score_depends_on_is_in_its_key(zoo, tmp_path, scored):
    store = tmp_path / "runs.db"
    lead_fast.rank(zoo, store=store)
    for options, count in [
        ({"time": 2.0}, 3),
        ({"time": 1.0}, 0),  # the default, given
        ({"n_samples": np.int64(64), "hidden": [1024, 2048]}, 0),
        ({"labels": LABELS}, 0),
        ({"labels": LABELS.astype(np.int16)}, 0),
        ({"labels": LABELS[::-1].copy()}, 3),
        ({"metric": "knn"}, 3),
        ({"metric": ["knn", "lead"]}, 0),
        ({"metric": ["knn", "logme"]}, 3),
        ({"seed": 1}, 3),
        ({"repeats": 2}, 3),
        ({"repeats": 2}, 0),
    ]:
        scored.clear()
        expected = lead_fast.rank(zoo, **options)
        scored.clear()
        found = lead_fast.rank(zoo, store=store, **options)
        assert len(scored) == count, options
        assert found.scores == expected.scores, options


def test_labels_share_a_fingerprint_only_where_they_mean_the_same():
    numbers = np.arange(24) % 12
    words = numbers.astype(str)  # "10" is before "2"
    same = [
        [numbers, numbers.tolist(), numbers.astype(np.uint8), numbers.astype(float),
         numbers.astype(object)],
        [words, words.tolist(), words.astype(object)],
        [words.astype("S")],
        [numbers % 2],
        [numbers % 2 > 0],
        [np.where(numbers == 11, np.uint64(2**64 - 1), numbers.astype(np.uint64))],
        [np.where(numbers == 0, -1, numbers)],  # the same bits in int64, but another order
        [numbers + 1],
        [numbers[::-1].copy()],
        [np.eye(12, dtype=bool)[numbers], np.eye(12, order="F")[numbers]],
    ]  # fmt: skip
    prints = [{fingerprint.of_labels(labels) for labels in group} for group in same]
    assert [len(found) for found in prints] == [1] * len(same)
    assert len(set().union(*prints)) == len(same)


def test_scores_by_other_labels_are_not_taken(tmp_path, scored):
    numbers = np.arange(N) % 12
    zoo = {"m": np.random.default_rng(0).standard_normal((N, 8)) + np.eye(12, 8)[numbers]}
    for labels in (numbers.astype(str), numbers.astype(object), numbers):
        found = lead_fast.rank(zoo, labels, store=tmp_path / "runs.db")
        assert found.scores == lead_fast.rank(zoo, labels).scores
    assert len(scored) == 2 + 3  # numbers are the same as objects


def test_heads_share_a_fingerprint_only_where_they_are_the_same():
    def of(**changes):
        head = Head(8, 3, hidden=(4,))
        for name, layer in changes.items():
            getattr(head, name)[layer][0] += 1
        return fingerprint.of_options("lead", {"head": head})

    heads = [of(), of(weights=0), of(weights=1), of(biases=0), of(biases=1)]
    assert len(set(heads)) == len(heads)
    assert of() == heads[0]


def test_arrays_and_files_share_results(zoo, tmp_path, scored):
    store = tmp_path / "runs.db"
    lead_fast.rank(zoo, store=store)
    scored.clear()
    arrays = {f"other{seed}": features(seed) for seed in (1, 2, 3)}
    arrays["fortran"] = np.asfortranarray(features(2))
    with pytest.warns(ScoreWarning, match="tied"):
        found = lead_fast.rank(arrays, LABELS, store=store)
    assert scored == []
    assert found.scores["other2"] == found.scores["fortran"]
    lead_fast.rank({"double": features(1).astype(float)}, LABELS, store=store)
    assert scored == ["double"]


def test_files_in_a_known_state_are_not_read(zoo, tmp_path, monkeypatch):
    store = tmp_path / "runs.db"
    monkeypatch.setattr("lead_fast.zoo.store._FRESH", 10**15)  # all files are new: none is trusted
    lead_fast.rank(zoo, store=store)
    read, of_features = [], fingerprint.of_features

    def counted(x):
        read.append(x)
        return of_features(x)

    monkeypatch.setattr(fingerprint, "of_features", counted)
    lead_fast.rank(zoo, store=store)
    assert len(read) == 3
    monkeypatch.setattr("lead_fast.zoo.store._FRESH", 0)
    lead_fast.rank(zoo, store=store)
    assert len(read) == 6
    lead_fast.rank(zoo, store=store)
    assert len(read) == 6
    # Nor is what another metric has to read hashed again, by whatever way it is come to.
    expected = lead_fast.rank(zoo, metric="knn").scores
    assert lead_fast.rank(zoo, metric="knn", store=store).scores == expected
    (tmp_path / "link").symlink_to(zoo)
    assert not lead_fast.rank(tmp_path / "link", metric="logme", store=store).failed
    assert len(read) == 6
    np.savez(zoo / "m2.npz", features=features(7), labels=LABELS)
    found = lead_fast.rank(zoo, store=store)
    assert len(read) == 7
    assert found.scores["m2"] == lead_fast.score(features(7), LABELS)


def test_failures_are_recorded_and_tried_again(zoo, tmp_path, scored):
    store = tmp_path / "runs.db"
    whole = (zoo / "m2.npz").read_bytes()
    (zoo / "m2.npz").write_bytes(whole[:400])
    bad = features(3)
    bad[5, 1] = np.nan
    np.savez(zoo / "m3.npz", features=bad, labels=LABELS)
    first = lead_fast.rank(zoo, store=store)
    assert set(first.failed) == {"m2", "m3"}
    with Store(store) as file:
        (run,) = file.runs()
        assert (run.models, run.done, run.failed) == (3, 3, 2)
        errors = {model: one.error for model, one in file.outcomes(run.id, "lead").items()}
    assert errors["m1"] is None
    assert "truncated" in errors["m2"]
    assert "NaN" in errors["m3"]
    (zoo / "m2.npz").write_bytes(whole)
    scored.clear()
    again = lead_fast.rank(zoo, store=store)
    assert set(again.failed) == {"m3"}
    assert scored == ["m2", "m3"]


STATE = fingerprint.FileState("/zoo/m.npy", 10**6, 10**18, 10**18, 77, 10**18 + 3 * 10**9)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, True),
        ({"seen": 10**18 + 10**10}, True),
        ({"path": "/zoo/n.npy"}, False),
        ({"bytes": 10**6 + 1}, False),
        ({"mtime": 10**18 - 1}, False),
        ({"ctime": 10**18 - 1}, False),  # as of a copy that has the times of its original
        ({"inode": 78}, False),
    ],
)
def test_what_tells_that_a_file_has_changed(tmp_path, change, known):
    with Store(tmp_path / "runs.db") as store:
        store.remember_file(STATE, "fingerprint")
        found = store.known_file(dataclasses.replace(STATE, **change))
        assert found == ("fingerprint" if known else None)


@pytest.mark.parametrize("name", ["mtime", "ctime"])
def test_a_file_that_was_new_when_it_was_looked_at_is_not_trusted(tmp_path, name):
    """However long reading took: it may have changed within the same tick of the clock."""
    state = dataclasses.replace(STATE, **{name: STATE.seen - 10**9})
    with Store(tmp_path / "runs.db") as store:
        store.remember_file(state, "fingerprint")
        assert store.known_file(state) is None


def test_the_clock_is_looked_at_before_the_file(tmp_path, monkeypatch):
    path, looks, stat = tmp_path / "m.npy", [], os.stat
    path.write_bytes(b"1")

    def watched(path, **options):
        looks.append(time.time_ns())
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", watched)
        before = time.time_ns()
        state = fingerprint.file_state(path)
    assert before <= state.seen <= looks[-1]


def test_a_file_that_changes_while_it_is_looked_up(zoo, tmp_path, monkeypatch):
    store, read_model = tmp_path / "runs.db", runner.read_model
    monkeypatch.setattr("lead_fast.zoo.store._FRESH", 0)
    lead_fast.rank(zoo, store=store)
    before = (zoo / "m2.npz").read_bytes()

    def changing(model, labels, only_labels=False, **options):
        read = read_model(model, labels, only_labels, **options)
        if only_labels and model.name == "m2":
            np.savez(zoo / "m2.npz", features=features(1), labels=LABELS)
        return read

    monkeypatch.setattr(runner, "read_model", changing)
    with pytest.warns(ScoreWarning, match="tied"):
        found = lead_fast.rank(zoo, metric="logme", store=store).scores
    assert found["m2"] == found["m1"]
    monkeypatch.setattr(runner, "read_model", read_model)
    (zoo / "m2.npz").write_bytes(before)
    expected = lead_fast.rank(zoo, metric="logme").scores
    assert lead_fast.rank(zoo, metric="logme", store=store).scores == expected


def test_a_file_whose_state_is_not_to_be_had_is_read_all_the_same(zoo, tmp_path, monkeypatch):
    def fails(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ModelFiles, "state", fails)
    for _ in range(2):
        found = lead_fast.rank(zoo, metric="knn", store=tmp_path / "runs.db")
        assert not found.failed


def failures(store):
    """What each run says: how many models failed, and why."""
    with Store(store) as file:
        return [
            (run.failed, {m: one.error for m, one in file.outcomes(run.id, "knn").items()})
            for run in file.runs()
        ]


def test_a_failure_belongs_to_its_run(tmp_path, monkeypatch):
    """Other runs, of other zoos too, neither see it nor change it."""
    store, one, other = tmp_path / "runs.db", tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        np.savez(folder / "good.npz", features=features(2), labels=LABELS)
    (one / "m.npz").write_bytes(b"nothing of the kind")
    np.savez(other / "m.npz", features=features(1))
    lead_fast.rank(one, metric="knn", store=store)
    (first,) = failures(store)
    assert first[0] == 1 and "not an .npz" in first[1]["m"]
    lead_fast.rank(other, metric="knn", store=store)
    assert failures(store)[0] == first
    assert "no labels" in failures(store)[1][1]["m"]

    def full(metrics, read, readers):
        return {name: work.Scored(MemoryError("16 GB"), 0.1, []) for name in metrics}

    arrays = {"m": features(3)}
    with monkeypatch.context() as patch:
        patch.setattr(work, "score_each", full)
        lead_fast.rank(arrays, LABELS, "knn", store=store)
    before = failures(store)
    assert before[2] == (1, {"m": "out of memory: 16 GB"})
    assert lead_fast.rank(arrays, LABELS, "knn", store=store).scores  # content has a score now
    assert failures(store) == [*before, (0, {"m": None})]


def test_a_damaged_input_costs_the_metric_that_needs_it(tmp_path, monkeypatch):
    scored, score_each = [], work.score_each

    def counted(metrics, read, readers):
        scored.append((read.model, sorted(metrics)))
        return score_each(metrics, read, readers)

    monkeypatch.setattr(work, "score_each", counted)
    folder, store = tmp_path / "zoo", tmp_path / "runs.db"
    folder.mkdir()
    np.save(folder / "labels.npy", LABELS)
    for seed, name in enumerate("ab"):
        np.save(folder / f"{name}_pets_feature.npy", features(seed))
        source = np.random.default_rng(seed).dirichlet(np.ones(4), N)
        np.save(folder / f"{name}_pets_output.npy", source)
    damaged = folder / "b_pets_output.npy"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    expected = lead_fast.rank(folder, metric=["leep", "knn"])
    assert list(expected["knn"].scores) and expected["leep"].failed.keys() == {"b"}
    for scorings in ([(name, ["knn", "leep"]) for name in "ab"], [("b", ["leep"])]):
        scored.clear()
        found = lead_fast.rank(folder, metric=["leep", "knn"], store=store)
        assert found["knn"].scores == expected["knn"].scores
        assert found["leep"].scores == expected["leep"].scores
        assert found["leep"].failed == expected["leep"].failed
        assert scored == scorings
    with Store(store) as file:
        assert [(run.done, run.failed) for run in file.runs()] == [(2, 1)] * 2
    assert [error for _, error in sorted(failures(store)[1][1].items())] == [None, None]


def test_labels_that_no_metric_takes_fail_as_without_a_store(tmp_path, monkeypatch):
    folder, store = tmp_path / "zoo", tmp_path / "runs.db"
    folder.mkdir()
    monkeypatch.setattr("lead_fast.zoo.store._FRESH", 0)
    for name in "ab":
        np.save(folder / f"{name}_pets_feature.npy", features(ord(name)))
        np.save(folder / f"{name}_pets_label.npy", LABELS)
    assert not lead_fast.rank(folder, metric="knn", store=store).failed
    np.save(folder / "b_pets_label.npy", LABELS + 0.5)  # features are known, then new
    for _ in range(2):
        expected = lead_fast.rank(folder, metric="knn")
        found = lead_fast.rank(folder, metric="knn", store=store)
        assert found.failed == expected.failed and found.failed.keys() == {"b"}
        assert found.scores == expected.scores
        np.save(folder / "b_pets_feature.npy", features(5))


def test_the_size_of_a_model_is_that_of_its_file(tmp_path, scored):
    """Of two files with the same features, each shows its own, in the run as well as now."""
    folder, store = tmp_path / "zoo", tmp_path / "runs.db"
    folder.mkdir()

    def write(name, **more):
        np.savez(folder / name, features=features(1), labels=LABELS, **more)

    def sizes(ranking):
        return {row.model: row.details.get("parameters") for row in ranking}

    def rank():
        with pytest.warns(ScoreWarning, match="tied"):
            return sizes(lead_fast.rank(folder, metric="knn", store=store))

    write("a", parameters=np.int64(10))
    write("b", parameters=np.int64(99_999))
    expected = {"a": 10, "b": 99_999}
    assert rank() == expected
    write("c")
    expected["c"] = None
    scored.clear()
    assert rank() == expected
    assert scored == []
    with Store(store) as file:
        shown = [sizes(Results(file, run.id).rankings["knn"]) for run in file.runs()]
    assert shown == [{"a": 10, "b": 99_999}, expected]


def test_warnings_come_from_the_store_too(tmp_path, scored):
    wide = {f"m{seed}": features(seed, 70) for seed in (1, 2)}
    store = tmp_path / "runs.db"
    for _ in range(2):
        with pytest.warns(ScoreWarning, match="fewer samples"):
            ranking = lead_fast.rank(wide, LABELS, store=store)
        assert ranking.warnings[0].endswith("likewise m2")
    assert len(scored) == 2


def test_a_metric_over_the_zoo(zoo, tmp_path, scored):
    store = tmp_path / "runs.db"
    first = lead_fast.rank(zoo, metric="etran", store=store)
    assert first.scores == lead_fast.rank(zoo, metric="etran").scores
    scored.clear()
    np.savez(zoo / "m4.npz", features=features(4), labels=LABELS)
    found = lead_fast.rank(zoo, metric="etran", store=store)
    assert scored == ["m4"]
    assert found.scores == lead_fast.rank(zoo, metric="etran").scores
    with Store(store) as file:
        run = file.runs()[-1]
        stored = {model: one.value for model, one in file.outcomes(run.id, "etran").items()}
    assert stored == found.scores


def test_further_inputs_are_in_the_key(tmp_path, scored):
    zoo = {"a": features(1), "b": features(2)}
    source = {name: np.random.default_rng(0).dirichlet(np.ones(4), N) for name in zoo}
    store = tmp_path / "runs.db"
    first = lead_fast.rank(zoo, LABELS, "leep", source=source, store=store)
    source["b"] = np.random.default_rng(1).dirichlet(np.ones(4), N)
    scored.clear()
    second = lead_fast.rank(zoo, LABELS, "leep", source=source, store=store)
    assert scored == ["b"]
    assert second.scores["a"] == first.scores["a"]
    assert second.scores["b"] != first.scores["b"]


def test_names_that_are_not_utf8(tmp_path, monkeypatch, call):
    """What Linux allows: the file system's bytes come as surrogates, which are no text."""
    folder, store = os.fsencode(tmp_path / "zoo") + b"\xfe", tmp_path / "runs.db"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("no such names on this file system")
    folder = Path(os.fsdecode(folder))
    names = [os.fsdecode(b"m\xff"), os.fsdecode(b"bad\xff"), "ä", "plain"]
    for seed, name in enumerate(names):
        np.savez(folder / f"{name}.npz", features=features(seed), labels=LABELS)
    (folder / f"{names[1]}.npz").write_bytes(b"nothing")
    monkeypatch.setattr("lead_fast.zoo.store._FRESH", 0)  # so that their files are remembered
    metrics = ["knn", "etran"]
    expected = lead_fast.rank(folder, metric=metrics)
    assert expected["knn"].failed.keys() == {names[1]}
    for _ in range(2):
        found = lead_fast.rank(folder, metric=metrics, store=store)
        assert plain(found) == plain(expected)
    with Store(store) as file:
        assert file.known_file(fingerprint.file_state(folder / f"{names[0]}.npz"))
        for run in file.runs():
            assert run.zoo == os.path.realpath(folder)
            assert plain(Results(file, run.id).rankings) == plain(expected)
    status, _, err = call("rank", folder, "--store", store, "--metric", "knn")
    assert status == 1 and len(err.splitlines()) == 1
    assert call("runs", store)[0] == call("runs", store, 1, 2)[0] == 0


def plain(rankings):
    return [[(row.model, row.score, row.rank, row.error) for row in one] for one in rankings]


# ----------------------------------------------------------------------------------------- the file


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(StoreError, match="not usable as a store"):
        Store(path)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE precious (a)")
    with pytest.raises(StoreError, match="no store of lead_fast"):
        Store(other)
    with pytest.raises(StoreError, match="no such store"):
        Store(tmp_path / "none.db", reading=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="an empty file"):
        Store(tmp_path / "empty.db", reading=True)
    assert (tmp_path / "empty.db").stat().st_size == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "begun.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")  # the first that a new store writes
    with pytest.raises(StoreError, match="an empty database"):
        Store(tmp_path / "begun.db", reading=True)
    with pytest.raises(StoreError, match="not usable"):
        Store(tmp_path)
    with Store(tmp_path / "later.db"):
        pass
    with sqlite3.connect(tmp_path / "later.db") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="later version"):
        Store(tmp_path / "later.db")


def with_one_result(path):
    """A store of a run with a result, closed."""
    with Store(path) as store:
        run = store.begin("zoo", {"lead": "{}"}, 1)
        store.put(run, "m", {"lead": KEY}, {"lead": Outcome(-0.5, 2.0, "cpu")})
    return path


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_reading_writes_nothing(tmp_path, call):
    path = with_one_result(tmp_path / "a #?%41.db")  # what means something in a URI
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # which a store that is written changes
    before = contents(tmp_path)
    with Store(path, reading=True) as store:
        assert [run.done for run in store.runs()] == [1]
        with pytest.raises(StoreError, match="readonly"):
            store.begin("zoo", {"lead": "{}"}, 1)
    assert call("runs", path)[0] == call("runs", path, 1)[0] == 0
    assert contents(tmp_path) == before
    with Store(path):  # WAL mode again
        pass
    before = contents(tmp_path)
    assert call("runs", path)[0] == 0
    assert contents(tmp_path) == before


def test_reading_where_nothing_may_be_written(tmp_path, monkeypatch):
    """As for another user; root may write everywhere, so that this says only what is tried."""
    path = with_one_result(tmp_path / "runs.db")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    before = contents(tmp_path)
    with monkeypatch.context() as refused:
        refused.setattr(os, "access", lambda *_: False)
        with Store(link, reading=True) as store:
            assert [run.done for run in store.runs()] == [1]
            assert contents(tmp_path) == before  # no -wal and -shm, even while it is open
    with Store(path) as writer, Store(link, reading=True) as store:
        assert (tmp_path / "runs.db-wal").exists()
        writer.put(1, "n", {}, {"lead": Outcome(None, 2.0, "cpu", "damaged")})
        assert [run.done for run in store.runs()] == [2]


def test_writing_without_permission_leaves_nothing_behind(tmp_path, monkeypatch):
    """SQLite's files beside the store would be another user's, and lock out the owner."""
    Store(tmp_path / "s.db").close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StoreError, match="may not be written to by this user"):
        Store(tmp_path / "s.db")
    assert os.listdir(tmp_path) == ["s.db"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_reading_without_permission_to_write(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = with_one_result(folder / "runs.db")
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        with Store(path, reading=True) as store:
            assert [run.done for run in store.runs()] == [1]
    finally:
        folder.chmod(0o755)


def test_reading_what_a_killed_run_left(tmp_path):
    """Its rows are in -wal still, and stay there."""
    killed = tmp_path / "killed"
    killed.mkdir()
    with Store(tmp_path / "runs.db") as store:
        store.begin("zoo", {"lead": "{}"}, 1)
        for path in tmp_path.glob("runs.db*"):
            shutil.copy(path, killed)
    (killed / "runs.db-shm").unlink()
    before = contents(killed)
    with Store(killed / "runs.db", reading=True) as store:
        assert len(store.runs()) == 1
    after = contents(killed)
    assert {name: after[name] for name in before} == before


def test_a_failure_does_not_replace_a_score(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        run = store.begin("zoo", {"lead": "{}"}, 1)
        keys = {"lead": KEY}
        store.put(run, "m", keys, {"lead": Outcome(None, 1.0, "cpu", "out of memory")})
        assert store.get(KEY) is None
        good = Outcome(-0.5, 2.0, "cpu", None, (("ScoreWarning", "x"),), {"draws": [1.0, 2.0]})
        store.put(run, "m", keys, {"lead": good})
        assert store.get(KEY) == good
        store.put(run, "m", keys, {"lead": Outcome(None, 1.0, "cpu", "out of memory")})
        assert store.get(KEY) == good
        store.put(run, "m", keys, {"lead": Outcome(-9.0, 1.0, "cpu")})
        assert store.get(KEY) == good  # what is finished stays


def test_a_store_that_another_process_makes_meanwhile(tmp_path, monkeypatch):
    path, connect = tmp_path / "runs.db", sqlite3.connect

    class Slow(sqlite3.Connection):
        """Between its first look and its second one, the store is made."""

        looks = 0

        def execute(self, *statement):
            self.looks += 1
            if self.looks == 2:
                monkeypatch.setattr(sqlite3, "connect", connect)
                Store(path).close()
            return super().execute(*statement)

    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **options: connect(*given, factory=Slow, **options)
    )
    with Store(path) as store:
        assert store.begin("zoo", {"lead": "{}"}, 1) == 1


def test_what_cannot_be_recorded_leaves_nothing_behind(tmp_path):
    """Neither the metrics before it nor a transaction that keeps others waiting."""
    with Store(tmp_path / "runs.db") as store, Store(tmp_path / "runs.db") as other:
        run = store.begin("zoo", {"lead": "{}", "knn": "{}"}, 2)
        keys = {"lead": KEY, "knn": (*KEY[:2], "knn", "{}")}
        good = Outcome(-0.5, 2.0, "cpu")
        with pytest.raises(TypeError):
            store.put(
                run, "m", keys, {"lead": good, "knn": Outcome(object, 1.0, "cpu", details={1j: 1})}
            )
        assert store.get(KEY) is None and other.get(KEY) is None
        assert other.runs()[0].done == 0
        other.put(run, "n", keys, {"lead": good})
        store.put(run, "m", keys, {"lead": good, "knn": good})
        assert store.runs()[0].done == 2


def test_closing_waits_for_what_is_being_written(tmp_path):
    store = Store(tmp_path / "runs.db")
    with store._transaction() as database:
        closing = threading.Thread(target=store.close)
        closing.start()
        closing.join(0.2)
        database.execute("INSERT INTO files VALUES ('a', 1, 1, 1, 1, 'fingerprint')")
    closing.join(60)
    with Store(tmp_path / "runs.db") as store:
        assert store._query("SELECT path FROM files") == [("a",)]


def test_a_row_waits_for_no_disk_and_is_safe_from_kills(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        assert store._query("PRAGMA journal_mode") == [("wal",)]
        assert store._query("PRAGMA synchronous") == [(1,)]  # NORMAL; with 0 the file may break


def test_threads_and_processes_write_at_once(tmp_path):
    path = tmp_path / "runs.db"
    program = (
        "import sys; from lead_fast.zoo.store import Store\n"
        "from lead_fast.zoo.work import Outcome\n"
        "with Store(sys.argv[1]) as store:\n"
        "    run = store.begin('zoo', {'lead': '{}'}, 40)\n"
        "    for i in range(40):\n"
        "        key = (str(i), 'labels', 'lead', '{}')\n"
        "        store.put(run, f'm{i}', {'lead': key}, {'lead': Outcome(float(i), 0.1, 'cpu')})\n"
        "    store.finish(run, {})\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        for child in children:
            _, err = child.communicate(timeout=120)
            assert child.returncode == 0, err.decode()
    finally:
        for child in children:
            child.kill()
            child.wait()
    with Store(path) as store:
        runs = store.runs()
        assert [(run.models, run.done, run.failed) for run in runs] == [(40, 40, 0)] * 4
        assert all(run.finished for run in runs)
        for i in range(40):
            assert store.get((str(i), "labels", "lead", "{}")).value == i
        failures = []

        def write(number):
            try:
                for i in range(20):
                    key = (f"{number} {i}", "labels", "lead", "{}")
                    outcome = {"lead": Outcome(1.0, 0.1, "cpu")}
                    store.put(1, f"t{number} {i}", {"lead": key}, outcome)
                    assert store.get(key).value == 1.0
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


# -------------------------------------------------------------------------------------------- kills


def start(zoo, store):
    command = [sys.executable, "-m", "lead_fast", "rank", str(zoo), "--store", str(store)]
    return subprocess.Popen(
        [*command, "--metric", "knn,logme"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished_rows(store, check=False):
    """How many results there are, as any other SQLite program sees them."""
    if not store.exists():
        return 0
    with contextlib.closing(sqlite3.connect(store, timeout=60)) as database:
        try:
            (count,) = database.execute("SELECT count(*) FROM results").fetchone()
            if check:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        except sqlite3.OperationalError as error:
            assert "no such table" in str(error)
            return 0
    return count


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_kills_lose_nothing_that_was_finished(tmp_path, scored):
    """Kill a run at many moments, each time going on with the same store."""
    folder, store = tmp_path / "zoo", tmp_path / "runs.db"
    folder.mkdir()
    np.save(folder / "labels.npy", LABELS)
    models = [f"m{seed}" for seed in range(1, 41)]
    for seed in range(1, 41):
        np.savez(folder / f"m{seed}.npz", features=features(seed))
    before, kills = 0, 0
    for wait in np.linspace(0.0, 0.1, 6):
        child = start(folder, store)
        try:
            until = time.monotonic() + 200
            while finished_rows(store) <= before and child.poll() is None:  # until it gets on
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            _, err = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), err.decode()
        now = finished_rows(store, check=True)
        assert now >= before + (child.returncode != 0)
        assert now % 2 == 0  # both metrics of a model, or neither
        before = now
        if now == 2 * len(models):  # killed on its way out, if at all
            break
        assert child.returncode != 0
        kills += 1
    assert kills >= 2
    ranking = lead_fast.rank(folder, metric=["knn", "logme"], store=store)
    assert len(scored) == len(models) - before // 2
    fresh = lead_fast.rank(folder, metric=["knn", "logme"])
    assert ranking.scores == fresh.scores
    with Store(store) as file:
        runs = file.runs()
        assert [run.finished is None for run in runs][:kills] == [True] * kills
        tables = {run.id: Results(file, run.id).table() for run in runs if run.done}
    for run in runs:
        if run.done:
            stopped = run.finished is None and run.done < len(models)
            assert ("of 40 models: the run was stopped" in tables[run.id]) == stopped
