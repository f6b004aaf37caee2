"""The command line: exit status, what goes to stdout and what to stderr, files written."""

import contextlib
import json
import os
import pathlib
import re
import signal
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
from helpers import ZOO_LABELS as LABELS
from helpers import zoo_features as features

import lead_fast
from lead_fast.zoo import run, work

N = len(LABELS)


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text('{"m1": 70.5, "m2": 80, "m3": 75.25}')
    return path


def shell(*arguments, **options):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lead_fast", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def assert_refused(result, *words):
    """Exit status 2, nothing on stdout, one line on stderr that has these words."""
    status, out, err = result
    assert status == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("lead-fast: error: ")
    for word in words:
        assert str(word) in err


# --------------------------------------------------------------------------------------------- rank


def test_rank_prints_a_table(zoo, truth):
    done = shell("rank", zoo, "--truth", truth)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["rank", "model", "score", "accuracy", "seconds"]
    expected = lead_fast.rank(zoo)
    assert [line.split()[:2] for line in lines[1:4]] == [
        [str(row.rank), row.model] for row in expected
    ]
    for line, row in zip(lines[1:4], expected, strict=True):
        assert abs(float(line.split()[2]) - row.score) <= 1e-5 * abs(row.score)
    tau = expected.tau(json.loads(truth.read_text()))
    assert lines[4:] == [
        "",
        f"weighted tau, SciPy's convention: {tau['scipy']:.4f}",
        f"weighted tau, Eq. (1) of the paper: {tau['paper']:.4f}",
    ]


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_rank_prints_json(zoo, truth):
    done = shell("rank", zoo, "--truth", truth, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = strict_json(done.stdout)
    assert list(result) == ["metric", "device", "scores", "tau"]
    assert (result["metric"], result["device"]) == ("lead", "cpu")
    expected = lead_fast.rank(zoo)
    assert len(result["scores"]) == 3
    for row, other in zip(result["scores"], expected, strict=True):
        assert list(row) == ["model", "score", "rank", "seconds", "error"]
        assert (row["model"], row["score"], row["rank"]) == (other.model, other.score, other.rank)
        assert row["seconds"] > 0
        assert row["error"] is None
    assert result["tau"] == expected.tau(json.loads(truth.read_text()))


def test_rank_without_truth_has_no_tau(zoo, call):
    status, out, err = call("rank", zoo, "--json")
    assert (status, err) == (0, "")
    assert strict_json(out)["tau"] is None
    status, out, err = call("rank", zoo)
    assert (status, err) == (0, "")
    assert "tau" not in out
    assert "accuracy" not in out


def test_a_failed_model_gives_status_1_and_the_others_are_ranked(zoo, truth):
    (zoo / "m2.npz").write_bytes((zoo / "m2.npz").read_bytes()[:300])
    done = shell("rank", zoo, "--json", "--truth", truth)
    assert done.returncode == 1
    result = strict_json(done.stdout)
    assert {row["model"] for row in result["scores"][:2]} == {"m1", "m3"}
    last = result["scores"][2]
    assert (last["model"], last["score"], last["rank"]) == ("m2", None, None)
    assert "truncated" in last["error"]
    assert set(result["tau"]) == {"scipy", "paper"}
    assert done.stderr.startswith("lead-fast: error: m2: ")
    assert done.stderr.count("\n") == 1


def test_all_models_failed(zoo, truth, call):
    for path in zoo.iterdir():
        path.write_bytes(b"nothing")
    status, out, err = call("rank", zoo, "--json", "--truth", truth)
    assert status == 1
    result = strict_json(out)
    assert [row["score"] for row in result["scores"]] == [None] * 3
    assert result["tau"] is None
    lines = err.splitlines()
    assert [line.split(": ")[1:3] for line in lines[:3]] == [["error", f"m{i}"] for i in (1, 2, 3)]
    assert lines[3].startswith("lead-fast: warning: no weighted tau")


def test_options_reach_the_metric(zoo, call):
    options = {
        "time": 2.5,
        "n_samples": 7,
        "svm": "ovr",
        "hinge": 2,
        "C": 0.5,
        "scale": "standard",
        "cross_fit": 3,
        "tol": 1e-4,
        "seed": 11,
    }
    flags = []
    for name, value in options.items():
        flags += ["--" + name.replace("_", "-"), value]
    status, out, _ = call("rank", zoo, "--json", "--device", "cpu", "--metric", "lead", *flags)
    assert status == 0
    expected = lead_fast.rank(zoo, device="cpu", metric="lead", **options).scores
    assert expected != lead_fast.rank(zoo).scores
    assert {row["model"]: row["score"] for row in strict_json(out)["scores"]} == expected


def test_labels_of_the_caller(zoo, tmp_path, call):
    labels = LABELS[::-1]
    (tmp_path / "labels.txt").write_text("\n".join(map(str, labels)))
    status, out, _ = call("rank", zoo, "--json", "--labels", tmp_path / "labels.txt")
    assert status == 0
    expected = lead_fast.rank(zoo, labels).scores
    assert {row["model"]: row["score"] for row in strict_json(out)["scores"]} == expected


def test_data_set_option(tmp_path, call):
    for dataset in ("pets", "cars"):
        np.save(tmp_path / f"m_{dataset}_feature.npy", features(1))
        np.save(tmp_path / f"m_{dataset}_label.npy", LABELS)
    assert_refused(call("rank", tmp_path), "cars, pets", "--dataset")
    assert call("rank", tmp_path, "--dataset", "pets")[0] == 0


def test_warnings_are_one_line_on_stderr(zoo, call):
    np.savez(zoo / "m4.npz", features=features(1), labels=LABELS)
    status, out, err = call("rank", zoo)
    assert status == 0
    assert err.count("\n") == 1
    assert err.startswith("lead-fast: warning: tied scores")
    assert "m1 = m4" in err
    assert "tied" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND", "--help"]),
        (["frobnicate"], ["frobnicate", "rank"]),
        (["rank"], ["ZOO", "rank --help"]),
        (["rank", "{zoo}", "--frobnicate"], ["--frobnicate"]),
        (["rank", "{zoo}", "--time", "soon"], ["--time", "soon"]),
        (["rank", "{zoo}", "--time", "-1"], ["time"]),
        (["rank", "{zoo}", "--n-samples", "0"], ["n_samples"]),
        (["rank", "{zoo}", "--svm", "rbf"], ["svm", "rbf", "ww", "ovr", "cs"]),
        (["rank", "{zoo}", "--metric", "guess"], ["guess", "lead"]),
        (["rank", "{zoo}", "--device", "abacus"], ["abacus", "cpu"]),
        (["rank", "{zoo}/none"], ["zoo/none", "No such file"]),
        (["rank", "{zoo}/m1.npz"], ["m1.npz", "not a directory"]),
        (["rank", "{empty}"], ["no model", "MODEL.npz", "MODEL/features.npy"]),
        (["rank", "{zoo}", "--labels", "{zoo}/none.npy"], ["none.npy", "No such file"]),
        (["rank", "{zoo}", "--truth", "{zoo}/none.json"], ["none.json", "No such file"]),
        (["rank", "{zoo}", "--out", "{zoo}/none/out.json"], ["--out", "no directory"]),
        (["rank", "{zoo}", "--out", "{zoo}"], ["--out", "not a regular file"]),
        (["rank", "{zoo}", "--out", "/dev/null"], ["--out", "not a regular file"]),
        (["score"], ["FEATURES"]),
        (["score", "{zoo}/none.npy", "{zoo}/m1.npz"], ["none.npy"]),
        (["score", "{zoo}/none.npy"], ["none.npy holds no labels"]),
        (["score", "{zoo}/m1.npz", "--metric", "guess"], ["guess", "lead"]),
        (["tau", "{zoo}/m1.npz", "{zoo}/m1.npz"], ["m1.npz", "not usable JSON"]),
        (["tau", "{zoo}/none.json", "{zoo}/none.json"], ["none.json"]),
        (["info", "more"], ["more"]),
        (["rank", "{zoo}", "--option", "repeats=3"], ["repeats", "--repeats"]),
        (["score", "{zoo}/m1.npz", "--option", "device=cpu"], ["device is no option"]),
        (["rank", "{zoo}", "--seed", "1", "--option", "seed=2"], ["seed is given twice"]),
        (["rank", "{zoo}", "--option", "k=1", "--option", "k=2"], ["k is given twice"]),
        (["score", "{zoo}/m1.npz", "--metric", "sfda", "--option", "log=no"], ["log", "'no'"]),
        (["report", "{zoo}", "--out", "{empty}/a.html", "--run", "1"], ["--run", "of a store"]),
    ],
)
def test_wrong_usage(zoo, tmp_path, call, arguments, words):
    (tmp_path / "empty").mkdir()
    places = {"zoo": zoo, "empty": tmp_path / "empty"}
    assert_refused(call(*[argument.format(**places) for argument in arguments]), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("m1 70", ["not usable JSON"]),
        ("[70, 80]", ["an array"]),
        ('{"m1": "70", "m2": 80}', ["value of m1", "a string"]),
        ('{"m1": NaN, "m2": 80}', ["value of m1", "finite"]),
        ('{"m1": 70, "m2": 80, "other": 75}', ["other", "m1, m2, m3"]),
        ('{"m1": 70}', ["1 of the 3 models"]),
        ("{}", ["0 of the 3 models"]),
    ],
)
def test_truth_is_checked_before_scoring(zoo, tmp_path, call, monkeypatch, text, words):
    (tmp_path / "t.json").write_text(text)
    monkeypatch.setattr(work, "score_each", lambda *_: pytest.fail("a model was scored"))
    assert_refused(call("rank", zoo, "--truth", tmp_path / "t.json"), "t.json", *words)
    flags = ["--truth", tmp_path / "t.json", "--out", tmp_path / "page.html"]
    assert_refused(call("report", zoo, *flags), "t.json", *words)


