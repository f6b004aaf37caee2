"""Passes over the data that the array SVM (which GPUs run) takes, with NumPy: two tables.

    python bench/svm_passes.py    # some minutes

Features as backbones give them at C = 1, and what a larger C costs, also on few samples per class.
"""

import numpy as np
from data import backbone_features

from lead_fast.features import as_features
from lead_fast.svm import column_map
from lead_fast.svm_arrays import svm_fit_arrays

GAP, MOST = 1e-3, 3000
COSTS = (1, 10, 100)


def blobs(n, d, k):
    """Normal samples about normal means, (N, D) float32 and labels (N,)."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    x = rng.standard_normal((k, d))[labels] + rng.standard_normal((n, d))
    return x.astype(np.float32), labels


def fitted(features, labels, k, form, hinge=1, cost=1.0):
    """The solver's report at unit scale."""
    columns = column_map(as_features(features), "unit")
    return svm_fit_arrays(
        np, features, labels.astype(np.int32), k, columns.centre, columns.inverse_scale, form,
        hinge, cost, GAP, MOST,
    )  # fmt: skip


def main():
    """Print both tables."""
    print("| N x D, K | form, hinge | passes | Newton steps | CG steps | multiplier updates |")
    print("|---|---|---|---|---|---|")
    for n, d, k in ((4000, 256, 10), (12000, 512, 10), (3000, 256, 50)):
        features, labels = backbone_features(n, d, k)
        for form in ("ww", "ovr", "cs"):
            for hinge in (1, 2):
                found = fitted(features, labels, k, form, hinge)
                numbers = (found.newton_steps, found.cg_steps, found.rounds)
                print(
                    f"| {n} x {d}, {k} | `{form}`, {hinge} | {found.passes:.0f} |",
                    " | ".join(map(str, numbers)), "|", flush=True,
                )  # fmt: skip
    print("\n| N x D, K, passes at C =", ", ".join(map(str, COSTS)), "| `ww` | `cs` | `ovr` |")
    print("|---|---|---|---|")
    for draw, n, d, k in (
        (backbone_features, 4000, 256, 10), (blobs, 1000, 64, 100), (blobs, 150, 32, 50),
    ):  # fmt: skip
        features, labels = draw(n, d, k)
        cells = []
        for form in ("ww", "cs", "ovr"):
            found = [fitted(features, labels, k, form, cost=float(c)) for c in COSTS]
            cells.append(" / ".join(f"{o.passes:.0f}" if o.converged else "-" for o in found))
        print(f"| {n} x {d}, {k} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
