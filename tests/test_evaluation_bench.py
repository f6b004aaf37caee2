"""The scripts that print the paper's tables and figures, on small zoos."""

import json
import pathlib
import subprocess
import sys

import golden
import numpy as np
import pytest

import lead_fast
from lead_fast.evaluation import paper_table, true_accuracies, weighted_tau

BENCH = pathlib.Path(__file__).parent.parent / "bench"


def write_zoo(folder, task, models, width=12, n=60, finetuned=False, pairs=False):
    """Features whose classes lie the farther apart the later the model, and their names."""
    labels = np.arange(n) % 3
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(models):
        rng = np.random.default_rng(number)
        x = rng.standard_normal((n, width)) + 0.3 * number * np.eye(3, width)[labels]
        x = x.astype(np.float32)
        if pairs:
            np.save(folder / f"{name}_{task}_feature.npy", x)
            np.save(folder / f"{name}_{task}_label.npy", labels)
        else:
            extra = {"finetuned": 5 * np.eye(3)[labels].astype(np.float16)} if finetuned else {}
            np.savez(folder / f"{name}.npz", features=x, labels=labels, **extra)


def script(name, *flags):
    return subprocess.run(
        [sys.executable, BENCH / name, *map(str, flags)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def cells(out, name):
    (line,) = [line for line in out.splitlines() if line.startswith(f"| {name} |")]
    return [text.strip() for text in line.strip("|").split("|")]


@pytest.mark.parametrize("number, zoo", [(1, "supervised"), (2, "selfsupervised")])
def test_table_of_the_papers_data_set(tmp_path, number, zoo):
    truth = true_accuracies(zoo)["cifar10"]
    write_zoo(tmp_path, "cifar10", truth, pairs=True)
    out = tmp_path / "t.json"
    done = script(
        f"table{number}.py", "--features", tmp_path, "--metrics", "logme,leep,lead",
        "--markdown", "--json", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "leep: " in done.stderr  # it needs source probabilities, and says so
    scores = lead_fast.rank(tmp_path, metric="logme", dataset="cifar10").scores
    expected = weighted_tau(scores, truth)
    assert json.loads(out.read_text())["tau"]["logme"]["cifar10"] == expected
    theirs = paper_table(number)["LogME"]["cifar10"]
    assert cells(done.stdout, "logme (ours)")[1] == f"{expected:.3f}"
    assert cells(done.stdout, "logme (paper)")[1] == f"{theirs:.3f}"
    assert f"| {expected - theirs:.3f} |" in done.stdout


def test_table_without_features(tmp_path):
    done = script("table1.py", "--features", tmp_path)
    assert done.returncode == 1 and "no task with features" in done.stderr
    done = script("table1.py", "--features", tmp_path / "none")
    assert done.returncode == 2 and "no such directory" in done.stderr
    done = script("table1.py", "--features", tmp_path, "--metrics", "nothing")
    assert done.returncode == 2 and "nothing" in done.stderr


def test_low_data_protocol(tmp_path):
    models = [f"m{i}" for i in range(4)]
    write_zoo(tmp_path / "own", "own", models)
    (tmp_path / "own" / "truth.json").write_text(
        json.dumps({m: 50 + i for i, m in enumerate(models)})
    )
    done = script("table3.py", "--features", tmp_path, "--metrics", "gbc", "--draws", 2)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("gbc")]
    assert [row.split()[1] for row in rows] == ["2", "5", "10"]
    assert all("+-" in row for row in rows)


def test_low_data_protocol_beside_the_papers(tmp_path):
    truth = true_accuracies("supervised")["cifar10"]
    write_zoo(tmp_path, "cifar10", truth, n=30, pairs=True)  # 10 of each class: the whole
    out = tmp_path / "t.json"
    done = script("table3.py", "--features", tmp_path, "--metrics", "logme", "--draws", 3,
                  "--markdown", "--json", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    taus = json.loads(out.read_text())["tau"]
    scores = lead_fast.rank(tmp_path, metric="logme", dataset="cifar10").scores
    assert taus["logme 10"]["cifar10"] == [weighted_tau(scores, truth)] * 3
    assert len(set(taus["logme 2"]["cifar10"])) > 1  # draws of 2 differ
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "| logme" in line]
    assert [row[2].split()[0] for row in rows] == [
        f"{np.mean(taus[f'logme {n}']['cifar10']):.2f}" for n in (2, 5, 10)
    ]
    assert rows[2][2].endswith("+- 0.00")


def test_draws_are_even_and_repeatable(bench):
    table3 = bench("table3")
    labels = np.array([0] * 9 + [1] * 4 + [2] * 30)
    rows = table3.draw(labels, 5, 1)
    assert np.bincount(labels[rows]).tolist() == [5, 4, 5]
    assert len(set(rows.tolist())) == len(rows)
    assert np.array_equal(rows, table3.draw(labels, 5, 1))
    assert not np.array_equal(rows, table3.draw(labels, 5, 2))


def test_ties_are_no_ranking(bench):
    tables, table3 = bench("tables"), bench("table3")
    truth = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert tables.tau(dict.fromkeys(truth, 0.5), truth, "scipy") == tables.TIED
    assert tables.tau({"a": 1.0}, truth, "scipy") is None
    assert tables.tau(truth, truth, "scipy") == 1.0
    assert table3.summary([tables.TIED] * 2) == (tables.TIED, None)
    assert table3.summary([0.5, tables.TIED])[0].endswith(f"(1 of 2: {tables.TIED})")
    assert table3.summary([0.25, 0.75]) == ("0.50 +- 0.25", 0.5)


def test_predicted_states(bench):
    figures = bench("figures")
    features, labels = golden.load("digits/cnn_m-omni2-sup")
    x, y = features.astype(np.float32), labels.astype(int)
    initial = figures.initial_state(x, y)
    rates = lead_fast.class_rates(x, y, lead_fast.Head(x.shape[1], 10))
    score = lead_fast.evolved_score(initial, y, rates, [1.0])[0]
    # Two runs of the solver to a gap of 1e-3 may differ by as much in the loss.
    assert abs(score - lead_fast.lead(x, y).score) <= 1e-3 * abs(score) + 1e-3
    states = figures.predictions(x, y, initial, rates)
    own = np.arange(len(y)), y
    for name in ("SFDA", "PED"):
        mean = states[name][own].mean()
        assert abs(mean - lead_fast.score(x, y, name.lower(), dtype="float64")) <= 1e-6
        assert np.all(np.abs(states[name].sum(axis=1) - 1) <= 1e-9)
    table = figures.compare_states(initial, {"same": initial}, y)
    assert table["same"][0] == 0.0
    final = np.array([[1.0, 0.0], [0.0, 1.0]])
    table = figures.compare_states(final, {"s": np.array([[0.4, 0.2], [0.0, 1.0]])}, [0, 1])
    distance, low, middle, high = table["s"]
    assert abs(distance - np.hypot(0.6, 0.2) / 2) <= 1e-15  # mean over the samples
    assert np.abs(np.array([low, middle, high]) - [0.46, 0.7, 0.94]).max() <= 1e-12


def test_figures(tmp_path):
    models = [f"m{i}" for i in range(3)]
    for task, finetuned in (("with", True), ("without", False)):
        write_zoo(tmp_path / task, task, models, finetuned=finetuned)
        truth = {m: 50 + i for i, m in enumerate(models)}
        (tmp_path / task / "truth.json").write_text(json.dumps(truth))
    out = tmp_path / "f.json"
    done = script("figures.py", "--features", tmp_path, "--markdown", "--json", out)
    assert done.returncode == 0, done.stderr
    assert "skipped, no archive holds the fine-tuned logits" in done.stdout
    found = json.loads(out.read_text())
    assert set(found["with"]["states"]) == set(models)
    assert found["without"]["states"] == {}
    scores = lead_fast.rank(tmp_path / "with", metric="lead").scores
    assert found["with"]["time"]["1"] == weighted_tau(scores, truth)
    assert found["with"]["samples"]["64"] == found["with"]["time"]["1"]
    assert [float(t) for t in found["with"]["time"]][::6] == [0.01, 10]
    assert list(found["with"]["samples"])[::6] == ["4", "256"]
    for key, option in (("time", {"time": 10.0}), ("samples", {"n_samples": 4})):
        scores = lead_fast.rank(tmp_path / "with", metric="lead", **option).scores
        assert found["with"][key][str(next(iter(option.values()))).removesuffix(".0")] == (
            weighted_tau(scores, truth)
        )
    assert [r[0] for _, r in sorted(found["with"]["ranks"].items())] == [3, 2, 1]


def test_plots(tmp_path):
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        done = script("figures.py", "--plots", tmp_path)
        assert done.returncode == 1
        assert "--plots needs matplotlib" in done.stderr
        return
    write_zoo(tmp_path / "own", "own", "abc", finetuned=True)
    (tmp_path / "own" / "truth.json").write_text('{"a": 1, "b": 2, "c": 3}')
    done = script("figures.py", "--features", tmp_path, "--plots", tmp_path / "plots")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {f"own-{kind}.png" for kind in ("ablation", "ranks", "states")}


def test_beyond_last_layer(tmp_path):
    models = ("a", "b", "c", "d")
    truth = dict(zip(models, (50.0, 60.0, 70.0, 80.0), strict=True))
    for task, size in (("rising", [1, 2, 3, 4]), ("falling", [4, 3, 2, 1]), ("unknown", None)):
        folder = tmp_path / "zoo" / task
        write_zoo(folder, task, models)
        (folder / "truth.json").write_text(json.dumps(truth))
        for number, model in enumerate(models):
            if size is None:
                continue
            with np.load(folder / f"{model}.npz") as file:
                arrays = dict(file)
            arrays |= {"parameters": size[number], "operations": 5 - size[number]}
            arrays["hidden"] = -arrays["features"]
            np.savez(folder / f"{model}.npz", **arrays)
    out = tmp_path / "sizes.json"
    flags = ("--features", tmp_path / "zoo", "--markdown", "--json", out)
    done = script("beyond_last_layer.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "zoo/unknown: skipped" in done.stderr
    assert "| operations alone | 0.633 |" in done.stdout
    assert "| LEAD (paper) | 0.698 |" in done.stdout
    found = json.loads(out.read_text())
    assert found["tasks"] == ["zoo/falling", "zoo/rising"]
    assert found["tau"]["parameters alone"] == pytest.approx([-1, 1])
    assert found["tau"]["operations alone"] == pytest.approx([1, -1])
    for name in ("lead+", "parc"):  # the sign of features does not matter to them
        assert found["tau"][f"{name}, hidden"] == pytest.approx(found["tau"][name])
    scores = lead_fast.rank(tmp_path / "zoo" / "falling", metric="lead+").scores
    values = np.array([scores[model] for model in models]), np.log([4.0, 3.0, 2.0, 1.0])
    whole = sum((value - value.mean()) / value.std() for value in values)
    assert found["tau"]["lead+, size"][0] == weighted_tau(whole, list(truth.values()))
