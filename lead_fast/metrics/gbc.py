"""GBC: how much the classes overlap, by the Bhattacharyya coefficient of Gaussians."""

import numpy as np

from ..errors import InputError
from ..options import choice, integer, real
from ._base import Metric, warn
from ._pca import spectrum

_PAIR_BYTES = 1 << 24


class GBC(Metric):
    r"""Minus the sum over ordered pairs of classes of their Gaussians' Bhattacharyya coefficient.

    .. math:: -\sum_{a \ne b} e^{-B(a, b)}, \quad B(a, b) = \frac{1}{8} \sum_j
              \frac{(\mu_{aj} - \mu_{bj})^2}{s_j} + \frac{1}{2} \sum_j
              \log \frac{s_j}{\sqrt{v_{aj} v_{bj}}}, \quad s = \frac{v_a + v_b}{2}

    with the classes' means and (biased) variances after PCA.

    Parameters
    ----------
    labels : array-like (N,)
    gaussian : {"spherical", "diagonal"}
        One variance per class, the mean of those of its features, or one per feature.
    n_components : int or None
        Principal components to keep (all if there are fewer); None: no PCA.
    log_terms : {"public", "paper"}
        For spherical Gaussians the logarithm counts once, as in the public code, or D times, as the
        formula says. Diagonal Gaussians are not affected.
    floor : float
        Smallest variance.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Warns
    -----
    ScoreWarning
        All coefficients underflow, or a class has one sample, whose variance is the floor.

    Notes
    -----
    Time: N D for class moments, K^2 D for pairs, and for PCA N D^2 (shared) and D^3. Memory: K D,
    and two D x D for PCA. At most 0; a score of 0 means that no two classes overlap measurably.
    The components' signs, which PCA leaves open, do not matter. A constant feature has the floor as
    variance in every class: that changes nothing for diagonal Gaussians, but is one more term of
    the mean that is a spherical one's variance, unless PCA leaves it out.

    References
    ----------
    Pandy, Agostinelli, Uijlings, Ferrari, Mensink, "Transferability Estimation using Bhattacharyya
    Class Separability", CVPR 2022, Eqs. 3-6.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "gbc")
    >>> lead_fast.score(x, y, "gbc") < far < 0
    True
    """

    name = "gbc"
    upper_bound = 0.0

    def __init__(
        self, labels, *, gaussian="spherical", n_components=64, log_terms="public", floor=1e-4,
        dtype="float32", device=None,
    ):  # fmt: skip
        super().__init__(labels, device, dtype)
        self.gaussian = choice("gaussian", gaussian, ("spherical", "diagonal"))
        self.n_components = (
            None if n_components is None else integer("n_components", n_components, 1)
        )
        self.log_terms = choice("log_terms", log_terms, ("public", "paper"))
        self.floor = real("floor", floor, positive=True)

    def evaluate(self, shared):
        """The score from one model's features."""
        single = int((shared.counts_on_host < 2).sum())
        if single:
            warn(
                f"{single} of {shared.k} classes have one sample: their "
                "variance is the floor, not an estimate"
            )
        if self.n_components is None:
            means, variances = shared.class_means, shared.class_variances
        else:
            means, variances = self._reduced(shared, shared.class_means)
        means, variances = shared.host(means), shared.host(variances)
        variances = np.maximum(variances, self.floor)
        means = means - means.mean(axis=0)
        if self.gaussian == "spherical":
            log_terms = means.shape[1] if self.log_terms == "paper" else 1
            distance = _spherical(means, variances.mean(axis=1), log_terms)
        else:
            distance = _diagonal(means, variances)
        coefficients = np.exp(-distance)
        np.fill_diagonal(coefficients, 0.0)
        score = -float(coefficients.sum())
        if not np.isfinite(score):
            raise InputError("gbc: distances between classes overflow; rescale the features")
        if score == 0.0:
            warn("gbc: no two classes overlap measurably (0, the most), so the score is saturated")
        return score

    def _reduced(self, shared, means):
        """Class means (K, C) and variances (K, C) of the principal components."""
        basis = spectrum(shared).directions(shared, self.n_components)
        xp, source, k = shared.xp, shared, shared.k
        mean = source.mean.astype(source.dtype)
        centres = (means - source.mean) @ basis
        narrow = basis.astype(source.dtype)
        squares = xp.zeros((k, basis.shape[1]))
        for place, block in source.blocks():
            codes = source.codes[place]
            z = ((block - mean) @ narrow) - centres[codes].astype(source.dtype)
            z *= z
            hot = xp.zeros((k, len(codes)), source.dtype)
            hot[codes, xp.arange(len(codes))] = 1
            squares += hot @ z
        return centres, squares / source.counts[:, None]


def _spherical(means, variance, log_terms):
    """Distances (K, K) between Gaussians of one variance each."""
    squares = pair_squares(means)
    middle = 0.5 * (variance[:, None] + variance)
    logs = np.log(middle) - 0.5 * (np.log(variance)[:, None] + np.log(variance))
    return squares / middle / 8 + 0.5 * log_terms * logs


def _diagonal(means, variances):
    """Distances (K, K) between Gaussians with one variance per feature."""
    k, d = means.shape
    out = np.empty((k, k))
    half = 0.5 * np.log(variances).sum(axis=1)
    for a in range(k):
        step = max(1, _PAIR_BYTES // (8 * d))
        for start in range(0, k, step):
            middle = 0.5 * (variances[a] + variances[start : start + step])
            square = ((means[a] - means[start : start + step]) ** 2 / middle).sum(axis=1) / 8
            logs = np.log(middle).sum(axis=1) - half[a] - half[start : start + step]
            out[a, start : start + step] = square + 0.5 * logs
    return out


def pair_squares(points):
    """Squared distances (K, K) of the rows of ``points``; those nearly equal by differences."""
    norms = np.einsum("kd,kd->k", points, points)
    size = norms[:, None] + norms
    squares = size - 2.0 * (points @ points.T)
    for a, b in zip(*np.nonzero(np.triu(squares < 1e-4 * size, 1)), strict=True):
        difference = points[a] - points[b]
        squares[a, b] = squares[b, a] = difference @ difference
    np.fill_diagonal(squares, 0.0)
    return squares
