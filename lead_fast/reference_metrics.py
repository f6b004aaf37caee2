"""The other metrics in float64 NumPy, written from their equations; see :mod:`lead_fast.reference`.

Plain, slow and for small inputs: whole D x D eigenproblems, every pair of samples in memory, one
class after the other. Imports nothing from the rest of the package. Labels are class numbers
0 .. K-1, each present.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.stats
from scipy.special import log_softmax, logsumexp, softmax

__all__ = [
    "energy",
    "etran_lda",
    "fisher_probabilities",
    "gbc",
    "leep_of_posteriors",
    "min_max",
    "mixture_e_step",
    "mixture_m_step",
    "pactran",
    "parc",
    "ped_move",
    "sfda",
    "within_covariance",
]


def _float(x):
    return np.asarray(x, dtype=np.float64)


def _class_means(x, y):
    return np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])


def within_covariance(x, y):
    """Mean over the samples of (x - class mean)(x - class mean)^T, shape (D, D)."""
    x = _float(x)
    residual = x - _class_means(x, y)[y]
    return residual.T @ residual / len(x)


# --------------------------------------------------------------------------------------------------
# SFDA (Shao et al., "Not All Models Are Equal", ECCV 2022), ETran (Gholami et al., ICCV 2023)
# --------------------------------------------------------------------------------------------------


def _shrinkage(within):
    """max(exp(-5 sigma), 1e-10), sigma from three double power steps started at the row sums."""
    right = within.sum(axis=1)
    for _ in range(3):
        left = within @ right
        left /= np.linalg.norm(left)
        right = within @ left
        right /= np.linalg.norm(right)
    return max(np.exp(-5.0 * (right @ within @ left)), 1e-10)


def _shrink(matrix, amount):
    d = len(matrix)
    return (1.0 - amount) * matrix + amount * np.trace(matrix) / d * np.eye(d)


def _discriminant(x, y, directions):
    """Posterior of each class when samples and class means are projected on `directions`."""
    means, prior = _class_means(x, y) @ directions, np.bincount(y) / len(y)
    scores = (x @ directions) @ means.T - 0.5 * (means**2).sum(axis=1) + np.log(prior)
    return softmax(scores, axis=1)


def fisher_probabilities(x, y, shrinkage=None):
    """Posteriors (N, K) of regularised Fisher discriminant analysis, and the shrinkage.

    All generalised eigenvectors of (S_b, S_w) count, as in the public code.
    """
    x = _float(x)
    within, total = within_covariance(x, y), np.cov(x.T, bias=True).reshape(x.shape[1], -1)
    shrinkage = _shrinkage(within) if shrinkage is None else shrinkage
    within = _shrink(within, shrinkage)
    between = _shrink(total, shrinkage) - within
    _, vectors = scipy.linalg.eigh(between, within)
    return _discriminant(x, y, vectors), shrinkage


def sfda(x, y, log=False):
    """Mean posterior of the label after the self-challenging second analysis."""
    x, y = _float(x), np.asarray(y)
    rows = np.arange(len(y))
    first, shrinkage = fisher_probabilities(x, y)
    confidence = softmax(first, axis=1)[rows, y][:, None]
    means = _class_means(x, y)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    mixed = confidence * x + (1.0 - confidence) * others[y]
    p = fisher_probabilities(mixed, y, shrinkage)[0][rows, y]
    return float(np.mean(np.log(p) if log else p))


def etran_lda(x, y, public=True):
    """ETran's classification part, with the public code's eigenvectors or with Fisher's."""
    x, y = _float(x), np.asarray(y)
    rows = np.arange(len(y))
    if not public:
        return float(fisher_probabilities(x, y)[0][rows, y].mean())
    within, total = within_covariance(x, y), np.cov(x.T, bias=True).reshape(x.shape[1], -1)
    shrinkage = _shrinkage(within)
    within = _shrink(within, shrinkage)
    between = _shrink(total, shrinkage) - within
    _, vectors = np.linalg.eigh(np.linalg.inv(within) @ between)  # reads one triangle only
    return float(_discriminant(x, y, vectors)[rows, y].mean())


def energy(x, percent=0.5, tail="bottom"):
    """Mean of the logsumexp over the features, of the given percentage of the samples."""
    values = np.sort(logsumexp(_float(x), axis=1))
    count = int(percent * 10) * len(values) / 1000
    if tail == "bottom":
        return float(values[: max(1, int(np.floor(count)))].mean())
    return float(values[-max(1, int(np.ceil(count))) :].mean())


def min_max(values):
    """Scale to [0, 1]; all 0 where they are all equal."""
    values = _float(values)
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


# --------------------------------------------------------------------------------------------------
# GBC (Pandy et al., CVPR 2022), PED (Li et al., ICCV 2023)
# --------------------------------------------------------------------------------------------------


def gbc(x, y, gaussian="spherical", dimensions="public", floor=1e-4):
    """Minus the sum over ordered pairs of classes of exp(-Bhattacharyya distance).

    `dimensions="paper"` counts the logarithm of a spherical variance D times, "public" once.
    """
    x, y = _float(x), np.asarray(y)
    k, d = y.max() + 1, x.shape[1]
    mean = [x[y == c].mean(axis=0) for c in range(k)]
    variance = [np.maximum(x[y == c].var(axis=0), floor) for c in range(k)]
    if gaussian == "spherical":
        entries = d if dimensions == "paper" else 1
        variance = [np.full(d, v.mean()) for v in variance]
    total = 0.0
    for a in range(k):
        for b in range(k):
            if a == b:
                continue
            middle = (variance[a] + variance[b]) / 2
            log_ratio = np.log(middle) - 0.5 * np.log(variance[a]) - 0.5 * np.log(variance[b])
            log_term = entries * log_ratio[0] if gaussian == "spherical" else log_ratio.sum()
            distance = ((mean[a] - mean[b]) ** 2 / middle).sum() / 8 + 0.5 * log_term
            total += np.exp(-distance)
    return float(-total)


