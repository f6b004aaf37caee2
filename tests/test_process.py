"""Threads, forks, signals: what surrounds the numbers."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import lead_fast as lf
from lead_fast import backend
from lead_fast.features import as_features


def problem(n=400, d=1100, k=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    features = rng.standard_normal((n, d)).astype(np.float32) + 0.5 * np.eye(k, d)[labels]
    return features.astype(np.float32), labels


def _score_in_child(queue):
    features, labels = problem()
    queue.put((backend.threads(), lf.lead(features, labels, hidden=(64,)).score))


def test_little_work_gets_few_threads(monkeypatch):
    monkeypatch.setattr(backend.cpu(), "max_threads", lambda: 4)
    monkeypatch.setattr(backend, "_cores", lambda: (4, 4))
    assert backend.threads() == 4
    assert [backend.threads(m << 20) for m in (0, 1, 2, 3, 4, 100)] == [1, 1, 2, 3, 4, 4]
    asked = []
    monkeypatch.setattr(
        backend.cpu(), "column_statistics", lambda *given: asked.append(given[-1]) or {}
    )
    features = as_features(np.ones((3 << 10, 1 << 10), np.float32))  # 12 MB
    features.column_statistics()
    features.column_statistics(np.arange(10))
    assert asked == [3, 1]


@pytest.mark.parametrize(
    ("setting", "openmp", "expected"),
    [(None, 8, 3), (None, 5, 5), (None, 2, 2), ("8", 8, 8)],  # 5, 2: somebody has limited them
)
def test_threads_of_a_container(monkeypatch, setting, openmp, expected):
    """On a machine of 8 cores, of which its quota leaves 3."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    monkeypatch.setattr(backend.cpu(), "max_threads", lambda: openmp)
    monkeypatch.setattr(backend, "_cores", lambda: (8, 3))
    assert backend.threads() == expected


def test_the_quota_is_asked_for():
    code = "from lead_fast import backend; print(backend.threads(), backend._cores()[1])"
    env = {**os.environ, "LOKY_MAX_CPU_COUNT": "1"}
    env.pop("OMP_NUM_THREADS", None)
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout.split() == ["1", "1"], run.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of GCC's OpenMP")
@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "77"}])
def test_threads_that_wait_soon_sleep(own):
    """GCC's OpenMP lets them spin for milliseconds, unless it is told otherwise."""
    code = "import os, lead_fast; lead_fast.build_info(); print(os.environ.get('GOMP_SPINCOUNT'))"
    env = {**os.environ, "OMP_DISPLAY_ENV": "VERBOSE", **own}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    shown = [line for line in run.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not shown:
        pytest.skip("not GCC's OpenMP")
    told = own.get("GOMP_SPINCOUNT")
    assert run.stdout.split() == [str(told)]  # nothing of ours is left
    assert any(f"'{told or backend._SPINS}'" in line for line in shown) == (
        "OMP_WAIT_POLICY" not in own
    )


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_scores_the_same():
    """OpenMP's threads do not survive fork(): a child must not wait for them."""
    features, labels = problem()
    expected = lf.lead(features, labels, hidden=(64,)).score  # starts this process's threads
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_score_in_child, args=(queue,))
    child.start()
    try:
        threads, score = queue.get(timeout=60)
    finally:
        child.kill()
        child.join()
    assert threads == 1
    assert score == expected


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_concurrent_scores_agree_and_leave_blas_as_it_was():
    from threadpoolctl import threadpool_info

    features, labels = problem()
    expected = lf.lead(features, labels, hidden=(64,)).score
    before = [pool["num_threads"] for pool in threadpool_info()]
    scores = []

    def work():
        for _ in range(3):
            scores.append(lf.lead(features, labels, hidden=(64,)).score)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert scores == [expected] * 12
    assert [pool["num_threads"] for pool in threadpool_info()] == before


@pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")
def test_blas_has_one_thread_inside_our_loops(monkeypatch):
    from threadpoolctl import threadpool_info

    module, seen = backend.cpu(), {}

    class Watched:
        def __getattr__(self, name):
            found = getattr(module, name)
            if not callable(found):
                return found

            def call(*args, **options):
                pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
                seen[name] = {pool["num_threads"] for pool in pools}
                return found(*args, **options)

            return call

    monkeypatch.setattr(backend, "cpu", Watched)
    features, labels = problem()
    head = lf.Head(1100, 4, (64,))
    lf.lead(features, labels, hidden=(64,))
    lf.spectrum(lf.class_kernels(features, labels, head))
    inside = {name: seen[name] for name in seen if name.startswith(("svm_", "ntk_", "eigh_"))}
    assert {"svm_fit", "ntk_diagonal", "ntk_kernels", "eigh_batched"} <= set(inside)
    assert set().union(*inside.values()) == {1}


def test_half_precision_needs_no_float32_copy():
    """Peak memory of a score of float16 features, in a process that has scored before."""
    program = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np, lead_fast as lf
        from memory import peak_growth
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, 12000)
        x = np.empty((len(y), 1024), np.float16)
        for rows in np.array_split(np.arange(len(y)), 40):
            x[rows] = rng.random((len(rows), 1024), np.float32) + 4 * np.eye(4, 1024)[y[rows]]
        lf.lead(x[:40], np.arange(40) % 2, hidden=(8,))
        print(peak_growth(lambda: lf.lead(x, y, hidden=(64,)))[0] / x.nbytes)
        """
    )
    bench = str(pathlib.Path(__file__).parent.parent / "bench")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, bench], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.6  # a float32 copy would be 2.0, a copy of float16 1.0


def test_ctrl_c_stops_the_solver():
    """SIGINT in the middle of a hopeless tolerance raises KeyboardInterrupt promptly."""
    program = textwrap.dedent(
        """
        import numpy as np, lead_fast as lf
        import signal
        from lead_fast import backend
        backend.BYTES_PER_THREAD = 1  # with all threads
        # A shell may have started all this in the background, where the signal is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((3000, 64)).astype(np.float32)
        y = rng.integers(0, 5, 3000)
        lf.MultiClassSVM(C=1.0).fit(x, y)  # all imports: a signal may get lost in one
        print("ready", flush=True)
        try:
            lf.MultiClassSVM(C=1e4, tol=1e-15, max_passes=10**9).fit(x, y)
        except KeyboardInterrupt:
            print("stopped", flush=True)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        threading.Event().wait(1.0)  # into the solver
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=120)  # of a machine with much else to do
    finally:
        child.kill()
        child.wait()
    assert output == "stopped\n"