def test_truth_for_some_models(zoo, tmp_path, call):
    (tmp_path / "t.json").write_text('{"m1": 70, "m3": 80}')
    status, out, err = call("rank", zoo, "--json", "--truth", tmp_path / "t.json")
    assert status == 0
    assert err == (
        f"lead-fast: warning: {tmp_path}/t.json has no accuracy for m2; tau leaves them out\n"
    )
    scores = lead_fast.rank(zoo).scores
    expected = 1.0 if scores["m3"] > scores["m1"] else -1.0
    assert strict_json(out)["tau"] == {"scipy": expected, "paper": expected}


# -------------------------------------------------------------------------------------------- --out


def test_out_as_json_beside_a_table(zoo, truth, tmp_path, call):
    path = tmp_path / "out.json"
    status, out, _ = call("rank", zoo, "--truth", truth, "--out", path)
    assert status == 0
    assert out.startswith("rank  model")
    written = strict_json(path.read_text())
    assert [row["model"] for row in written["scores"]] == list(lead_fast.rank(zoo).scores)
    assert set(written["tau"]) == {"scipy", "paper"}


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_out_repeats_what_is_printed(zoo, tmp_path, call, flags):
    status, out, _ = call("rank", zoo, *flags, "--out", tmp_path / "out.txt")
    assert status == 0
    assert (tmp_path / "out.txt").read_text() == out
    assert out.startswith("{" if flags else "rank  model")