def ped_move(
    x, y, reference=None, step=0.1, n_sigma=0.6, exit_ratio=0.5, max_steps=6, constant=1.0,
    floor=1e-3,
):  # fmt: skip
    """Features after the classes have repelled one another, and the number of steps made.

    `reference` are the features whose column statistics rescale x, x itself by default.
    """
    x, y = _float(x), np.asarray(y)
    reference = x if reference is None else _float(reference)
    centre, scale = reference.mean(axis=0), np.maximum(reference.std(axis=0), floor)
    first = None
    for made in range(max_steps):
        z = (x - centre) / scale
        k = y.max() + 1
        mean = _class_means(z, y)
        radius = [np.sqrt(z[y == c].var(axis=0).sum()) for c in range(k)]
        move = np.zeros_like(mean)
        for a in range(k):
            for b in range(k):
                away = mean[a] - mean[b]
                distance = np.linalg.norm(away)
                overlap = max(n_sigma * (radius[a] + radius[b]) - distance, 0.0)
                if a != b and overlap > 0.0 and distance > 0.0:
                    move[a] += away / distance * min(0.5 * step**2 * constant * overlap, overlap)
        size = np.abs(move).sum()
        first = size if first is None else first
        if not (first > 0.0 and size / first > exit_ratio):
            return x, made
        x = (z + move[y]) * scale + centre
    return x, max_steps


# --------------------------------------------------------------------------------------------------
# PARC (Bolya et al., NeurIPS 2021)
# --------------------------------------------------------------------------------------------------


def parc(x, targets):
    """100 times Spearman's correlation of the pairwise distances of features and of labels.

    `targets` are class numbers (N,) or 0/1 (N, K). Label distances are rounded to 12 digits, so
    that what is equal is tied.
    """
    x, targets = _float(x), np.asarray(targets)
    if targets.ndim == 1:
        targets = np.eye(targets.max() + 1)[targets]
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    pairs = np.triu_indices(len(x), 1)
    of_features = 1.0 - np.corrcoef(x)[pairs]
    of_labels = np.round(1.0 - np.corrcoef(targets)[pairs], 12)
    return float(100.0 * scipy.stats.spearmanr(of_features, of_labels)[0])


# --------------------------------------------------------------------------------------------------
# PACTran (Ding et al., ECCV 2022)
# --------------------------------------------------------------------------------------------------


def pactran(x, y, lambda_factor=1.0, s2_factor=100.0):
    """Return (Gaussian score, minus the regularised cross-entropy alone), at the optimum."""
    x, y = _float(x), np.asarray(y)
    n, d = x.shape
    k = y.max() + 1
    x = x - x.mean(axis=0)
    strength = lambda_factor * n
    onehot = np.eye(k)[y]

    def loss(theta):
        w, b = theta[: d * k].reshape(d, k), theta[d * k :]
        log_p = log_softmax(x @ w + b, axis=1)
        error = (np.exp(log_p) - onehot) / n
        value = -(onehot * log_p).sum() / n + 0.5 * (w**2).sum() / strength
        return value, np.r_[(x.T @ error + w / strength).ravel(), error.sum(axis=0)]

    options = {"maxiter": 50000, "maxfun": 100000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 50}
    start = np.zeros(d * k + k)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    p = softmax(x @ found.x[: d * k].reshape(d, k) + found.x[d * k :], axis=1)
    spread = p - p**2
    curvature = (x.T**2 @ spread).sum() + d * k / strength + spread.sum()
    flatness = 0.5 * k * d / strength * (s2_factor / d) * np.log(curvature * strength / (k * d))
    return float(-(found.fun + flatness)), float(-found.fun)


# --------------------------------------------------------------------------------------------------
# NLEEP (Li et al., CVPR 2021)
# --------------------------------------------------------------------------------------------------


def mixture_e_step(x, weights, means, covariances):
    """Posteriors (N, M) of a Gaussian mixture and the mean log-likelihood."""
    joint = np.stack(
        [
            np.log(w) + scipy.stats.multivariate_normal(m, c, allow_singular=True).logpdf(x)
            for w, m, c in zip(weights, means, covariances, strict=True)
        ],
        axis=1,
    )
    return softmax(joint, axis=1), float(logsumexp(joint, axis=1).mean())


def mixture_m_step(x, posteriors, ridge=1e-6):
    """Weights (M,), means (M, d) and covariances (M, d, d) for given posteriors."""
    mass = posteriors.sum(axis=0) + 10 * np.finfo(np.float64).eps
    means = posteriors.T @ x / mass[:, None]
    covariances = np.stack(
        [
            (posteriors[:, [m]] * (x - means[m])).T @ (x - means[m]) / mass[m]
            + ridge * np.eye(x.shape[1])
            for m in range(len(mass))
        ]
    )
    return mass / mass.sum(), means, covariances


def leep_of_posteriors(posteriors, y, log=False):
    """Mean over the samples of sum_z p(y_i | z) p(z | x_i), or of its logarithm."""
    posteriors, y = _float(posteriors), np.asarray(y)
    joint = np.stack([posteriors[y == c].sum(axis=0) for c in range(y.max() + 1)]) / len(y)
    given = joint / joint.sum(axis=0)
    p = (posteriors * given[y]).sum(axis=1)
    return float(np.mean(np.log(p) if log else p))
