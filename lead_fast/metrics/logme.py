"""LogME: the evidence of a Bayesian linear model of the labels."""

import numpy as np

from ..errors import InputError
from ..options import choice
from ._base import Metric, warn
from ._linalg import Tridiagonal

_STEPS = 11
_EPSILON = 1e-5  # of the public code, beside the two denominators
_FITTED = 1e-4  # share of the targets that is left over, to which float32 products are too coarse


class LogME(Metric):
    r"""Logarithm of the maximum evidence of a Bayesian linear model, per sample and class.

    For each class, its 0/1 indicator y is modelled as X w + noise, with a prior N(0, 1/alpha) on w
    and noise N(0, 1/beta). Both are set by a fixed point that maximises the evidence

    .. math:: \frac{1}{2} \left(D \log\alpha + N \log\beta - \log|\alpha I + \beta X^T X|
              - \beta \|X m - y\|^2 - \alpha \|m\|^2 - N \log 2\pi\right),
              \quad m = (X^T X + \tfrac{\alpha}{\beta} I)^{-1} X^T y

    and the score is its mean over the classes, divided by N. Features are not centred.

    Parameters
    ----------
    labels : array-like (N,) or (N, K) of 0/1
    method : {"fixed-point", "icml"}
        The stopping rule and evidence of the public code's default (tolerance 1e-3; the determinant
        has only min(N, D) factors, so that ``N < D`` adds ``(D - N) / 2N log alpha``), or of the
        ICML paper's algorithm (tolerance 1e-2; the whole determinant).
    dtype : {"float32", "float64"}
        With float32, features that fit a class to 1e-4 of its squares are multiplied in float64
        after all.
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        Features that are all 0, of which the fixed point makes 0 / 0.

    Warns
    -----
    ScoreWarning
        Fewer samples than features: any labels can be fitted.

    Notes
    -----
    Time: N D^2 for the Gram matrix and 4/3 D^3 for its tridiagonal form (N^2 D and 4/3 N^3 for
    N < D), shared by all classes, then at most 11 tridiagonal solves per class. Memory: two D x D
    (or N x N) in float64. A class of one sample and a constant column are nothing special.

    References
    ----------
    You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    ICML 2021, Algorithm 1; You et al., "Ranking and Tuning Pre-trained Models", JMLR 2022,
    Algorithm 3 (the fixed point).

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + 4 * np.eye(3, 8)[y]
    >>> lead_fast.score(x, y, "logme") > lead_fast.score(x[::-1], np.sort(y), "logme")
    True
    """

    name = "logme"
    multi_label = True

    def __init__(self, labels, *, method="fixed-point", dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.method = choice("method", method, ("fixed-point", "icml"))

    def evaluate(self, shared):
        """The score from one model's features."""
        warn_if_wide(shared)
        ridge = shared.once("ridge", lambda: Ridge(shared, class_targets(shared)))
        evidence, _, _, penalties = maximum_evidence(ridge, self.method)
        if shared.dtype == np.float32 and ridge.nearly_fits(penalties):
            refined = shared.refined
            ridge = refined.once("ridge", lambda: Ridge(refined, class_targets(refined)))
            evidence, *_ = maximum_evidence(ridge, self.method)
        return evidence.mean()


def warn_if_wide(shared):
    """Warn of fewer samples than features."""
    if shared.n < shared.d:
        warn(
            f"fewer samples ({shared.n}) than features ({shared.d}): a linear model can fit "
            "any labels, so the score may not discriminate"
        )


def class_targets(shared):
    """``(X^T Y (D, K), squared norms (K,), Y)`` of the class indicators; Y is a function."""
    return shared.class_sums.T, shared.counts_on_host, lambda: shared.indicators


class Ridge:
    """Ridge regressions of several targets on one model's features, for any penalty.

    Parameters
    ----------
    shared : Shared
    targets : (array (D, K), array (K,), callable)
        ``X^T Y``, the squared norms of Y's columns, and what returns Y (N, K).

    Notes
    -----
    With G = X^T X and c = X^T y, the coefficients are w = (G + t)^-1 c and the residual's squared
    norm is y.y - c.w - t w.w; for N < D, with G = X X^T and r = (G + t)^-1 y, the coefficients'
    squared norm is r.(y - t r) and the residual is t r. Either way G enters only by solves and its
    eigenvalues, so that its tridiagonal form serves.
    """

    def __init__(self, shared, targets):
        product, self.energy, indicators = targets
        self.n, self.d, self.k = shared.n, shared.d, product.shape[1]
        self.wide = self.n <= self.d
        gram = shared.sample_gram if self.wide else shared.gram
        self._form = Tridiagonal(shared.xp.array(gram, order="F"))
        self._rotated = shared.host(self._form.rotate(indicators() if self.wide else product))
        # Below zero is nothing but rounding.
        self.eigenvalues = np.maximum(self._form.eigenvalues, 0.0)
        if not self.eigenvalues[-1] > 0.0:
            raise InputError("logme: the features are all 0, so there is no evidence of anything")

    def moments(self, target, t):
        """Squared norms of the coefficients and of the residual at penalty t > 0."""
        c = self._rotated[:, target]
        w = self._form.solve(t, c)
        square = float(w @ w)
        if self.wide:
            return max(float(w @ c) - t * square, 0.0), t * t * square
        return square, max(self.energy[target] - float(w @ c) - t * square, 0.0)

    def nearly_fits(self, penalties):
        """Whether what is left of a target is the difference of numbers too near to each other."""
        return not self.wide and any(
            self.moments(target, t)[1] < _FITTED * self.energy[target]
            for target, t in enumerate(penalties)
        )

    def coefficients(self, penalties, shared):
        """Coefficients (K, D) at one penalty per target."""
        columns = zip(penalties, self._rotated.T, strict=True)
        w = np.stack([self._form.solve(t, c) for t, c in columns], axis=1)
        w = self._form.rotate(w, back=True)
        return w.T @ shared.x if self.wide else w.T


def maximum_evidence(ridge, method="fixed-point", epsilon=_EPSILON):
    """Evidence per sample, alpha, beta and the penalty of the coefficients: four arrays (K,).

    The public code's iteration, literally: at most 11 steps, `epsilon` beside both denominators,
    and the coefficients are those of the step before the last update.

    Raises
    ------
    InputError
        Where `epsilon` is 0, a target that is fitted exactly, is 0, or is orthogonal to the
        features: its evidence has no maximum.
    """
    icml = method == "icml"
    out = np.empty((4, ridge.k))
    for target in range(ridge.k):
        with np.errstate(all="ignore"):  # what is not finite raises
            out[:, target] = _fixed_point(ridge, target, icml, epsilon)
        if not np.isfinite(out[:, target]).all():
            raise InputError(
                "logme: the features fit a class or target exactly, or are all 0 where it is not, "
                "so that the evidence grows without bound; use more samples or other features"
            )
    return out


def _fixed_point(ridge, target, icml, epsilon):
    """Evidence per sample, alpha, beta and penalty of one target."""
    n, d, sigma = ridge.n, ridge.d, ridge.eigenvalues
    alpha = beta = 1.0
    for _ in range(_STEPS):
        t = alpha / beta
        gamma = (sigma / (sigma + t)).sum()
        m2, res2 = ridge.moments(target, t)
        alpha = gamma / (m2 + epsilon)
        beta = (n - gamma) / (res2 + epsilon)
        change = abs(alpha / beta - t) / t
        if change < 1e-2 if icml else change <= 1e-3:
            break
    if icml:
        m2, res2 = m2 + epsilon, res2 + epsilon
    determinant = np.log(alpha + beta * sigma).sum()
    if icml:
        determinant += (d - len(sigma)) * np.log(alpha)
    evidence = 0.5 * (
        d * np.log(alpha)
        + n * np.log(beta)
        - determinant
        - beta * res2
        - alpha * m2
        - n * np.log(2 * np.pi)
    )
    return evidence / n, alpha, beta, t
