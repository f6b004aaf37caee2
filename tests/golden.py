"""Values of the public implementations on real features, and the features.

`data/golden_digits.json` was computed in float64 by the public code of each metric (SFDA, PED,
ETran, Transfer-Learning-Library), run unchanged on the float16 features of `examples/zoo/digits`
cast to float64; a checkout beside `shared/` has more of the kind.
"""

import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
DIGITS = HERE.parent / "examples" / "zoo" / "digits"
SHARED = HERE.parent.parent / "shared"

GOLDEN = json.loads((HERE / "data" / "golden_digits.json").read_text())
if (SHARED / "golden" / "metrics.json").exists():
    GOLDEN.update(json.loads((SHARED / "golden" / "metrics.json").read_text()))
MODELS = [m for m in GOLDEN if m.startswith("digits/") or (SHARED / "zoo" / f"{m}.npz").exists()]

RTOL = {"float64": 1e-8, "float32": 1e-4}


def load(model):
    """Features (N, D) float16 and labels (N,) of TASK/MODEL."""
    task, name = model.split("/")
    path = (DIGITS if task == "digits" else SHARED / "zoo" / task) / f"{name}.npz"
    with np.load(path) as file:
        return file["features"], file["labels"]


def source_probabilities(features):
    """The source classifier's probabilities (N, 20) that golden leep and nce were made with."""
    rng = np.random.default_rng(0)
    x = features.astype(np.float64)
    logits = x @ rng.standard_normal((x.shape[1], 20))
    logits /= logits.std()
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def assert_golden(score, model, key, dtype):
    """The score agrees with the public implementation's."""
    expected = GOLDEN[model][key]
    assert abs(score - expected) <= RTOL[dtype] * abs(expected), (model, key, score, expected)
