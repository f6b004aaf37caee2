"""Steps of NLEEP and PACTran on arrays, by NumPy and by a stand-in for CuPy, against plain ones."""

import types

import numpy as np
import pytest
from sklearn.cluster import KMeans

from lead_fast import reference_metrics as reference
from lead_fast.metrics import _mixture, _mixture_arrays, _softmax
from lead_fast.metrics._linalg import inverse_factors, to_numpy


def covariances(m, d, rng):
    x = rng.standard_normal((m, 2 * d, d)) * np.linspace(1.0, 1e-2, d)
    return np.swapaxes(x, 1, 2) @ x


@pytest.mark.parametrize("d", [1, 5, 64, 65, 128, 200])
def test_inverse_factors(xp, d, rng):
    a = covariances(3, d, rng)
    inverse, half = inverse_factors(xp.asarray(a.copy()))
    expected = np.linalg.inv(np.linalg.cholesky(a))
    error = np.abs(to_numpy(inverse) - expected).max()
    assert error <= 1e-11 * np.abs(expected).max()
    assert np.abs(to_numpy(half) - 0.5 * np.linalg.slogdet(a)[1]).max() <= 1e-10
    a[1, -1, -1] = -1.0
    assert inverse_factors(xp.asarray(a)) is None


def mixture(n, d, m, rng):
    """Samples, their components, and posteriors some of which are shared by two components."""
    which = np.r_[np.arange(m), rng.integers(0, m, n - m)]
    z = 4.0 * rng.standard_normal((m, d))[which] / d**0.5 + rng.standard_normal((n, d))
    posteriors = np.eye(m)[which]
    some = rng.random(n) < 0.3
    posteriors[some] = 0.75 * posteriors[some] + 0.25 * np.eye(m)[rng.integers(0, m, some.sum())]
    return z, which, posteriors


@pytest.mark.parametrize("gathered", [1, 100, 1 << 16])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "n, d, m", [(31, 1, 2), (97, 19, 3), (150, 33, 4), (90, 40, 5), (60, 40, 6)]
)
def test_both_steps(xp, n, d, m, dtype, gathered, rng, monkeypatch):
    monkeypatch.setattr(_mixture_arrays, "_GATHERED", gathered)
    monkeypatch.setattr(_mixture_arrays, "_PART", 8)
    monkeypatch.setattr(_mixture_arrays, "_WIDE", 32)
    monkeypatch.setattr(_mixture_arrays, "_PARTS", 20 * gathered)
    z, which, posteriors = mixture(n, d, m, rng)
    z = z.astype(dtype).astype(np.float64)
    weights, means, spread = reference.mixture_m_step(z, posteriors, ridge=1e-2)
    given = xp.asarray(np.ascontiguousarray(posteriors.T))
    found = _mixture_arrays._parameters(xp.asarray(z), given, 1e-2)
    assert np.abs(to_numpy(found[0]) - means).max() <= 1e-12
    half = 0.5 * (np.linalg.slogdet(spread)[1] + d * np.log(2.0 * np.pi))
    assert np.abs(to_numpy(found[2]) - np.log(weights) + half).max() <= 1e-9 * d
    expected, likelihood = reference.mixture_e_step(z, weights, means, spread)
    depth = _mixture.DEPTH[dtype]
    limit = 1e-8 if dtype == "float64" else 2e-2
    for likely in (which, rng.integers(0, m, n)):  # a wrong guess costs time only
        p, mean = _mixture_arrays._expectation(
            xp.asarray(z.astype(dtype)), xp.asarray(likely), *found
        )
        assert p.dtype == dtype
        assert np.abs(to_numpy(p).T - expected).max() <= max(limit, m * np.exp(-depth))
        assert abs(mean - likelihood) <= limit * max(1.0, 1e-2 * d)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ahead", [1, 3, 4])
