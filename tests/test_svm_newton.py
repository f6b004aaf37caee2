"""Weston-Watkins with the plain hinge ends by Newton's method: where it is used, what it finds."""

import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from helpers import assert_close, relu_features, threads
from sklearn.svm import LinearSVC

import lead_fast as lf
from lead_fast import backend, errors, reference

# (rows, features, classes). In the first there is no memory for packed rows; in the second, some
# rows are packed, and a row ends within a vector. Where memory is shorter, there is no such method.
SIZES = [(1200, 500, 4), (1500, 1001, 5)]


@cache
def data(n_rows, n_features, n_classes):
    labels = np.random.default_rng(n_rows).permutation(np.arange(n_rows) % n_classes)
    features = relu_features(labels, n_features, seed=n_rows, spread=2.0)
    features = reference.scale_features(features, "unit").astype(np.float32)
    features.flags.writeable = labels.flags.writeable = False
    return features, labels


def newton_steps(monkeypatch, fit):
    """Run `fit()`; how many steps of Newton's method it took."""
    counts = []
    core = backend.cpu()

    class Watched:
        def svm_fit(self, *arguments):
            found = core.svm_fit(*arguments)
            counts.append(found["newton_steps"])
            return found

        def __getattr__(self, name):
            return getattr(core, name)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "cpu", Watched)
        fit()
    return counts


def pairs_as_samples(features, labels, n_classes):
    """Weston-Watkins as a binary problem: a sample (e_y - e_k) x (z, 1) for each wrong class k."""
    wide = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    d = wide.shape[1]
    sample, wrong = np.nonzero(labels[:, None] != np.arange(n_classes))
    count = len(sample)
    at = np.arange(count)[:, None]
    columns = np.arange(d)
    rows = np.broadcast_to(at, (count, d)).ravel()
    own = (labels[sample][:, None] * d + columns).ravel()
    other = (wrong[:, None] * d + columns).ravel()
    values = wide[sample].ravel()
    shape = (count, n_classes * d)
    plus = scipy.sparse.csr_matrix((values, (rows, own)), shape)
    minus = scipy.sparse.csr_matrix((values, (rows, other)), shape)
    # LIBLINEAR wants two classes: every second sample with both its signs turned.
    sign = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    return scipy.sparse.diags(sign) @ (plus - minus), sign


@pytest.mark.parametrize("C", [0.1, 1.0])
def test_optimum_against_liblinear(monkeypatch, C):
    features, labels = data(*SIZES[0])
    samples, sign = pairs_as_samples(features, labels, 4)
    other = LinearSVC(loss="hinge", C=C, fit_intercept=False, tol=1e-6, max_iter=100_000)
    weights = other.fit(samples, sign).coef_.reshape(4, -1)
    theirs = reference.primal(weights[:, :-1], weights[:, -1], features, labels, "ww", 1, C)
    model = lf.MultiClassSVM("ww", C=C)
    steps = newton_steps(monkeypatch, lambda: model.fit(features, labels))
    assert steps[0] > 0
    ours = reference.primal(model.coef_, model.intercept_, features, labels, "ww", 1, C)
    assert_close(model.primal_, ours, 1e-6 * ours)
    assert model.gap_ <= 1e-3
    assert theirs * (1 - 1e-4) <= ours <= theirs * (1 + 1e-3)
    assert model.dual_ <= theirs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_against_coordinate_descent(monkeypatch, size, C):
    """A tolerance below 1e-4 is reached without Newton's method, and in float64 below 2e-5."""
    features, labels = data(*size)
    exact = lf.MultiClassSVM("ww", C=C, tol=1e-6, max_passes=50_000)
    assert newton_steps(monkeypatch, lambda: exact.fit(features, labels)) == [0]
    for tol in (1e-2, 1e-3, 1e-4):
        model = lf.MultiClassSVM("ww", C=C, tol=tol, max_passes=50_000)
        steps = newton_steps(monkeypatch, lambda model=model: model.fit(features, labels))
        assert steps[0] > 0 or tol > 1e-3 or C != 1.0
        assert model.converged_
        assert model.gap_ <= tol
        assert exact.dual_ * (1 - tol) <= model.dual_ <= exact.primal_
        assert exact.dual_ <= model.primal_ <= exact.primal_ / (1 - tol)
        value = reference.primal(model.coef_, model.intercept_, features, labels, "ww", 1, C)
        assert_close(model.primal_, value, 1e-6 * value)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (SIZES[0], dict(svm="ovr")),
        (SIZES[0], dict(svm="cs")),
        (SIZES[0], dict(svm="ww", hinge=2)),
        ((1200, 40, 4), dict(svm="ww")),  # no memory for it
        ((1200, 300, 60), dict(svm="ww")),
    ],
)
def test_others_do_without(monkeypatch, size, options):
    features, labels = data(*size)
    model = lf.MultiClassSVM(**options)
    assert newton_steps(monkeypatch, lambda: model.fit(features, labels)) == [0]


