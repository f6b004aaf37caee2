"""The benchmarks' own parts: the plain metrics are right, comparing finds what is slower."""

import importlib
import json
import pathlib
import subprocess
import sys

import golden
import numpy as np
import pytest

BENCH = pathlib.Path(__file__).parent.parent / "bench"
MODEL = "digits/cnn_m-omni2-sup"


@pytest.fixture(scope="module")
def plain():
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module("plain_metrics")
    finally:
        sys.path.remove(str(BENCH))


@pytest.mark.parametrize(
    "key, call, limit",
    [
        ("logme", "logme", 1e-8),
        ("sfda", "sfda", 1e-8),
        ("transrate", "transrate", 1e-8),
        ("hscore", "hscore", 1e-8),
        ("hscore_regularized", "hscore_regularized", 1e-8),
        ("parc_pca32", "parc", 1e-3),  # ties of the label distances depend on roundings
    ],
)
def test_plain_metrics_are_the_public_ones(plain, key, call, limit):
    features, labels = golden.load(MODEL)
    found = getattr(plain, call)(features.astype(float), labels.astype(int))
    expected = golden.GOLDEN[MODEL][key]
    assert abs(found - expected) <= limit * abs(expected)


def test_plain_parts_of_etran_and_gbc(plain):
    features, labels = golden.load(MODEL)
    x, y = features.astype(float), labels.astype(int)
    values = golden.GOLDEN[MODEL]
    energy, lda = plain.etran_parts(x, y)
    assert abs(energy - values["etran_energy_bot0.5"]) <= 1e-8 * abs(energy)
    assert abs(lda - values["etran_lda"]) <= 1e-8
    gbc = plain.gbc(x, y, n_components=None)
    assert abs(gbc - values["gbc_spherical_nopca"]) <= 1e-8 * abs(gbc)


def run_file(path, medians):
    entries = [
        {"group": "g", "name": name, "extra_info": {"calibrated": value}}
        for name, value in medians.items()
    ]
    path.write_text(json.dumps({"benchmarks": [*entries, {"group": "g", "name": "other"}]}))


def compare(folder, *flags):
    return subprocess.run(
        [sys.executable, BENCH / "compare.py", folder, *flags], capture_output=True, text=True
    )


def test_compare(tmp_path):
    assert compare(tmp_path).returncode == 2
    run_file(tmp_path / "1.json", {"a": 1.0, "b": 2.0})
    assert compare(tmp_path).returncode == 2
    run_file(tmp_path / "2.json", {"a": 1.2, "b": 1.0, "c": 5.0})
    done = compare(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "+20%" in done.stdout
    assert "new" in done.stdout
    assert compare(tmp_path, "--limit", "0.1").returncode == 1
    run_file(tmp_path / "3.json", {"a": 1.51, "b": float("nan")})
    done = compare(tmp_path)
    assert done.returncode == 1
    assert "g: a" in done.stderr
    assert "g: b" in done.stderr  # not a number is no improvement


def test_table_of_running_times(tmp_path):
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        labels = np.arange(120) % 3
        x = rng.standard_normal((120, 9)).astype(np.float32)
        np.savez(tmp_path / f"m{seed}.npz", features=x, labels=labels)
    done = subprocess.run(
        [sys.executable, BENCH / "table4.py", "--features", tmp_path, "--metrics",
         "logme,gbc,lead", "--plain", "--markdown", "--plot", tmp_path / "t.svg",
         "--json", tmp_path / "t.json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line[:1] == "|"]
    assert rows[:4] == ["metric", "---", "logme", "gbc"]
    assert {"lead", "kernel", "spectrum (not needed)", "SVM", "evolution"} <= set(rows)
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    found = {row[0]: row[1:] for row in json.loads((tmp_path / "t.json").read_text())["rows"]}
    assert found["gbc"][0] == 26
    assert all(value > 0 for value in found["gbc"][:3])
