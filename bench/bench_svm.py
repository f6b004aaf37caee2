"""Training of `MultiClassSVM`: seconds and passes of each form and hinge."""

import numpy as np
import pipeline
import pytest
from environment import FULL

import lead_fast

SIZE = (20000, 1024, 10) if FULL else (4000, 512, 10)
ROUNDS = 5 if FULL else 3
TOL = 1e-3


@pytest.mark.parametrize("hinge", [1, 2])
@pytest.mark.parametrize("form", ["ww", "ovr", "cs"])
def test_fit(benchmark, report, dataset, form, hinge):
    features, labels = dataset(*SIZE)
    model = lead_fast.MultiClassSVM(svm=form, hinge=hinge, scale="unit", tol=TOL)
    model.fit(features, labels)
    # The objective of the scaled problem, from the coefficients, without the package.
    scaled, mean, size = pipeline.unit_scaled(features)
    objective = pipeline.primal(
        scaled, labels, model.coef_ * size, model.intercept_ + model.coef_ @ mean, form, hinge
    )
    np.testing.assert_allclose(model.primal_, objective, rtol=1e-5)
    gap = (objective - model.dual_) / objective
    assert -1e-5 <= gap <= TOL + 1e-5

    benchmark.group = "svm " + "x".join(map(str, SIZE))
    benchmark.pedantic(model.fit, (features, labels), rounds=ROUNDS)
    median, iqr = benchmark.stats.stats.median, benchmark.stats.stats.iqr
    report(
        f"svm {SIZE} {form}, hinge {hinge}: {median:.3f} s (IQR {iqr:.3f}, {ROUNDS} rounds), "
        f"{model.n_iter_:.1f} passes, gap {model.gap_:.1e}",
        median=median, iqr=iqr, passes=model.n_iter_, gap=model.gap_,
    )  # fmt: skip
