"""Scoring in other processes: joblib's own, Dask's, Ray's."""

import contextlib
import importlib.util
import os
import signal
import threading
import time
import tracemalloc

import joblib
import numpy as np
import pytest
from helpers import relu_features

import lead_fast
from lead_fast import cli
from lead_fast.errors import InputError, LeadFastError, ScoreWarning
from lead_fast.zoo import cluster, read, work
from lead_fast.zoo.inputs import Inputs
from lead_fast.zoo.store import Store

N, K = 60, 3
LABELS = np.arange(N) % K
METRICS = ["knn", "logme"]


def features(seed, width=8):
    return relu_features(LABELS, width, seed=seed, spread=0.5)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for seed in range(1, 7):
        np.savez(folder / f"m{seed}.npz", features=features(seed), labels=LABELS)
    (folder / "m7.npz").write_bytes(b"nothing")
    np.savez(folder / "m8.npz", features=features(8, 80), labels=LABELS)  # wider than N
    return folder


@contextlib.contextmanager
def processes():
    """Two processes of joblib's own."""
    with joblib.parallel_config("loky", n_jobs=2):
        yield


@contextlib.contextmanager
def dask():
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
        joblib.parallel_config("dask", client=client),
    ):
        yield


@contextlib.contextmanager
def ray():
    """A Ray cluster of two nodes, with one process each."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        with cluster.backend("ray", nodes.address):
            yield
    finally:
        nodes.shutdown()


BACKENDS = [
    pytest.param(processes, id="processes"),
    pytest.param(dask, id="dask"),
    pytest.param(
        ray,
        id="ray",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("ray") is None, reason="ray is not installed"
        ),
    ),
]


def plain(rankings):
    return [[(row.model, row.score, row.rank, row.error) for row in one] for one in rankings]


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_ranking_is_that_of_one_process(zoo, tmp_path, backend, monkeypatch):
    expected = lead_fast.rank(zoo, metric=METRICS)
    store = tmp_path / "runs.db"
    monkeypatch.setattr(work, "score_each", None)  # here nothing can be scored any more
    with backend():
        assert cluster.active(None) is not None
        found = lead_fast.rank(zoo, metric=METRICS, store=store)
        from_arrays = lead_fast.rank({"a": features(1), "b": features(2)}, LABELS, "knn")
    assert plain(found) == plain(expected)
    assert found.warnings == expected.warnings
    assert from_arrays.scores == {
        "a": expected["knn"].scores["m1"],
        "b": expected["knn"].scores["m2"],
    }
    with Store(store) as file:
        (run,) = file.runs()
        assert (run.models, run.done, run.failed) == (8, 8, 1)
    again = lead_fast.rank(zoo, metric=METRICS, store=store)  # by one process, from the store
    assert plain(again) == plain(expected)


@contextlib.contextmanager
def killing(store, victims):
    """Kill one of the processes that `victims()` gives once a model is in the store."""
    killed, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.01):
            if store.exists():
                with Store(store) as file:
                    runs = file.runs()
                if runs and runs[0].done >= 2:
                    for pid in victims()[:1]:
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                        return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def workers(words):
    """Processes below this one whose command line has these words."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(word in " ".join(process.cmdline()) for word in words):
                found.append(process.pid)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # joblib's, of a worker that stopped
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_costs_a_retry(tmp_path, backend):
    wide = {f"m{seed}": features(seed, 8) for seed in range(16)}
    store = tmp_path / "runs.db"
    words = {processes: ["loky"], dask: ["spawn_main"], ray: ["ray::PoolActor"]}[backend]
    with backend(), killing(store, lambda: workers(words)) as killed:
        found = lead_fast.rank(wide, LABELS, "lead", store=store, hidden=(1024, 512))
    assert len(killed) == 1
    assert not found.failed
    assert found.scores == lead_fast.rank(wide, LABELS, "lead", hidden=(1024, 512)).scores
    with Store(store) as file:
        assert file.runs()[0].done == 16


