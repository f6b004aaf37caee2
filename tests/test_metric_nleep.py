"""NLEEP: the expectation step and EM against plain ones, and the public code's scatter."""

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features, threads

import lead_fast as lf
from lead_fast import backend
from lead_fast import reference_metrics as reference
from lead_fast.errors import ConvergenceWarning, InputError, SaturationWarning, ScoreWarning
from lead_fast.metrics import _mixture, nleep


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, dtype):
    features, labels = golden.load(model)
    score = lf.score(features, labels, "nleep", dtype=dtype)
    mean, deviation = (golden.GOLDEN[model][f"nleep_{s}_of_5"] for s in ("mean", "std"))
    assert abs(score - mean) <= 4 * deviation


def blobs(n, d, m, rng):
    """Samples of m components, some of which overlap, and their numbers."""
    centres = 3.0 * rng.standard_normal((m, d)) / d**0.25
    which = np.r_[np.arange(m), rng.integers(0, m, n - m)]
    mixing = rng.standard_normal((m, d, d)) / d**0.5 + np.eye(d)
    z = centres[which] + np.einsum("nij,nj->ni", mixing[which], rng.standard_normal((n, d)))
    return z, which


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "n, d, m", [(31, 1, 2), (97, 5, 3), (400, 33, 4), (500, 70, 5), (1025, 16, 12)]
)
def test_expectation_step(n, d, m, dtype, rng):
    z, which = blobs(n, d, m, rng)
    posteriors = np.eye(m)[which]
    weights, means, covariances = reference.mixture_m_step(z, posteriors, ridge=1e-2)
    expected, likelihood = reference.mixture_e_step(z, weights, means, covariances)
    ld = -(-d // 16) * 16
    wide, centre = np.zeros((n, ld), dtype), np.zeros((m, ld), dtype)
    wide[:, :d], centre[:, :d] = z, means
    factor = np.zeros((m, d, ld), dtype)
    factor[:, :, :d] = np.linalg.inv(np.linalg.cholesky(covariances))
    constant = np.log(weights) - 0.5 * (np.linalg.slogdet(covariances)[1] + d * np.log(2.0 * np.pi))
    for likely in (which, rng.integers(0, m, n)):  # a wrong guess costs time only
        likely = likely.astype(np.int32)
        for depth in (30.0, 1e9):
            found, likelihoods = backend.cpu().mixture_e_step(
                wide, d, centre, factor, constant, likely, np.argsort(likely), depth, 2
            )
            limit = 1e-9 if dtype == "float64" else 1e-2
            assert np.abs(found.T - expected).max() <= max(limit, 2 * m * np.exp(-depth))
            assert abs(likelihoods.mean() - likelihood) <= limit


@pytest.mark.parametrize("n, d, m", [(200, 3, 2), (400, 20, 6)])
def test_iterations(n, d, m, rng):
    z, which = blobs(n, d, m, rng)
    start = np.where(rng.random(n) < 0.8, which, rng.integers(0, m, n))
    found = _mixture.fit(z, start, m, tol=1e-3)
    posteriors, before = np.eye(m)[start], -np.inf
    parameters = reference.mixture_m_step(z, posteriors)
    for iteration in range(1, 101):  # noqa: B007
        posteriors, likelihood = reference.mixture_e_step(z, *parameters)
        parameters = reference.mixture_m_step(z, posteriors)
        if abs(likelihood - before) < 1e-3:
            break
        before = likelihood
    posteriors, likelihood = reference.mixture_e_step(z, *parameters)
    assert found.converged and found.iterations == iteration
    assert np.abs(found.posteriors.T - posteriors).max() <= 1e-7
    assert abs(found.log_likelihood - likelihood) <= 1e-8


def test_scikit_learn_agrees_from_the_same_start(rng):
    from sklearn.mixture import GaussianMixture

    z, which = blobs(500, 8, 5, rng)
    weights, means, covariances = reference.mixture_m_step(z, np.eye(5)[which])
    other = GaussianMixture(
        5, weights_init=weights, means_init=means, precisions_init=np.linalg.inv(covariances)
    ).fit(z)
    found = _mixture.fit(z, which, 5)
    assert found.iterations == other.n_iter_
    assert np.abs(found.posteriors.T - other.predict_proba(z)).max() <= 1e-6


def test_label_probabilities(rng):
    labels = class_labels([40, 30, 1])
    posteriors = rng.dirichlet(np.ones(6), 71)
    posteriors[:, 4] = 0.0  # an empty component says nothing
    posteriors /= posteriors.sum(axis=1, keepdims=True)
    p = nleep.label_probabilities(np.ascontiguousarray(posteriors.T), labels, 3)
    kept = np.delete(posteriors, 4, axis=1)
    assert abs(p.mean() - reference.leep_of_posteriors(kept, labels)) <= 1e-14
    assert abs(np.log(p).mean() - reference.leep_of_posteriors(kept, labels, log=True)) <= 1e-13


@pytest.mark.parametrize("n, d", [(300, 20), (40, 60)])
def test_components_hold_the_energy(n, d):
    labels = np.arange(n) % 2
    x = relu_features(labels, d)
    shared = lf.metrics.get("nleep")(labels, n_per_class=1, dtype="float64").share(x)
    values = np.linalg.svd(x.astype(float) - x.mean(axis=0, dtype=float), compute_uv=False) ** 2
    for energy in (0.3, 0.8, 0.99):
        z = nleep.reduce(shared, energy)
        share = np.cumsum(values) / values.sum()
        assert share[z.shape[1] - 1] > energy and (
            z.shape[1] == 1 or share[z.shape[1] - 2] <= energy
        )
        assert abs((z**2).sum() / values.sum() - share[z.shape[1] - 1]) <= 1e-10


def test_threads_give_the_same_bits():
    labels = class_labels([200, 150, 100])
    x = relu_features(labels, 20)
    z, start = x[:, :12].copy(), labels
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(_mixture.fit(z, start, 3).posteriors)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_warnings_and_errors(rng):
    labels = np.arange(60) % 3
    x = rng.standard_normal((60, 4))
    with pytest.warns(ScoreWarning, match="60 samples for 15 components"):
        lf.score(x, labels, "nleep")
    far = 1e3 * np.eye(3, 4)[labels] + x
    with pytest.warns(SaturationWarning, match="saturated"):
        assert lf.score(far, labels, "nleep", n_per_class=1) > 1 - 1e-9
    with pytest.warns(SaturationWarning):
        assert abs(lf.score(far, labels, "nleep", n_per_class=1, log=True)) < 1e-9
    with pytest.raises(InputError, match="99 components for 60 samples"):
        lf.score(x, labels, "nleep", n_per_class=33)
    with pytest.raises(InputError, match="constant"):
        lf.score(np.ones((60, 4)), labels, "nleep", n_per_class=1)
    with pytest.raises(InputError, match="energy"):
        lf.score(x, labels, "nleep", energy=1.0)
    with pytest.warns(ConvergenceWarning, match="1 iterations"):
        lf.score(x, labels, "nleep", n_per_class=1, max_iter=1)