def test_clusters(xp, ahead, dtype, rng, monkeypatch):
    """However often one looks whether the rounds are over: scikit-learn's from the same start."""
    monkeypatch.setattr(_mixture_arrays, "_AHEAD", ahead)
    z = mixture(600, 6, 9, rng)[0].astype(dtype)
    for seed in range(2):
        found = to_numpy(_mixture_arrays.clusters(xp.asarray(z), 12, seed))
        centred = xp.asarray(z - z.mean(axis=0))
        start = _mixture_arrays._first_centres(None, centred, 12, np.random.default_rng(seed))
        start = z[to_numpy(start)]
        expected = KMeans(12, init=start, n_init=1, algorithm="lloyd").fit(z).labels_
        # In float32 a sample between two centres may be either's.
        assert (found != expected).mean() <= (0.0 if dtype == "float64" else 1e-2)


def test_clusters_of_few_distinct_samples(xp):
    z = np.repeat(np.eye(3), 4, axis=0)
    found = to_numpy(_mixture_arrays.clusters(xp.asarray(z), 5, 0))
    assert len(set(found.tolist())) == 3
    assert (found.reshape(3, 4) == found[::4, None]).all()


def test_rounds_end(xp, rng, monkeypatch):
    monkeypatch.setattr(_mixture_arrays, "MOST_ROUNDS", 2)
    z = rng.standard_normal((400, 5))
    found = to_numpy(_mixture_arrays.clusters(xp.asarray(z), 9, 0))
    first = _mixture_arrays._first_centres(
        None, xp.asarray(z - z.mean(axis=0)), 9, np.random.default_rng(0)
    )
    centres = z[to_numpy(first)]
    for _ in range(3):
        labels = ((z[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.array([z[labels == k].mean(axis=0) for k in range(9)])
    assert np.array_equal(found, labels)


class Quadratic:
    """``(x - 1) A (x - 1) / 2`` in the place of a softmax regression."""

    def __init__(self, xp, size, rng):
        root = rng.standard_normal((size, size))
        self.xp, self.matrix = xp, xp.asarray(root @ root.T + np.eye(size))
        self.shared = types.SimpleNamespace(put=xp.asarray)

    def __call__(self, theta):
        xp, x = self.xp, theta.ravel() - 1.0
        slope = self.matrix @ x
        return 0.5 * xp.stack([xp.vdot(x, slope), 0.0 * x[0], 2.0 + x[0]]), slope.reshape(3, -1)

    def values(self, parts):
        return float(parts[0]), float(parts[2])


def two_loops(slope, pairs):
    """The direction as the textbooks have it."""
    q, factors = slope.copy(), []
    for change, bend in reversed(pairs):
        factors.append((change @ q) / (change @ bend))
        q = q - factors[-1] * bend
    if pairs:
        q = q * (change_dot(pairs[-1]) / (pairs[-1][1] @ pairs[-1][1]))
    for (change, bend), a in zip(pairs, reversed(factors), strict=True):
        q = q + (a - (bend @ q) / (change @ bend)) * change
    return -q


def change_dot(pair):
    return pair[0] @ pair[1]


def test_directions_from_inner_products(xp, rng):
    problem = Quadratic(xp, 12, rng)
    theta = xp.asarray(rng.standard_normal((3, 4)))
    history = _softmax._History(problem, *problem(theta), memory=3)
    pairs, slope = [], to_numpy(problem(theta)[1]).ravel()
    assert history.values[1] == pytest.approx(1.0 + 0.5 * (float(theta[0, 0]) - 1.0))
    for turn in range(9):
        step, promise = history.step()
        expected = two_loops(slope, pairs[-3:])
        assert np.abs(to_numpy(step).ravel() - expected).max() <= 1e-9 * np.abs(expected).max()
        assert promise == pytest.approx(-(slope @ expected), rel=1e-8)
        if turn % 2:  # looked at and not taken
            history.look(theta, theta - step)
        change = 0.3 * step
        there = theta + change
        _, seen = history.look(theta, there)
        history.move(seen)
        theta = there
        after = to_numpy(problem(theta)[1]).ravel()
        pairs.append((to_numpy(change).ravel(), after - slope))
        slope = after