class Bomb:
    """Kills whoever unpickles it."""

    def __reduce__(self):
        return eval, ("__import__('os').kill(__import__('os').getpid(), 9)",)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_that_kills_its_process_is_passed_over():
    zoo = {f"m{seed}": features(seed) for seed in range(8)}
    zoo["m3bomb"] = Bomb()
    found = lead_fast.rank(zoo, LABELS, "knn", jobs=2)
    assert list(found.failed) == ["m3bomb"]
    assert "lost with its process" in found.failed["m3bomb"]
    assert len(found.scores) == 8


@pytest.fixture
def runs(monkeypatch):
    """Of every time that models are handed out, how many there are to be."""
    found, run = [], cluster.Jobs._run

    def watched(self, models, *rest):
        found.append(len(models))
        return run(self, models, *rest)

    monkeypatch.setattr(cluster.Jobs, "_run", watched)
    return found


class Locked:
    """Features that cannot be pickled, and count how often they are asked for."""

    def __init__(self, seed, read=None):
        self.seed, self.read, self.lock = seed, [] if read is None else read, threading.Lock()

    def __array__(self, dtype=None, copy=None):
        self.read.append(self.seed)
        time.sleep(0.01)  # so that results are waited for
        return features(self.seed)


def test_to_see_whether_arrays_can_be_sent_they_are_not_copied(tmp_path):
    torch = pytest.importorskip("torch")
    np.save(tmp_path / "x.npy", np.zeros((4000, 500)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    jobs = cluster.Jobs(2, True)
    tracemalloc.start()
    try:
        assert jobs._unsent((mapped, mapped[:, ::2], torch.zeros(4000, 500))) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert "TypeError" in jobs._unsent({"x": [np.array([threading.Lock()])]})


def test_what_cannot_be_sent_is_the_failure_of_its_model(runs):
    zoo = {f"m{seed}": features(seed) for seed in range(8)}
    zoo["m3"] = Locked(3)
    found = lead_fast.rank(zoo, LABELS, "knn", jobs=2)
    assert list(found.failed) == ["m3"]
    assert found.failed["m3"].startswith("cannot be sent to another process (TypeError: ")
    assert len(found.scores) == 7 and runs[0] == 7
    runs.clear()
    source = {name: Locked(1) for name in zoo}
    assert len(lead_fast.rank(zoo, LABELS, ["leep", "knn"], jobs=2, source=source).failed) == 8
    assert not runs
    with joblib.parallel_config("threading", n_jobs=2):  # to these nothing is sent
        assert not lead_fast.rank(zoo, LABELS, "knn").failed


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_an_input_that_cannot_be_read_is_the_failure_of_its_model(tmp_path, runs):
    for seed in (1, 2, 3):
        np.save(tmp_path / f"m{seed}_c_feature.npy", features(seed))
        np.save(tmp_path / f"m{seed}_c_label.npy", LABELS)
        np.save(tmp_path / f"m{seed}_c_output.npy", np.full((N, 4), 0.25))
    (tmp_path / "m2_c_output.npy").write_bytes(b"nothing")
    found = [
        lead_fast.rank(tmp_path, metric=["leep", "knn"], store=tmp_path / f"{jobs}.db", jobs=jobs)
        for jobs in (1, 2)
    ]
    assert plain(found[0]) == plain(found[1])
    assert list(found[0].failed) == ["m2"]
    assert runs == [3]


@pytest.mark.parametrize("streams", [True, False])
def test_no_more_is_done_than_can_be_recorded(streams):
    scored, taken = [], 0
    zoo = read.open_zoo({f"m{seed}": Locked(seed, scored) for seed in range(60)})
    inputs = Inputs(zoo, ["knn"], {"knn": {}})
    made = work.Work(["knn"], {"knn": {}}, None)
    with joblib.parallel_config("threading", n_jobs=2):
        jobs = cluster.Jobs(2, streams, shares=True)
        for _ in jobs.score(zoo.models, LABELS, made, inputs, None):
            if taken in (0, 30):
                time.sleep(0.3)  # a slow disk
            assert len(scored) - taken <= 16
            taken += 1
    assert taken == 60 and sorted(scored) == list(range(60))


def test_other_processes_stop_with_the_ranking(monkeypatch):
    stopped = []

    def score(self, models, *rest):
        try:
            yield models[0], None, {}  # which lacks the metric
        finally:
            stopped.append(True)

    monkeypatch.setattr(cluster.Jobs, "score", score)
    with pytest.raises(KeyError, match="knn") as kept:
        lead_fast.rank({"a": features(1)}, LABELS, "knn", jobs=2)
    assert stopped and kept.traceback


def scripted(monkeypatch, *outcomes):
    """Let runs give so many results each, or break down after that many; the models of each run."""
    asked, left = [], list(outcomes)

    def run(self, models, *rest):
        asked.append([model.name for model in models])
        count, breaks = left.pop(0)
        for model in models[:count]:
            yield model.name, (model, None, {})
        if breaks:
            raise OSError("a worker has gone")

    monkeypatch.setattr(cluster.Jobs, "_run", run)
    monkeypatch.setattr(cluster.Jobs, "_most_at_once", lambda self: 2)
    zoo = read.open_zoo({name: features(1) for name in "abcdef"})
    inputs = Inputs(zoo, ["knn"], {"knn": {}})
    made = work.Work(["knn"], {"knn": {}}, None)
    done = list(cluster.Jobs(2, True).score(zoo.models, LABELS, made, inputs, None))
    assert sorted(model.name for model, *_ in done) == list("abcdef") and not left
    failed = {model.name: outcomes["knn"].error for model, _, outcomes in done if outcomes}
    return list(map("".join, asked)), failed


def test_one_breakdown_after_results_is_no_reason_to_go_one_by_one(monkeypatch):
    asked, failed = scripted(
        monkeypatch, (1, True), (1, True), (0, True), (0, True), (1, False), (1, False), (9, False)
    )
    assert asked == ["abcdef", "bcdef", "cdef", "c", "c", "d", "ef"]
    assert not failed


def test_a_model_is_tried_twice_alone(monkeypatch):
    asked, failed = scripted(
        monkeypatch, (0, True), (0, True), (0, True), (0, True), (1, False), (9, False)
    )
    assert asked == ["abcdef", "abcdef", "a", "a", "b", "cdef"]
    assert list(failed) == ["a"] and "(OSError: a worker has gone)" in failed["a"]


def test_a_cluster_without_workers_is_one_with_one(monkeypatch):
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda count: 0)
    assert cluster.Jobs(-1, True)._most_at_once() == 2


def test_a_worker_holds_the_scorers_of_one_run_and_hands_out_no_features():
    (model,) = read.open_zoo({"a": features(1)}).models
    cluster._works.clear()
    try:
        for token in ("first", "second", "second"):
            made = work.Work(["knn"], {"knn": {}}, None)
            got, _, fingerprint, outcomes = cluster._score(token, made, model, LABELS, {}, True)
            assert outcomes["knn"].error is None and fingerprint is not None
            assert got.features is None and got.labels is None
            assert list(cluster._works) == [token]
        assert cluster._works["second"].scorers.made == 1
    finally:
        cluster._works.clear()


def test_labels_are_those_of_each_file(tmp_path):
    np.savez(tmp_path / "a.npz", features=features(1), labels=LABELS)
    np.savez(tmp_path / "b.npz", features=features(2), labels=np.sort(LABELS))
    with pytest.warns(ScoreWarning, match="different labels"):
        expected = lead_fast.rank(tmp_path, metric="knn").scores
    with pytest.warns(ScoreWarning, match="different labels"):
        assert lead_fast.rank(tmp_path, metric="knn", jobs=2).scores == expected


def test_repeats_and_inputs_in_processes():
    zoo = {f"m{seed}": features(seed) for seed in (1, 2, 3)}
    source = {name: np.random.default_rng(3).dirichlet(np.ones(4), N) for name in zoo}
    source["m1"] = source["m1"][::-1]
    for options in (
        {"metric": ["parc", "leep"], "source": source, "repeats": 2, "max_samples": 30},
        {"metric": "etran"},
    ):
        one = lead_fast.rank(zoo, LABELS, **options)
        other = lead_fast.rank(zoo, LABELS, jobs=2, **options)
        assert other.scores == one.scores


def test_what_counts_as_active():
    assert cluster.active(None) is None
    assert cluster.active(1) is None
    assert cluster.active(2) is not None
    with joblib.parallel_config("loky", n_jobs=2):
        assert cluster.active(None) is not None
        assert cluster.active(1) is None
    with joblib.parallel_config("threading", n_jobs=2):
        assert cluster.active(None) is not None
    for wrong in (0, -2):
        with pytest.raises(InputError, match="jobs"):
            cluster.active(wrong)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_processes_of_a_cluster(name, monkeypatch):
    made = []

    class Stop(Exception):
        pass

    class Module:
        register_ray = None

        def Client(self, *args, **options):
            made.append(options.get("n_workers"))
            raise Stop

        def init(self, address, num_cpus, **options):
            made.append(num_cpus)
            raise Stop

    monkeypatch.setattr(cluster, "need", lambda *names: Module())
    for jobs in (None, 3, -1):
        with pytest.raises(Stop), cluster.backend(name, jobs=jobs):
            pass
    assert made == [None, 3, joblib.cpu_count()]
    for wrong in (0, -5, 2.5):
        with pytest.raises(LeadFastError, match="jobs"), cluster.backend(name, jobs=wrong):
            pass
    with pytest.raises(InputError, match="that at here has its own"):  # its number of processes
        with cluster.backend(name, "here", 2):
            pass
    assert len(made) == 3


def test_a_cluster_that_cannot_be_made(monkeypatch):
    class Module:
        def Client(self, *args, **options):
            raise OSError("no port is free")

    monkeypatch.setattr(cluster, "need", lambda *names: Module())
    for address, text in ((None, "backend: no cluster of dask"), ("x:1", "no cluster at x:1")):
        with pytest.raises(InputError, match=text), cluster.backend("dask", address):
            pass


def test_threads_are_processes_enough(zoo):
    expected = lead_fast.rank(zoo, metric="knn")
    with joblib.parallel_config("threading", n_jobs=2):
        assert lead_fast.rank(zoo, metric="knn").scores == expected.scores


def test_the_command(zoo, tmp_path, capsys):
    status = cli.main(["rank", str(zoo), "--metric", "knn", "--jobs", "2", "--json"])
    out, err = capsys.readouterr()
    assert status == 1  # one file is damaged
    assert '"m7"' in out and "m7" in err
    assert cli.main(["rank", str(zoo), "--jobs", "0"]) == 2
    assert cli.main(["rank", str(zoo), "--address", "tcp://127.0.0.1:1"]) == 2
    assert "--backend dask or ray" in capsys.readouterr().err


def test_the_command_on_a_cluster(zoo, capsys):
    pytest.importorskip("distributed", reason="dask is not installed")
    command = ["rank", str(zoo), "--metric", "knn", "--backend", "dask", "--json"]
    assert cli.main([*command, "--jobs", "2"]) == 1
    assert '"m7"' in capsys.readouterr().out


def test_models_are_sent_without_their_zoo(zoo):
    import pickle

    opened = read.open_zoo(zoo)
    assert len(pickle.dumps(opened.models[0])) < 2000
