"""LEAD's initial state, held out: a least-squares SVM on the leading components."""

import numpy as np

from ..options import integer, real
from ._base import Metric, warn
from ._linalg import Tridiagonal, to_numpy
from ._pca import project


class LeadPlus(Metric):
    r"""How far a least-squares SVM's outputs for samples it has not seen are from their labels.

    .. math:: -\frac{1}{N} \sum_i \left\| F^{(-i)}(x_i) - \mathrm{onehot}(y_i) \right\|^2

    with :math:`F^{(-i)}` the outputs trained on all samples but the i-th. This is the squared loss
    that LEAD's evolution descends, at time 0, its initial state coming from the least-squares form
    of the SVM (ridge regression on the classes' indicators, with an intercept). Features are
    standardised and reduced to their leading principal components, which keep their sizes. It is
    not the paper's method, which is ``"lead"``.

    Parameters
    ----------
    labels : array-like (N,)
    n_components : int
        Principal components, at most N and D.
    penalty : float
        Of the squared coefficients, positive; in units of the samples' mean squared length, the sum
        of squared errors having no factor. In terms of an SVM, ``C = 1 / (2 penalty)`` under
        ``scale="unit"``.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Warns
    -----
    ScoreWarning
        Fewer samples than twice the components: nearly as many coefficients as samples.

    Notes
    -----
    At most 0; always answering with the classes' shares scores about -(1 - sum of squared shares).
    Nothing is drawn at random. Multiplying or shifting single features changes nothing.

    Leaving one out has a closed form (Allen's PRESS): with H the matrix that maps labels to
    outputs, the i-th error is that of the common fit, divided by :math:`1 - H_{ii}`.

    Over 20 tasks of four zoos of small networks its mean weighted tau is 0.57, those of H-score,
    PARC and LogME 0.48 to 0.49, that of ``"lead"`` -0.13; but with 16 models the interval of one
    tau is 0.5 to 0.9 wide, and the form was chosen on eight of these tasks. On the outputs of
    hidden layers side by side (:func:`lead_fast.extract` with ``join=True``) it ranks better: 0.67
    over 29 tasks of five zoos, at least 0.38 on each, against 0.58 by the last layer.
    ``bench/RANKING.md`` has all of it.

    Time: N D^2 for the covariance (shared with other metrics), some 2 D^3 for its leading
    eigenvectors (N^2 D and N^3 for N <= D), N D C + N C^2 + N C K for the rest. Memory: two D x D
    in float64 and 2 N C numbers (for N <= D two N x N and two copies of the features). A constant
    column counts as 0; a class of one sample is predicted from the others, badly.

    References
    ----------
    "Exploring Logit Space Evolution for Model Selection", CVPR 2024 (LEAD), Eqs. 3-7; Suykens,
    Vandewalle, "Least Squares Support Vector Machine Classifiers", Neural Processing Letters 1999;
    Allen, "The Relationship between Variable Selection and Data Augmentation and a Method for
    Prediction", Technometrics 1974.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "lead+")
    >>> lead_fast.score(x, y, "lead+") < far < 0
    True
    """

    name = "lead+"
    upper_bound = 0.0

    def __init__(self, labels, *, n_components=64, penalty=0.1, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.n_components = integer("n_components", n_components, 1)
        self.penalty = real("penalty", penalty, positive=True)

    def evaluate(self, shared):
        """The score from one model's features."""
        shared, count = shared.by_column, min(self.n_components, shared.n, shared.d)
        if shared.n < 2 * count:
            warn(
                f"fewer samples ({shared.n}) than twice the components ({count}): the score may "
                "not discriminate; use fewer components"
            )
        z = components(shared, count)
        total = 0.0
        for errors in held_out_errors(z, shared, self.penalty):
            total += float((errors**2).sum())
        return -total / shared.n


def components(shared, count):
    """Leading principal components (N, C) float64 of the standardised features; not scaled."""
    xp, inverse = shared.xp, shared.inverse_deviation
    if shared.n > shared.d:
        correlation = shared.total * inverse * (inverse / shared.n)[:, None]
        vectors = Tridiagonal(xp.asfortranarray(correlation)).leading_vectors(count)
        return project(shared, inverse[:, None] * vectors)
    x = (shared.x - shared.mean.astype(shared.dtype)) * inverse.astype(shared.dtype)
    form = Tridiagonal(xp.asfortranarray((x @ x.T).astype(np.float64)))
    values = np.sqrt(np.maximum(form.eigenvalues[::-1][:count], 0.0))
    return form.leading_vectors(count) * xp.asarray(values)


def held_out_errors(z, shared, penalty):
    """Go through the leave-one-out errors (B, K) of ridge regression on the indicators, by blocks.

    Parameters
    ----------
    z : array (N, C) float64
        Columns of mean 0 but for rounding.
    shared : Shared
    penalty : float
        In units of the rows' mean squared length.
    """
    xp, n = shared.xp, shared.n
    z = z - z.mean(axis=0)
    square = z.T @ z
    length = float(xp.trace(square)) / n
    if length == 0.0:  # all features constant: the intercept alone
        inverse = xp.zeros_like(square)
    else:
        host = to_numpy(square)
        inverse = xp.asarray(np.linalg.inv(host + penalty * length * np.eye(len(host))))
    shares = shared.counts / n
    # Rows are centred, so that Z^T (Y - shares) is Z^T Y.
    weights = inverse @ _class_sums(z, shared).T
    step = shared.block_rows(8 * (z.shape[1] + 2 * shared.k))
    for first in range(0, n, step):
        rows, codes = z[first : first + step], shared.codes[first : first + step]
        errors = rows @ weights + shares
        errors[xp.arange(len(rows)), codes] -= 1.0
        leverage = ((rows @ inverse) * rows).sum(axis=1) + 1.0 / n
        yield errors / (1.0 - leverage)[:, None]


def _class_sums(z, shared):
    """Sums of the rows of each class, (K, C)."""
    xp, sums = shared.xp, shared.xp.zeros((shared.k, z.shape[1]))
    for number, rows in enumerate(shared.labels.rows_by_class()):
        if len(rows):
            sums[number] = z[xp.asarray(rows)].sum(axis=0)
    return sums
