"""The metrics as their public code computes them, written plainly from the formulas.

NumPy, SciPy and scikit-learn in float64, the algorithm of each public implementation (which matrix
is decomposed, how often the data are gone through), none of its code. What the benchmarks compare
with: not tuned, and not made slower than it has to be. Labels are class numbers 0 to K - 1.
"""

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler


def logme(x, y):
    """Singular vectors from those of X^T X, then a fixed point for each class."""
    n, d = x.shape
    if n > d:
        _, values, vt = np.linalg.svd(x.T @ x)
        s = np.sqrt(values)
        kept = s > 1e-10
        s, vt = s[kept], vt[kept]
        u = (x @ vt.T) / s
    else:
        u, s, vt = np.linalg.svd(x, full_matrices=False)
    sigma = s**2
    evidences = []
    for c in range(y.max() + 1):
        target = (y == c).astype(np.float64)
        square = (u.T @ target) ** 2
        rest = target.sum() - square.sum()
        alpha = beta = 1.0
        for _ in range(11):
            t = alpha / beta
            gamma = (sigma / (sigma + t)).sum()
            size = (sigma * square / (t + sigma) ** 2).sum()
            residual = (square / (1 + sigma / t) ** 2).sum() + rest
            alpha, beta = gamma / (size + 1e-5), (n - gamma) / (residual + 1e-5)
            if abs(alpha / beta - t) / t <= 1e-3:
                break
        evidence = d * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * sigma).sum()
        evidence -= beta * residual + alpha * size + n * np.log(2 * np.pi)
        evidences.append(evidence / (2 * n))
    return float(np.mean(evidences))


def _class_means(x, y):
    return np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])


def _within(x, y):
    """Covariances of the classes, weighted by their sizes."""
    within = np.zeros((x.shape[1], x.shape[1]))
    for c in range(y.max() + 1):
        rows = x[y == c]
        within += len(rows) / len(x) * np.cov(rows.T, bias=True)
    return within


def _shrink(covariance, amount):
    shrunk = (1 - amount) * covariance
    shrunk.flat[:: len(covariance) + 1] += amount * np.trace(covariance) / len(covariance)
    return shrunk


def _largest(matrix):
    """Largest eigenvalue by three power steps on both sides."""
    right = matrix.sum(axis=1)
    for _ in range(3):
        left = matrix @ right
        left /= np.linalg.norm(left)
        right = matrix @ left
        right /= np.linalg.norm(right)
    return float(left @ matrix @ right)


def _posteriors(x, y, directions):
    means = _class_means(x, y)
    weights = means @ directions @ directions.T
    bias = np.log(np.bincount(y) / len(y)) - 0.5 * np.einsum("kd,kd->k", means, weights)
    return scipy.special.softmax(x @ weights.T + bias, axis=1)


def _fisher(x, y, amount):
    within, total = _within(x, y), np.cov(x.T, bias=True)
    if amount is None:
        amount = max(np.exp(-5 * _largest(within)), 1e-10)
    within = _shrink(within, amount)
    _, directions = scipy.linalg.eigh(_shrink(total, amount) - within, within)
    return _posteriors(x, y, directions), amount


def sfda(x, y):
    """Fisher discriminant analysis, mixing with the other classes, and the same again."""
    first, amount = _fisher(x, y, None)
    soft = scipy.special.softmax(first, axis=1)[np.arange(len(y)), y][:, None]
    means = _class_means(x, y)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    second, _ = _fisher(soft * x + (1 - soft) * others[y], y, amount)
    return float(second[np.arange(len(y)), y].mean())


def ped(x, y, reference=None, step=0.1, n_sigma=0.6, exit_ratio=0.5, over=sfda):
    """Move the features class by class, recomputing moments at every step; then a metric."""
    reference = x if reference is None else reference
    centre, scale = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-3)
    first = None
    for _ in range(6):
        z = (x - centre) / scale
        means = _class_means(z, y)
        variances = np.stack([z[y == c].var(axis=0) for c in range(len(means))])
        radius = np.sqrt(variances.sum(axis=1))
        apart = means[:, None] - means
        distance = np.sqrt((apart**2).sum(axis=2))
        overlap = np.maximum(n_sigma * (radius[:, None] + radius) - distance, 0)
        np.fill_diagonal(overlap, 0)
        np.fill_diagonal(distance, 1)
        length = np.minimum(0.5 * step**2 * overlap, overlap) / distance
        move = (length[:, :, None] * apart).sum(axis=1)
        size = np.abs(move).sum()
        first = size if first is None else first
        if not size / first > exit_ratio:
            break
        x = (z + move[y]) * scale + centre
    return over(x, y)


def pactran(x, y, lambda_factor=1.0, s2_factor=100.0, max_iter=10, seed=0):
    """Soft-max regression by L-BFGS from a random start (10 steps, as the public code), and trace.

    ``max_iter=None`` goes on to convergence.
    """
    n, d = x.shape
    k = y.max() + 1
    x = x - x.mean(axis=0)
    hot = np.eye(k)[y]
    penalty = lambda_factor * n

    def loss(theta):
        theta = theta.reshape(d + 1, k)
        weights = theta[:d]
        logits = x @ weights + theta[d]
        log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
        error = (np.exp(log_p) - hot) / n
        gradient = np.vstack([x.T @ error + weights / penalty, error.sum(axis=0)])
        value = -(hot * log_p).sum() / n + 0.5 * (weights**2).sum() / penalty
        return value, gradient.ravel()

    start = np.random.default_rng(seed).standard_normal((d, k)) * 0.03
    found = scipy.optimize.minimize(
        loss, np.vstack([start, np.zeros((1, k))]).ravel(), jac=True, method="L-BFGS-B",
        tol=1e-6 if max_iter else 1e-14,
        options={"maxiter": max_iter or 10000, "maxfun": 100000},
    )  # fmt: skip
    theta = found.x.reshape(d + 1, k)
    p = scipy.special.softmax(x @ theta[:d] + theta[d], axis=1)
    curvature = p - p**2
    trace = (x**2).T @ curvature + 1 / penalty
    mean = (trace.sum() + curvature.sum()) * penalty / (d * k) + 1e-10
    return -float(found.fun + 0.5 * d * k / penalty * s2_factor / d * np.log(mean))


