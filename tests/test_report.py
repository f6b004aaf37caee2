"""Repeated draws, plots, the page about a ranking, the list of runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import relu_features

import lead_fast
from lead_fast import _optional
from lead_fast.zoo import Ranking, Rankings
from lead_fast.zoo.groups import group
from lead_fast.zoo.page import _metric_table, page

N, K = 90, 3
LABELS = np.arange(N) % K


def features(seed):
    return relu_features(LABELS, 8, seed=seed, spread=0.5 * seed)


ZOO = {f"m{seed}": features(seed) for seed in (1, 2, 3, 4)}
TRUTH = {"m1": 70.0, "m2": 80.0, "m3": 75.0, "m4": 90.0}


@pytest.fixture
def zoo(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for model, values in ZOO.items():
        np.savez(folder / f"{model}.npz", features=values, labels=LABELS)
    return folder


# ----------------------------------------------------------------------------------- repeated draws


def test_repeats_are_the_scores_of_the_seeds():
    options = {"n_samples": 10, "hidden": (16, 8), "time": 1e4}
    ranking = lead_fast.rank(ZOO, LABELS, repeats=3, seed=5, **options)
    for row in ranking:
        draws = tuple(
            lead_fast.lead(ZOO[row.model], LABELS, seed=seed, **options).score for seed in (5, 6, 7)
        )
        # One SVM serves all draws; another seed's stops elsewhere within the same duality gap.
        assert np.allclose(row.draws, draws, rtol=0, atol=2e-3)
        assert row.draws[0] == draws[0]
        assert row.score == np.mean(row.draws)
        assert row.spread == np.std(row.draws, ddof=1) > 0
    result = lead_fast.lead(ZOO["m1"], LABELS, seed=5, repeats=3, **options)
    assert result.draws == next(row.draws for row in ranking if row.model == "m1")
    heads = [lead_fast.Head(8, K, options["hidden"], seed) for seed in (5, 6, 7)]
    rates = [
        lead_fast.class_rates(ZOO["m1"], LABELS, head, n_samples=10, seed=seed)
        for seed, head in zip((5, 6, 7), heads, strict=True)
    ]
    assert np.allclose(result.rates, np.mean(rates, axis=0), rtol=1e-12)


def test_a_single_draw_is_what_it_was():
    result = lead_fast.lead(ZOO["m1"], LABELS)
    assert result.draws == (result.score,)
    assert float(result) == result.score
    assert result.initial == lead_fast.lead(ZOO["m1"], LABELS, time=0.0).score
    ranking = lead_fast.rank(ZOO, LABELS)
    assert [row.draws for row in ranking] == [()] * 4
    assert {row.spread for row in ranking} == {row.group for row in ranking} == {None}


def test_the_curve_of_a_row():
    row = lead_fast.rank(ZOO, LABELS).rows[0]
    at = row.details["times"].index(1.0)
    assert np.isclose(row.details["curve"][at], row.score, rtol=1e-12)
    assert row.details["curve"] == sorted(row.details["curve"])
    assert (row.details["samples"], row.details["width"]) == (N, 8)


def test_repeats_of_other_metrics():
    found = lead_fast.rank(ZOO, LABELS, ["parc", "knn", "lead+"], repeats=3, max_samples=40)
    for row in found["parc"]:
        draws = [
            lead_fast.score(ZOO[row.model], LABELS, "parc", seed=seed, max_samples=40)
            for seed in range(3)
        ]
        assert np.allclose(row.draws, draws, rtol=1e-12)
        assert row.spread > 0
    for name in ("knn", "lead+"):  # nothing to draw
        assert all(row.spread is None and row.group for row in found[name])


def test_groups():
    rng = np.random.default_rng(0)
    common = rng.standard_normal(8)
    near = common + 0.01 * (-1.0) ** np.arange(8) - 0.001
    far = common - 0.5 + 0.01 * rng.standard_normal(8)
    draws = [common, near, far]
    draws.sort(key=lambda values: -values.mean())
    # The common part cancels: groups are finer than the spread of 1.
    assert group([d.mean() for d in draws], [d.tolist() for d in draws]) == [1, 1, 2]
    alone = [rng.standard_normal(8) + shift for shift in (0.1, 0.0)]
    assert group([d.mean() for d in alone], [d.tolist() for d in alone]) == [1, 1]
    assert group([3.0, 3.0, 2.0, None], [(), (), (), ()]) == [1, 1, 2, None]
    assert group([], []) == []


def test_repeats_in_the_table_and_in_json(zoo, call):
    status, out, _ = call("rank", zoo, "--repeats", 3)
    assert status == 0
    assert out.splitlines()[0].split() == ["rank", "model", "score", "spread", "group", "seconds"]
    status, out, _ = call("rank", zoo, "--repeats", 3, "--json")
    for row in json.loads(out)["scores"]:
        assert list(row)[-3:] == ["spread", "draws", "group"]
        assert len(row["draws"]) == 3
    assert call("rank", zoo, "--repeats", 0)[0] == 2


# -------------------------------------------------------------------------------------------- plots


def test_plot_of_a_ranking(zoo, tmp_path, call):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for name, start in [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")]:
        assert call("rank", zoo, "--plot", tmp_path / name, "--repeats", 2)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    status, out, err = call("rank", zoo, "--plot", tmp_path / "a.txt")
    assert (status, out) == (2, "")
    assert "must end in .png, .svg or .pdf" in err
    assert "--plot" in call("rank", zoo, "--plot", tmp_path / "none" / "a.png")[2]


def test_without_matplotlib(zoo, tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in (
        ["rank", zoo, "--plot", tmp_path / "a.png"],
        ["report", zoo, "--out", tmp_path / "a.html"],
    ):
        status, out, err = call(*command)
        assert (status, out) == (2, "")
        assert "pip install 'lead-fast[plot]'" in err
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]
    with pytest.raises(_optional.MissingError, match="matplotlib"):
        page(lead_fast.rank(ZOO, LABELS))


# --------------------------------------------------------------------------------------- the report


class Checker(HTMLParser):
    """Every element is closed where it was opened; what would be loaded is collected."""

    EMPTY = ("meta", "link", "br", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.ids, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.loads.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def checked(text):
    """The parsed page, after what every page must be."""
    found = Checker(text)
    assert all(value.startswith(("#", "data:,")) for value in found.loads)
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{name}" for name in found.ids}
    assert "<script" not in text and "@import" not in text
    assert len(set(found.ids)) == len(found.ids)
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "prefers-color-scheme: dark" in text
    assert "#010203" not in text  # the text's colour is the page's
    assert "mathdefault" not in text
    return found


def test_a_page_has_everything(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rankings = lead_fast.rank(ZOO, LABELS, ["lead", "logme", "knn"], repeats=3)
    for ranking in rankings:
        for row in ranking:
            row.details["parameters"] = 1_000_000 * int(row.model[1])
    text = page(rankings, TRUTH, "Title")
    found = checked(text)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    for word in ("with their spread", "size", "lead against the true", "knn against lead",
                 "against time", "Rate of each class", "Fig. 6"):  # fmt: skip
        assert sum(word in caption for caption in captions) == 1, word
    assert len(captions) == text.count("<svg") == 10
    tau = rankings["lead"].tau(TRUTH)
    for value in tau.values():
        assert f"{value:.4f}" in found.words
    assert "2 M" in found.words
    assert "±" in found.words


def test_a_page_of_little(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    checked(page(lead_fast.rank({"a": ZOO["m1"]}, LABELS)))
    failed = Ranking([("a", None, 0.1, "damaged & <gone>")], "lead", "cpu")
    found = checked(page(failed))
    assert "damaged & <gone>" in found.words
    checked(page(Rankings([failed]), None))


def test_names_do_not_break_the_page():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    names = ["<script>alert(1)</script>", "a$b$c", "x" * 200, "\x1b[31m", "m\udcffé", "q\"&'"]
    zoo = {name: features(seed + 1) for seed, name in enumerate(names)}
    truth = {name: float(seed) for seed, name in enumerate(names)}
    text = page(lead_fast.rank(zoo, LABELS, ["lead", "knn"], repeats=2), truth, "<b>&")
    found = checked(text)
    assert "<script>alert(1)</script>" in found.words
    assert "<b>&" in found.words
    text.encode("utf-8")


def test_report_of_a_zoo_and_of_a_store(zoo, tmp_path, call):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    store, out = tmp_path / "runs.db", tmp_path / "report.html"
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    flags = ["--truth", tmp_path / "truth.json", "--out", out]
    status, printed, _ = call("report", zoo, "--store", store, "--repeats", 2, *flags)
    assert (status, printed) == (0, f"{out}\n")
    first = checked(out.read_text(encoding="utf-8"))
    out.unlink()
    for model in ZOO:
        (zoo / f"{model}.npz").unlink()  # the store knows it all
    assert call("report", store, *flags)[0] == 0
    second = checked(out.read_text(encoding="utf-8"))
    scores = [[w for w in one.words if re.fullmatch(r"-0\.\d+", w)] for one in (first, second)]
    assert scores[0] == scores[1] and len(scores[0]) >= 4
    assert call("report", store, "--out", out, "--run", 7)[0] == 2
    assert call("report", tmp_path / "none", "--out", out)[0] == 2
    for ignored in ("--metric", "--device", "--labels", "--dataset", "--store", "--time"):
        status, printed, error = call("report", store, "--out", out, ignored, "1")
        assert (status, printed) == (2, "") and "of a zoo" in error, ignored


@pytest.mark.filterwarnings("error:Glyph")
def test_names_in_scripts_that_fonts_lack():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    ranking = lead_fast.rank({"\u6a21\u578b": ZOO["m1"], "m": ZOO["m2"]}, LABELS, "knn")
    assert "\u6a21\u578b" in page(Rankings([ranking]), None, "zoo")


@pytest.mark.parametrize(("kind", "lines"), [("svg", 0), ("png", 1), ("pdf", 1)])
def test_glyphs_that_fonts_lack_are_warned_of_once(zoo, tmp_path, call, kind, lines):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    lacking = {"svg": "\u6a21", "png": "\u578b", "pdf": "\u5c42"}[kind]  # once in a process
    (zoo / "m1.npz").rename(zoo / f"{lacking}.npz")
    status, _, err = call("rank", zoo, "--metric", "knn", "--plot", tmp_path / f"a.{kind}")
    assert status == 0 and err.count("Glyph") == lines


def test_scores_are_taken_once(monkeypatch):
    taken, scores = [], Ranking.scores.fget
    monkeypatch.setattr(Ranking, "scores", property(lambda self: taken.append(1) or scores(self)))
    rows = [(f"m{at}", float(at), 0.0, None) for at in range(5)]
    rankings = Rankings([Ranking(rows, metric, "cpu") for metric in ("a", "b", "c")])
    assert _metric_table(rankings).count("1.000") == 9
    assert len(taken) == 3


def test_what_few_rankings_need_is_not_imported():
    code = "import sys, lead_fast.zoo.run, lead_fast.zoo.page; print('scipy.stats' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(lead_fast.__file__).parents[1])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this system")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(tmp_path, width):
    """Nothing is wider than the window, and the console stays empty."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    text = page(lead_fast.rank(ZOO, LABELS, ["lead", "knn"], repeats=2), TRUTH)
    # In a frame, as a browser's own window has a least width.
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="page.html" width="{width}" height="900" style="border:0"></iframe>'
        "<script>f.onload = () => { const d = f.contentDocument.documentElement;"
        "document.title = [d.scrollWidth, d.clientWidth].join(' '); };</script>"
    )
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         "--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=5000",
         f"--user-data-dir={tmp_path}/profile", "--dump-dom", tmp_path / "frame.html"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    scroll, client = map(int, re.search("<title>([0-9]+) ([0-9]+)</title>", done.stdout).groups())
    assert width - 20 <= client <= width  # less a scroll bar
    assert scroll == client