def test_out_is_replaced_in_one_step(zoo, tmp_path, call, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    path = folder / "out.json"
    path.write_text("old")
    (tmp_path / "link.json").symlink_to(path)
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((os.path.dirname(source), path.read_text(), strict_json(open(source).read())))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    assert call("rank", zoo, "--out", tmp_path / "link.json")[0] == 0
    (place, before, complete) = seen[0]
    assert len(seen) == 1
    assert place == str(folder)
    assert before == "old"
    assert complete == strict_json(path.read_text())
    assert (tmp_path / "link.json").is_symlink()
    assert [entry.name for entry in folder.iterdir()] == ["out.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_out_that_fails_leaves_the_old_file(zoo, tmp_path, call, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    path = folder / "out.txt"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, out, err = call("rank", zoo, "--out", path)
    assert status == 2
    assert out.startswith("rank  model")  # the scores are not lost with the file
    assert err == f"lead-fast: error: --out {path}: No space left on device\n"
    assert path.read_text() == "old"
    assert [entry.name for entry in folder.iterdir()] == ["out.txt"]


def test_out_directory_is_checked_before_scoring(zoo, call, monkeypatch, tmp_path):
    monkeypatch.setattr(work, "score_each", lambda *_: pytest.fail("a model was scored"))
    assert_refused(call("rank", zoo, "--out", tmp_path / "none" / "out.json"), "no directory")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_refused(call("rank", zoo, "--out", tmp_path / "out.json"), "cannot write")


# --------------------------------------------------------------------------------- score, tau, info


def test_score(zoo, tmp_path):
    expected = lead_fast.score(features(2), LABELS)
    done = shell("score", zoo / "m2.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{expected!r}\n"


def test_score_of_separate_files(tmp_path, call):
    expected = lead_fast.score(features(2), LABELS)
    np.save(tmp_path / "f.npy", features(2))
    np.save(tmp_path / "l.npy", LABELS)
    np.savez(tmp_path / "l.npz", labels=LABELS)
    (tmp_path / "l.txt").write_text("\n".join(map(str, LABELS)))
    for labels in ("l.npy", "l.npz", "l.txt"):
        status, out, err = call("score", tmp_path / "f.npy", tmp_path / labels)
        assert (status, out, err) == (0, f"{expected!r}\n", "")
    status, out, err = call("score", tmp_path / "f.npy", tmp_path / "l.npy", "--json")
    assert (status, err) == (0, "")
    assert strict_json(out) == {"metric": "lead", "device": "cpu", "score": expected}
    flags = ["--time", "3", "--svm", "ovr"]
    status, out, _ = call("score", tmp_path / "f.npy", tmp_path / "l.npy", *flags)
    assert status == 0
    assert float(out) == lead_fast.score(features(2), LABELS, time=3.0, svm="ovr")
    assert float(out) != expected


def test_score_of_bad_features(tmp_path, call):
    values = features(1)
    values[4, 2] = np.inf
    np.savez(tmp_path / "m.npz", features=values, labels=LABELS)
    assert_refused(call("score", tmp_path / "m.npz"), "4")
    np.savez(tmp_path / "m.npz", features=features(1), labels=LABELS[:-1])
    assert_refused(call("score", tmp_path / "m.npz"), N, N - 1)
    np.savez(tmp_path / "m.npz", features=features(1))
    assert_refused(call("score", tmp_path / "m.npz"), "no array named 'labels'")


def test_tau(zoo, truth, tmp_path):
    (tmp_path / "ranking.json").write_text(shell("rank", zoo, "--json").stdout)
    expected = lead_fast.rank(zoo).tau(json.loads(truth.read_text()))
    done = shell("tau", tmp_path / "ranking.json", truth, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = strict_json(done.stdout)
    assert {name: found[name] for name in expected} == expected
    assert {"kendall", "pearson", "top1_regret", "top3_regret", "ties", "intervals"} <= set(found)


def test_truth_values_of_options(zoo, call):
    for word, log in (("False", False), ("false", False), ("True", True)):
        flags = ["--metric", "sfda", "--option", f"log={word}"]
        out = call("score", zoo / "m1.npz", *flags)[1]
        assert float(out) == lead_fast.score(features(1), LABELS, "sfda", log=log)


def test_tau_of_several_metrics_says_so(zoo, truth, tmp_path, call):
    (tmp_path / "all.json").write_text(call("rank", zoo, "--metric", "lead,knn", "--json")[1])
    assert_refused(call("tau", tmp_path / "all.json", truth), "all.json", "several metrics")


def test_tau_of_plain_scores(truth, tmp_path, call):
    (tmp_path / "s.json").write_text('{"m1": 1, "m2": 3, "m3": 2, "m4": 9}')
    status, out, err = call("tau", tmp_path / "s.json", truth)
    assert status == 0
    lines = out.splitlines()
    assert lines[:6] == [
        "weighted tau, SciPy's convention: 1.0000",
        "weighted tau, Eq. (1) of the paper: 1.0000",
        "Kendall tau-b: 1.0000",
        lines[3],
        "top-1 regret (in the unit of the accuracies): 0.0000",
        "top-3 regret (in the unit of the accuracies): 0.0000",
    ]
    assert lines[3].startswith("Pearson correlation: ")
    assert lines[6] == "pairs of 3 models: 3, tied in the scores 0, in truth 0"
    assert len(lines) == 13 and all("resamples" in line for line in lines[7:])
    assert call("tau", tmp_path / "s.json", truth)[1] == out
    assert call("tau", tmp_path / "s.json", truth, "--bootstrap", 0)[1].splitlines() == lines[:7]
    assert call("tau", tmp_path / "s.json", truth, "--bootstrap", -1)[0] == 2
    assert "no accuracy for m4" in err
    (tmp_path / "s.json").write_text('{"m1": 1, "m2": 1, "m3": 1}')
    status, out, err = call("tau", tmp_path / "s.json", truth, "--json")
    assert (status, err) == (0, "")
    found = strict_json(out)
    assert (found["scipy"], found["paper"], found["kendall"]) == (None, 0.0, None)
    assert found["intervals"]["scipy"] is None
    assert found["ties"]["scores"] == 3
    (tmp_path / "s.json").write_text('{"m1": 1, "m2": 1}')
    assert_refused(call("tau", tmp_path / "s.json", truth), "m3", "m1, m2")


def test_info(call):
    status, out, err = call("info", "--json")
    assert (status, err) == (0, "")
    info = strict_json(out)
    assert info["metrics"] == lead_fast.metrics.names()
    assert info.items() >= json.loads(json.dumps(lead_fast.build_info())).items()
    status, out, err = call("info")
    assert (status, err) == (0, "")
    assert out.startswith(f"version: {info['version']}\nmetrics: lead")
    assert len(out.splitlines()) == len(info)


def test_version_and_help(call):
    status, out, err = call("--version")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"lead-fast \d+\.\d+\S*\n", out)
    for command in ((), ("rank",), ("score",), ("tau",), ("info",)):
        status, out, err = call(*command, "--help")
        assert (status, err) == (0, "")
        assert out.startswith("usage: lead-fast")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lead_fast.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('numpy', 'scipy', 'sklearn', 'torch', 'lead_fast._cpu')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "[]\n")


# ----------------------------------------------------------------------------- things that go wrong


def test_unforeseen_errors_are_one_line(zoo, call, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(run, "rank_models", broken)
    status, out, err = call("rank", zoo)
    assert (status, out) == (1, "")
    assert err == "lead-fast: error: RuntimeError: two lines (LEAD_FAST_DEBUG=1 shows where)\n"
    monkeypatch.setenv("LEAD_FAST_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        call("rank", zoo)


def test_interruption(zoo, call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "score_each", interrupted)
    assert call("rank", zoo) == (130, "", "lead-fast: error: interrupted\n")


def test_sigint_ends_the_process_quietly(zoo):
    code = (
        "import os, signal, sys; from lead_fast import cli; from lead_fast.zoo import work\n"
        "work.score_each = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "rank", str(zoo)],
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "lead-fast: error: interrupted\n"


def test_closed_pipe_is_quiet(zoo):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "lead_fast", "rank", str(zoo)]
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_under_stdout(zoo):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lead_fast", "rank", str(zoo)]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "lead-fast: error: cannot write to stdout: No space left on device\n"


def test_names_that_cannot_be_printed(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    np.savez(folder / "modèle.npz", features=features(1), labels=LABELS)
    os.rename(folder / "modèle.npz", os.fsencode(folder) + b"/m\xff\xc3\xa8.npz")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = shell("rank", folder, "--out", tmp_path / "out.txt", env=environment)
    assert done.returncode == 0, done.stderr
    assert "m\\udcff" in done.stdout
    assert "m\\udcff" in (tmp_path / "out.txt").read_text(encoding="utf-8")
    done = shell("rank", folder, "--json", env=environment)
    assert strict_json(done.stdout)["scores"][0]["model"] == "m\udcff\xe8"


def test_out_into_dev_is_refused(tmp_path):
    log = tmp_path / "log"
    log.write_text("precious\n")
    with open(log, "a") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "lead_fast", "rank", str(tmp_path), "--out", "/dev/stdout"],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert log.read_text() == "precious\n"


# ------------------------------------------------------------------------------ several metrics


def test_rank_by_several_metrics(zoo, truth, call):
    status, out, err = call("rank", zoo, "--metric", "logme,knn", "--truth", truth)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "model", "accuracy", "logme", "knn"]
    assert len(lines) == 7  # three models, seconds, two taus
    status, out, _ = call("rank", zoo, "--metric", "logme, knn", "--json", "--truth", truth)
    result = strict_json(out)
    assert list(result) == ["metrics", "device", "rankings"]
    single = strict_json(call("rank", zoo, "--metric", "knn", "--json", "--truth", truth)[1])
    for row in (*single["scores"], *result["rankings"]["knn"]["scores"]):
        row.pop("seconds")
    assert result["rankings"]["knn"] == {key: single[key] for key in ("scores", "tau")}
    assert_refused(call("rank", zoo, "--metric", "logme,guess"), "guess", "logme")


def test_options_of_other_metrics(zoo, call):
    flags = ["--metric", "knn", "--option", "k=3", "--option", "distance=cosine"]
    status, out, err = call("rank", zoo, "--json", *flags, "--dtype", "float64")
    assert status == 0, err
    found = {row["model"]: row["score"] for row in strict_json(out)["scores"]}
    assert found == lead_fast.rank(zoo, metric="knn", k=3, distance="cosine").scores
    assert_refused(call("rank", zoo, "--metric", "knn", "--option", "n=3"), "'n'", "distance")
    assert call("rank", zoo, "--option", "k")[0] == 2
    status, out, _ = call("rank", zoo, "--metric", "dds", "--reference", "m2", "--json")
    assert strict_json(out)["scores"][0]["model"] == "m2"


def test_score_by_several_metrics_and_with_outputs(zoo, call, tmp_path):
    model = zoo / "m1.npz"
    status, out, err = call("score", model, "--metric", "logme,knn", "--json")
    assert status == 0, err
    expected = lead_fast.score(features(1), LABELS, ["logme", "knn"])
    assert strict_json(out) == {"metrics": ["logme", "knn"], "device": "cpu", "scores": expected}
    status, out, _ = call("score", model, "--metric", "logme,knn")
    assert out.splitlines() == [f"{name}: {value!r}" for name, value in expected.items()]
    source = np.random.default_rng(0).dirichlet(np.ones(4), N)
    np.save(tmp_path / "output.npy", source)
    status, out, _ = call("score", model, "--metric", "leep", "--source", tmp_path / "output.npy")
    assert float(out) == lead_fast.score(features(1), LABELS, "leep", source=source)
    np.save(tmp_path / "other.npy", features(2))
    flags = ["--metric", "dds", "--reference", tmp_path / "other.npy"]
    status, out, _ = call("score", model, *flags)
    assert float(out) == lead_fast.score(features(1), LABELS, "dds", reference=features(2))
    assert_refused(call("score", model, "--metric", "leep"), "source")


def test_files_of_the_sfda_layout(zoo, call, tmp_path):
    out = tmp_path / "results"
    flags = ["--metric", "logme,knn", "--format", "sfda", "--out", out]
    assert call("rank", zoo, *flags)[0] == 0
    for name in ("logme", "knn"):
        found = json.loads((out / name / "zoo_metrics.json").read_text())
        assert found == lead_fast.rank(zoo, metric=name).scores
        assert list(found.values()) == sorted(found.values(), reverse=True)
    single = tmp_path / "scores.json"
    assert call("rank", zoo, "--metric", "knn", "--format", "sfda", "--out", single)[0] == 0
    assert json.loads(single.read_text()) == found
    assert_refused(call("rank", zoo, "--format", "sfda"), "--out")
    assert_refused(call("rank", zoo, *flags[:4], "--out", single), "several metrics need a direct")
    np.save(tmp_path / "a_pets_feature.npy", features(1))
    np.save(tmp_path / "a_pets_label.npy", LABELS)
    assert call("rank", tmp_path, "--metric", "knn", "--format", "sfda", "--out", out)[0] == 0
    assert list(json.loads((out / "knn" / "pets_metrics.json").read_text())) == ["a"]


def test_progress_on_a_terminal():
    """The bar is shown where standard error is a terminal, without being asked for."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    zoo = pathlib.Path(__file__).parent.parent / "examples" / "zoo" / "digits"
    command = [sys.executable, "-m", "lead_fast", "rank", zoo, "--metric", "gbc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave) as child:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends whose other side is closed
            while piece := os.read(master, 4096):
                shown += piece
        table = child.stdout.read()
    os.close(master)
    assert child.returncode == 0
    assert re.search(rb"\d/16", shown)
    assert b"/16" not in table
