"""RSA and DDS against all pairs of samples in memory."""

import golden
import numpy as np
import pytest
import scipy.stats
from helpers import relu_features

import lead_fast as lf
from lead_fast.errors import InputError, SaturationWarning


def standardised(x):
    x = np.asarray(x, np.float64)
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def rsa(a, b):
    upper = np.triu_indices(len(a), 1)
    pairs = [(1 - np.corrcoef(standardised(z)))[upper] for z in (a, b)]
    return 100 * scipy.stats.spearmanr(*pairs)[0]


def dds(a, b, debiased=True):
    """CKA of the matrices of cosine distances, centred as matrices."""
    grams = []
    for z in (a, b):
        z = standardised(z)
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        gram = 1 - z @ z.T
        n = len(gram)
        if debiased:
            np.fill_diagonal(gram, 0)
            rows = gram.sum(axis=0) / (n - 2)
            gram = gram - rows - rows[:, None] + gram.sum() / ((n - 1) * (n - 2))
            np.fill_diagonal(gram, 0)
        else:
            rows = gram.mean(axis=0)
            gram = gram - rows - rows[:, None] + gram.mean()
        grams.append(gram)
    a, b = grams
    return 100 * (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def pair(n=150, seed=5):
    labels = np.arange(n) % 5
    a = relu_features(labels, 40, seed=seed)
    b = relu_features(labels, 23, seed=seed + 1, spread=2.0)
    b[:, 3] = 1.25  # a constant column
    return labels, a, b


@pytest.mark.parametrize("dtype, limit", [("float64", 1e-9), ("float32", 1e-4)])
def test_reference(dtype, limit):
    labels, a, b = pair()
    expected = rsa(a, b)
    assert abs(lf.score(a, labels, "rsa", reference=b, dtype=dtype) - expected) <= limit * abs(
        expected
    )
    for debiased in (True, False):
        expected = dds(a, b, debiased)
        score = lf.score(a, labels, "dds", reference=b, debiased=debiased, dtype=dtype)
        assert abs(score - expected) <= limit * abs(expected)


@pytest.mark.parametrize("dtype, limit", [("float64", 1e-8), ("float32", 1e-4)])
def test_real_features(dtype, limit):
    a, labels = golden.load("digits/cnn_m-omni2-sup")
    b, _ = golden.load("digits/wide-notmnist-ae")
    for name, reference in (("rsa", rsa), ("dds", dds)):
        expected = reference(a, b)
        score = lf.score(a, labels, name, reference=b, dtype=dtype)
        assert abs(score - expected) <= limit * abs(expected)


def test_symmetric_and_at_most_100():
    labels, a, b = pair()
    for name in ("rsa", "dds"):
        forth = lf.score(a, labels, name, reference=b, dtype="float64")
        back = lf.score(b, labels, name, reference=a, dtype="float64")
        assert abs(forth - back) <= 1e-9
    assert abs(lf.score(a, labels, "rsa", reference=a) - 100) <= 1e-6
    with pytest.warns(SaturationWarning, match="own"):
        assert abs(lf.score(a, labels, "dds", reference=3 * a + 1) - 100) <= 1e-3


def test_subsample():
    labels, a, b = pair(300)
    some = lf.score(a, labels, "rsa", reference=b, max_samples=100, dtype="float64")
    rows = np.linspace(0, 299, 100).round().astype(int)
    # Columns are standardised over all samples, as they are for all pairs.
    a, b = standardised(a), standardised(b)
    upper = np.triu_indices(100, 1)
    pairs = [np.corrcoef(z[rows])[upper] for z in (a, b)]
    assert abs(some - 100 * scipy.stats.spearmanr(*pairs)[0]) <= 1e-9


def test_what_is_missing_or_wrong_is_said(rng):
    labels, a, b = pair(20)
    for name in ("rsa", "dds"):
        with pytest.raises(InputError, match="reference="):
            lf.score(a, labels, name)
        with pytest.raises(InputError, match="reference: 19 samples"):
            lf.score(a, labels, name, reference=b[:19])
    with pytest.raises(InputError, match="at least 4"):
        lf.score(a[:3], labels[:3], "dds", reference=b[:3])
    with pytest.raises(InputError, match="same features"):
        lf.score(np.ones((20, 4)), labels, "dds", reference=b)
    with pytest.raises(InputError, match="correlation"):
        lf.score(np.ones((20, 4)), labels, "rsa", reference=b)


@pytest.mark.parametrize("name", ["rsa", "dds"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_reference_itself_is_saturated(name, dtype, rng):
    x = rng.standard_normal((40, 6))
    with pytest.warns(SaturationWarning, match="saturated"):
        found = lf.score(2.0 * x + 3.0, np.arange(40) % 2, name, reference=x, dtype=dtype)
    assert abs(found - 100.0) <= 1e-3


@pytest.mark.parametrize("dtype, limit", [("float64", 1e-9), ("float32", 1e-3)])
def test_ties_are_ties(dtype, limit):
    """Copies of samples: pairs of copies are equally similar, which roundings would rank."""
    rng = np.random.default_rng(3)
    place = rng.integers(0, 12, 120)
    a = rng.standard_normal((12, 9))[place]
    b = a[:, :5] + 0.5 * rng.standard_normal((12, 5))[place]
    labels = np.arange(120) % 4
    upper = np.triu_indices(120, 1)
    pairs = [np.corrcoef(standardised(z))[upper].round(9) for z in (a, b)]
    expected = 100 * scipy.stats.spearmanr(*pairs)[0]
    for order in (np.arange(120), rng.permutation(120)):
        found = lf.score(a[order], labels, "rsa", reference=b[order], dtype=dtype)
        assert abs(found - expected) <= limit * abs(expected)