# --------------------------------------------------------------------------------------------- runs


def test_runs_are_listed_shown_and_compared(zoo, tmp_path, call):
    store = tmp_path / "runs.db"
    assert call("runs", store)[0] == 2
    call("rank", zoo, "--store", store, "--metric", "lead,knn")
    (zoo / "m2.npz").write_bytes(b"nothing")
    call("rank", zoo, "--store", store, "--metric", "lead", "--time", 2, "--n-samples", 9)
    status, out, err = call("runs", store)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:6] == ["1", str(zoo), "lead,knn", "4", "4", "0"]
    assert lines[2].split()[:6] == ["2", str(zoo), "lead", "4", "4", "1"]
    assert lines[1].endswith("complete")
    listed = json.loads(call("runs", store, "--json")[1])["runs"]
    assert [run["failed"] for run in listed] == [0, 1]
    assert listed[1]["options"]["lead"]["time"] == 2.0
    status, out, _ = call("runs", store, 2, "--json")
    shown = json.loads(out)
    expected = lead_fast.rank(
        {m: x for m, x in ZOO.items() if m != "m2"}, LABELS, time=2.0, n_samples=9
    ).scores
    assert {r["model"]: r["score"] for r in shown["scores"] if r["score"]} == expected
    assert call("runs", store, 1)[1].splitlines()[0].split() == ["rank", "model", "lead", "knn"]
    status, out, _ = call("runs", store, 1, 2)
    lines = out.splitlines()
    assert lines[:3] == ["lead", "n_samples: 64 against 9", "time: 1.0 against 2.0"]
    assert lines[-1].startswith("Kendall tau-b: ")
    compared = json.loads(call("runs", store, 1, 2, "--json")[1])
    assert compared["metrics"]["lead"]["options"] == {"n_samples": [64, 9], "time": [1.0, 2.0]}
    scores = {m["model"]: m["scores"] for m in compared["metrics"]["lead"]["models"]}
    assert scores["m2"][1] is None and scores["m1"][1] == expected["m1"]
    assert call("runs", store, 3)[0] == call("runs", store, 1, 2, 1)[0] == 2