def etran_parts(x, y, percent=0.5):
    """Energy of the lowest rows, and the discriminant part with its one-triangle eigenproblem."""
    energies = np.sort(scipy.special.logsumexp(x, axis=1))
    energy = energies[: max(1, int(percent * 10) * len(x) // 1000)].mean()
    within = _within(x, y)
    amount = max(np.exp(-5 * _largest(within)), 1e-10)
    shrunk = _shrink(within, amount)
    between = _shrink(np.cov(x.T, bias=True), amount) - shrunk
    _, directions = scipy.linalg.eigh(np.linalg.inv(shrunk) @ between)
    posterior = _posteriors(x, y, directions)
    return float(energy), float(posterior[np.arange(len(y)), y].mean())


def transrate(x, y, eps=1e-4):
    """Log-determinants of all samples and of each class."""

    def rate(z):
        gram = np.eye(z.shape[1]) + z.T @ z / (len(z) * eps)
        return 0.5 * np.linalg.slogdet(gram)[1]

    x = x - x.mean(axis=0)
    k = y.max() + 1
    return float(rate(x) - sum(rate(x[y == c]) for c in range(k)) / k)


def hscore(x, y):
    """Covariances of features and of class means spread over the samples, a pseudo-inverse."""
    conditional = _class_means(x, y)[y]
    inverse = np.linalg.pinv(np.cov(x, rowvar=False), rcond=1e-15)
    return float(np.trace(inverse @ np.cov(conditional, rowvar=False)))


def hscore_regularized(x, y):
    """As :func:`hscore`, with scikit-learn's Ledoit-Wolf covariance."""
    x = x - x.mean(axis=0)
    found = LedoitWolf().fit(x)
    conditional = np.cov(_class_means(x, y)[y], rowvar=False)
    inverse = np.linalg.pinv(found.covariance_, rcond=1e-15)
    return float(np.trace(inverse @ ((1 - found.shrinkage_) * conditional)))


def parc(x, y, n_components=32):
    """All pairs of samples in memory, ranked by SciPy."""
    if n_components is not None:
        x = PCA(
            min(n_components, len(x)), svd_solver="randomized", random_state=1919, iterated_power=1
        ).fit_transform(x)
    x = StandardScaler().fit_transform(x)
    upper = np.triu_indices(len(x), 1)
    features = (1 - np.corrcoef(x))[upper]
    labels = (1 - np.corrcoef(np.eye(y.max() + 1)[y]))[upper]
    return 100 * float(scipy.stats.spearmanr(features, labels)[0])


def nleep(x, y, ratio=5, seed=0):
    """scikit-learn's PCA and Gaussian mixture, then LEEP without the logarithm."""
    k = y.max() + 1
    x = PCA(n_components=0.8).fit(x).transform(x)
    mixture = GaussianMixture(n_components=ratio * k, random_state=seed).fit(x)
    return leep(mixture.predict_proba(x), y, log=False)


def leep(theta, y, log=True):
    """Joint distribution of source and target classes, then the expected prediction."""
    joint = np.stack([theta[y == c].sum(axis=0) for c in range(y.max() + 1)])
    predicted = (theta @ (joint / joint.sum(axis=0)).T)[np.arange(len(y)), y]
    return float(np.log(predicted).mean() if log else predicted.mean())


def gbc(x, y, n_components=64, floor=1e-4):
    """PCA, spherical class variances, Bhattacharyya distance of every pair of classes."""
    if n_components is not None:
        x = PCA(n_components=min(n_components, *x.shape)).fit_transform(x)
    means = _class_means(x, y)
    variances = [np.maximum(x[y == c].var(axis=0), floor).mean() for c in range(len(means))]
    total = 0.0
    for a, mean_a in enumerate(means):
        for b, mean_b in enumerate(means):
            if a != b:
                middle = (variances[a] + variances[b]) / 2
                distance = ((mean_a - mean_b) ** 2).sum() / (8 * middle)
                distance += 0.5 * (
                    np.log(middle) - 0.5 * (np.log(variances[a]) + np.log(variances[b]))
                )
                total += np.exp(-distance)
    return -float(total)


def knn(x, y):
    """All distances in memory, the nearest other sample."""
    # Of x with itself the product would be BLAS's dsyrk, which crashes for this size in OpenBLAS
    # 0.3.30 (of NumPy's wheels) on some processors.
    distance = pairwise_distances(x, x.copy())
    np.fill_diagonal(distance, np.inf)
    return float((y[distance.argmin(axis=1)] == y).mean())


PLAIN = {
    "logme": logme,
    "parc": parc,
    "nleep": nleep,
    "pactran": pactran,
    "sfda": sfda,
    "gbc": gbc,
    "etran": etran_parts,
    "ped": ped,
    "hscore": hscore,
    "hscore_regularized": hscore_regularized,
    "transrate": transrate,
    "knn": knn,
}
