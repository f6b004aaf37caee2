"""H-score: how much of the features' variance the classes explain, and its regularised form."""

import numpy as np

from ._base import Metric, is_multi_label, warn_saturated
from ._linalg import add_to_diagonal, cholesky_upper, eigh, solve_transposed

# The smallest pivot of the correlation matrix at which a Cholesky factor is used: below, a column
# is a combination of others but for this share of its variance, which products have to resolve.
_PIVOT = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-9}
_CUT = 1e-15  # of the public code's pseudo-inverse, relative to the largest eigenvalue


class HScore(Metric):
    r"""Trace of the features' inverse covariance times the covariance of their class means.

    .. math:: \mathrm{tr}\left(\mathrm{cov}(f)^{+} \, \mathrm{cov}(E[f \mid y])\right)

    With several labels per sample, :math:`E[f \mid y]` is the projection of the features on the
    span of the labels' indicators, of which the class means are the special case.

    Parameters
    ----------
    labels : array-like (N,) or (N, K) of 0/1
    dtype : {"float32", "float64"}
        With float32, features whose covariance needs more precision than that are multiplied in
        float64 after all, which takes twice as long.
    device : {None, "cpu", "cuda", "cuda:N"}

    Warns
    -----
    SaturationWarning
        The score is at its bound: K - 1, or the rank of the features where that is less. For N <= D
        always.

    Notes
    -----
    Between 0 and the lesser of K - 1 and the rank of the features. Time: N D^2 and D^3 / 3; a
    singular covariance takes an eigensystem, about 4 D^3 (min(N, D) in place of D). Memory: three
    D x D in float64. Constant columns count for nothing; with one sample in every class the score
    is at its bound.

    References
    ----------
    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning",
    ICIP 2019, Definition 2.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + 4 * np.eye(3, 8)[y]
    >>> 1 < lead_fast.score(x, y, "hscore") < 2
    True
    """

    name = "hscore"
    multi_label = True

    def __init__(self, labels, *, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.upper_bound = float(self.labels.n_classes - (not is_multi_label(self.labels)))

    def evaluate(self, shared):
        """The score from one model's features."""
        if shared.n <= shared.d:
            score, rank = _in_sample_space(shared)
        else:
            score, rank = _in_feature_space(shared.by_column)
        most = min(self.upper_bound, rank)
        if score > (1 - 1e-6) * most:
            warn_saturated(
                f"the score is saturated ({score:.6g}, the most is {most:g}): "
                + (
                    "the features tell the classes apart exactly"
                    if most == self.upper_bound
                    else "the features do not vary within the classes"
                )
                + ("; use more samples than features" if shared.n <= shared.d else "")
            )
        return score


def between(shared):
    """B (R, D) with ``B^T B`` the scatter of the projections on the labels."""
    if not shared.multi_label:
        return shared.class_spread
    half = shared.once("label_basis", lambda: _label_basis(shared.labels.matrix))
    centred = shared.class_sums - shared.counts[:, None] * shared.mean
    return shared.put(half.T) @ centred


def _label_basis(matrix):
    """H (K, R) such that the columns of ``Y_centred H`` are orthonormal."""
    centred = matrix - matrix.mean(axis=0)
    values, vectors = eigh(centred.T @ centred)
    kept = values > 1e-12 * max(values[-1], 1.0)
    return vectors[:, kept] / np.sqrt(values[kept])


def _in_feature_space(shared):
    """Score and rank of the features."""
    xp, scatter, spread = shared.xp, shared.total, between(shared)
    size, kept = xp.sqrt(scatter.diagonal()), xp.flatnonzero(shared.varies)
    if kept.size < shared.d:
        scatter = scatter[kept][:, kept]
    size, spread = size[kept], spread[:, kept]
    if kept.size == 0:
        return 0.0, 0
    factor = cholesky_upper(xp.asfortranarray(scatter / size / size[:, None]))
    if factor is not None and float(factor.diagonal().min()) ** 2 > _PIVOT[shared.dtype]:
        return float((solve_transposed(factor, (spread / size).T) ** 2).sum()), len(scatter)
    if shared.dtype == np.float32:
        return _in_feature_space(shared.refined)
    values, vectors = eigh(scatter)
    kept = values > max(_CUT, len(values) * float(np.finfo(np.float64).eps)) * values[-1]
    return float(((spread @ vectors[:, kept]) ** 2 / values[kept]).sum()), int(kept.sum())


def _in_sample_space(shared):
    """Score and rank: the overlap of projections on the spans of X's columns and of the labels."""
    if not bool(shared.varies.any()):
        return 0.0, 0  # its Gram matrix would be rounding
    xp, gram = shared.xp, shared.sample_gram - shared.sample_gram.mean(axis=0)
    gram -= gram.mean(axis=1)[:, None]
    values, vectors = eigh((gram + gram.T) / 2)
    cut = len(values) * shared.eps * max(float(values[-1]), 0.0)
    vectors = vectors[:, values > cut]
    if shared.multi_label:
        matrix = shared.labels.matrix
        basis = shared.put((matrix - matrix.mean(axis=0)) @ _label_basis(matrix))
    else:
        basis = shared.indicators / xp.sqrt(shared.counts)
    return float(((vectors.T @ basis) ** 2).sum()), vectors.shape[1]


class HScoreRegularized(Metric):
    r"""H-score with the Ledoit-Wolf estimate of the covariance.

    .. math:: \mathrm{tr}\left(\Sigma_\alpha^{-1} (1 - \alpha) \, \mathrm{cov}(E[f \mid y])\right),
              \quad \Sigma_\alpha = (1 - \alpha) \Sigma + \alpha \frac{\mathrm{tr}\,\Sigma}{D} I

    where :math:`\alpha` is the shrinkage that Ledoit and Wolf derive for these features.

    Parameters
    ----------
    labels : array-like (N,) or (N, K) of 0/1
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Notes
    -----
    At least 0 and below N K / (N - 1). Meant for N < D, where the plain form is at its bound. Time:
    N D^2 + D^3 / 3 for any N. Memory: three D x D in float64. Constant features score 0. With one
    sample in every class the shrinkage alone keeps it from its bound.

    References
    ----------
    Ibrahim, Ponomareva, Mazumder, "Newer is not always better: Rethinking transferability metrics,
    their peculiarities, stability and performance", ECML 2022, Section 3; Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 90))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 90)[y], y, "hscore_regularized")
    >>> lead_fast.score(x, y, "hscore_regularized") < far < 2
    True
    """

    name = "hscore_regularized"
    multi_label = True

    def __init__(self, labels, *, dtype="float32", device=None):
        super().__init__(labels, device, dtype)

    def evaluate(self, shared):
        """The score from one model's features."""
        n, d = shared.n, shared.d
        scatter = shared.total
        level = float(scatter.trace()) / (n * d)
        if level == 0.0 or n < 2:
            return 0.0
        alpha = _shrinkage(shared, scatter, level)
        covariance = shared.xp.array(scatter, order="F")
        covariance *= (1.0 - alpha) / n
        add_to_diagonal(covariance, alpha * level)
        spread = between(shared)
        factor = cholesky_upper(covariance)
        if factor is None:  # no shrinkage, and a singular covariance
            values, vectors = eigh((1.0 - alpha) / n * scatter + alpha * level * shared.xp.eye(d))
            kept = values > len(values) * shared.eps * values[-1]
            square = ((spread @ vectors[:, kept]) ** 2 / values[kept]).sum()
        else:
            square = (solve_transposed(factor, spread.T) ** 2).sum()
        return (1.0 - alpha) / (n - 1) * float(square)


def _shrinkage(shared, scatter, level):
    """Ledoit and Wolf's intensity, from the fourth moments of the samples' norms."""
    n, d = shared.n, shared.d
    square = float(shared.xp.vdot(scatter, scatter)) / n**2
    noise = (float((shared.norms**2).sum()) / n - square) / (n * d)
    distance = (square - d * level**2) / d
    noise = min(noise, distance)
    return 0.0 if noise <= 0.0 else noise / distance
