"""NLEEP: LEEP with the components of a Gaussian mixture in place of source classes."""

import numpy as np

from .._caller import warn_caller
from ..errors import ConvergenceWarning, InputError
from ..options import flag, integer, real
from ..options import seed as check_seed
from ._base import Metric, warn, warn_saturated
from ._kmeans import lloyd
from ._mixture import fit
from ._mixture_arrays import clusters, fit_arrays
from ._pca import project, spectrum

_SATURATED = 1e-9


class NLEEP(Metric):
    r"""Mean expected probability of the labels, given the components of a mixture of the features.

    Features are reduced to the principal components that hold ``energy`` of their variance, and a
    mixture of ``n_per_class`` K Gaussians with full covariances is fitted to them. With posteriors
    :math:`p(z | x)` and :math:`p(y | z) = \sum_{i: y_i = y} p(z | x_i) / \sum_i p(z | x_i)`,

    .. math:: \frac{1}{N} \sum_i \sum_z p(y_i | z) \, p(z | x_i)

    Parameters
    ----------
    labels : array-like (N,)
    n_per_class : int
        Components per class. The public scripts take 5, and 1 for some data sets of many classes.
    energy : float
        Share of the variance to keep, below 1.
    log : bool
        Mean of the logarithm, as in the paper (at most 0); the public code takes none (0 to 1).
    tol, ridge : float
        Of the mixture: change of the mean log-likelihood at which to stop, and what is added to the
        variances.
    max_iter : int
        Iterations at most.
    seed : int
        Of the k-means clustering that EM starts from.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        More components than samples; constant features.

    Warns
    -----
    ConvergenceWarning
        EM reached ``max_iter``.
    ScoreWarning
        Fewer than ten samples per component, so that components single out samples.
    SaturationWarning
        The score has reached its bound.

    Notes
    -----
    EM finds a local optimum that depends on its start: the score of the public code, which takes no
    seed, scatters by about 1 % between runs. The algorithm is scikit-learn's, from one k-means run.
    A component is left out of a sample's sum as soon as its posterior is certainly below 1e-13
    (3e-20 in float64), which a part of the distance already shows in most cases.

    Time: N D^2 (shared) and D^3 for PCA; for M components in C dimensions k-means, and per
    iteration up to N M C^2 and M C^3. Memory: N (C + M) and M C^2. A class of one sample and a
    constant feature are nothing special. K > N / 2: with n_per_class = 1 only.

    References
    ----------
    Li, Jia, Sang, Zhu, Green, Wang, Gong, "Ranking Neural Checkpoints", CVPR 2021, Section 3.2.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(300) % 3
    >>> x = np.random.default_rng(0).standard_normal((300, 8))
    >>> far = lead_fast.score(x + 8 * np.eye(3, 8)[y], y, "nleep", n_per_class=1)
    >>> lead_fast.score(x, y, "nleep", n_per_class=1) < far
    True
    """

    name = "nleep"

    def __init__(
        self, labels, *, n_per_class=5, energy=0.8, log=False, tol=1e-3, max_iter=100, ridge=1e-6,
        seed=0, dtype="float32", device=None,
    ):  # fmt: skip
        super().__init__(labels, device, dtype)
        self.energy = real("energy", energy, positive=True)
        if self.energy >= 1.0:
            raise InputError(f"energy: must be below 1, got {self.energy:g}")
        self.log = flag("log", log)
        self.upper_bound = 0.0 if self.log else 1.0
        self.tol, self.ridge = real("tol", tol), real("ridge", ridge, positive=True)
        self.max_iter = integer("max_iter", max_iter, 1)
        self.seed = check_seed(seed)
        self.n_components = integer("n_per_class", n_per_class, 1) * self.labels.n_classes
        if self.n_components > self.labels.n:
            raise InputError(
                f"nleep: {self.n_components} components for {self.labels.n} samples; "
                "set n_per_class lower"
            )

    def evaluate(self, shared):
        """The score from one model's features."""
        if shared.n < 10 * self.n_components:
            warn(
                f"nleep: {shared.n} samples for {self.n_components} components, which may single "
                "out samples; set n_per_class lower"
            )
        mixture = self._mixture(shared)
        if mixture is None:
            raise InputError("nleep: a covariance is not positive definite; raise ridge")
        if not mixture.converged:
            warn_caller(
                f"nleep: {mixture.iterations} iterations did not reach tol; raise max_iter",
                ConvergenceWarning,
            )
        if shared.native:
            p = label_probabilities(mixture.posteriors, shared.codes, shared.k)
        else:
            p = label_probabilities_of_arrays(mixture.posteriors, shared)
        score = float((shared.xp.log(p) if self.log else p).mean())
        if self.upper_bound - score < _SATURATED:
            warn_saturated(
                f"nleep: the score is saturated ({score:.12g}, the most is {self.upper_bound:g}): "
                "every component has one class; set n_per_class lower"
            )
        return score

    def _mixture(self, shared):
        z = reduce(shared, self.energy)
        start = (_clusters if shared.native else clusters)(z, self.n_components, self.seed)
        return (fit if shared.native else fit_arrays)(
            z, start, self.n_components, tol=self.tol, max_iter=self.max_iter, ridge=self.ridge
        )


def reduce(shared, energy):
    """Principal components (N, C) with more than `energy` of the variance."""
    components = spectrum(shared)
    variances = components.variances
    total = variances.sum()
    if not total > 0.0:
        raise InputError("the features are constant; there is nothing to score")
    count = int(np.searchsorted(np.cumsum(variances) / total, energy, side="right")) + 1
    return project(shared, components.directions(shared, count), shared.dtype)


def _clusters(z, count, seed):
    """Cluster of each sample (N,): one k-means run."""
    from sklearn.cluster import kmeans_plusplus

    # In float64, which scikit-learn would convert float32 to again for each centre.
    first, _ = kmeans_plusplus(z.astype(np.float64), count, random_state=seed % 2**32)
    return lloyd(z, first)


def label_probabilities(posteriors, codes, k):
    """Expected probability of each sample's label, (N,) float64, for posteriors (M, N)."""
    m, n = posteriors.shape
    order = np.argsort(codes, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=k))[:-1]])
    joint = np.add.reduceat(posteriors[:, order], first, axis=1, dtype=np.float64)  # (M, K)
    mass = joint.sum(axis=1, keepdims=True)
    given = joint / np.where(mass > 0.0, mass, 1.0)
    p = np.zeros(n)
    for z in range(m):
        p += given[z, codes] * posteriors[z]
    return p


def label_probabilities_of_arrays(posteriors, shared):
    """The same by products, on the arrays of `shared`."""
    xp, wide = shared.xp, posteriors.astype(np.float64)
    joint = wide @ shared.indicators  # (M, K)
    mass = joint.sum(axis=1, keepdims=True)
    given = joint / xp.where(mass > 0.0, mass, 1.0)
    wide *= given[:, shared.codes]
    return wide.sum(axis=0)