@pytest.mark.parametrize("size", SIZES)
def test_same_bits_for_any_number_of_threads(monkeypatch, size):
    features, labels = data(*size)
    kept = []
    for count in (1, 2, 3, 7):
        model = lf.MultiClassSVM("ww")
        with threads(count):
            steps = newton_steps(monkeypatch, lambda model=model: model.fit(features, labels))
        parts = [model.coef_, model.intercept_, model.primal_, model.dual_, model.n_iter_, steps]
        kept.append([np.asarray(part).tobytes() for part in parts])
    assert steps[0] > 0
    assert kept[0] == kept[1] == kept[2] == kept[3]


def test_too_few_passes(monkeypatch):
    """The limit holds within Newton's method, too, and is reported."""
    features, labels = data(*SIZES[1])
    whole = lf.MultiClassSVM("ww").fit(features, labels)
    model = lf.MultiClassSVM("ww", max_passes=int(whole.n_iter_) - 1)
    with pytest.warns(errors.ConvergenceWarning, match="max_passes"):
        model.fit(features, labels)
    assert model.gap_ > model.tol
    value = reference.primal(model.coef_, model.intercept_, features, labels, "ww", 1, 1.0)
    assert_close(model.primal_, value, 1e-6 * value)


CODE = """
import json, sys
import numpy as np
import lead_fast
from lead_fast import backend
core, steps = backend.cpu(), []
class Watched:
    def svm_fit(self, *arguments):
        found = core.svm_fit(*arguments)
        steps.append(found["newton_steps"])
        return found
    def __getattr__(self, name):
        return getattr(core, name)
backend.cpu = Watched
file = np.load(sys.argv[1])
model = lead_fast.MultiClassSVM("ww").fit(file["features"], file["labels"])
print(json.dumps(dict(steps=steps[0], passes=float(model.n_iter_), gap=model.gap_,
                      primal=model.primal_, isa=lead_fast.build_info()["instruction_set"])))
"""


def test_packed_rows_need_no_more_steps_than_whole_ones(tmp_path):
    """The narrowest instruction set has no packed rows; a wrong one would be a wrong curvature."""
    features, labels = data(*SIZES[1])
    file = tmp_path / "data.npz"
    np.savez(file, features=features, labels=labels)
    widest = lf.build_info()["instruction_set"]
    found = {}
    for isa in dict.fromkeys(("baseline", "avx2", widest)):
        if isa == "avx2" and widest == "baseline":
            continue
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(file)],
            env={**os.environ, "LEAD_FAST_ISA": isa},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        found[isa] = json.loads(done.stdout)
        assert found[isa]["isa"] == isa
    plain = found["baseline"]
    assert plain["steps"] > 0
    for other in found.values():
        assert other["gap"] <= 1e-3
        assert_close(other["primal"], plain["primal"], 1e-3 * plain["primal"])
        assert 0 < other["steps"] <= 1.3 * plain["steps"] + 1
        assert other["passes"] <= 1.2 * plain["passes"] + 1
