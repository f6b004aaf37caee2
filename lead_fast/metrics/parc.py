"""PARC: how distances between samples go with distances between their labels."""

import numpy as np

from ..errors import InputError
from ..labels import Labels
from ..options import choice, integer
from ..options import seed as check_seed
from ._base import Metric, MultiLabels, warn
from ._linalg import namespace
from ._pairs import LabelPairs, spearman
from ._pairs_arrays import spearman_sorted

_RANDOM_STATE = 1919
_OVERSAMPLES = 10  # columns beyond those wanted, scikit-learn's default
_NOISE = 64.0  # roundings of the largest component; up to 2 were seen where there is nothing else
_TOL = {"float32": 3e-6, "float64": 1e-12}
_EQUALLY_FAR = "parc: all samples are equally far apart; are the features constant?"


class PARC(Metric):
    r"""100 times Spearman's correlation between pairwise distances of features and of labels.

    The distance of two samples is one minus the correlation of their features, each feature
    standardised before; that of two labels is one minus the correlation of their indicators (0
    within a class and :math:`1 + 1/(K - 1)` between two). All N (N - 1) / 2 pairs count.

    Parameters
    ----------
    labels : array-like (N,) or (N, K) of 0/1
    n_components : int or None
        Reduce the features to this many principal components first (to N, if that is less), by the
        randomised PCA of the public code. None: no PCA. With D features or fewer they are only
        rotated. Where the features have fewer dimensions (constant features, few samples), the
        components beyond count as 0; of the public code's they are roundings.
    max_samples : int or None
        More samples than these are thinned out, class by class, in the same proportion (rounded
        down, but at least one of each).
    ties : {"public", "exact"}
        Within a class the label distance is 0, but floating-point roundings make the public code's
        differ from 0 by 1e-16 in some classes, and Spearman's ranks then order those classes.
        ``"public"`` reproduces these roundings (of sums from the first class to the last, with
        fused multiply-add), ``"exact"`` counts equal distances as tied, as the definition does. The
        scores differ by 0.5 % for 10 classes and by a factor of two for 136. Several labels per
        sample are always exact.
    seed : int
        Of the samples that are kept.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        Labels all at the same distance: one sample per class.

    Warns
    -----
    ScoreWarning
        Samples whose features are all the same after standardisation, or that have none or all of
        several labels: their correlation with others is undefined and counts as 0.

    Notes
    -----
    Between -100 and 100. Pairs are counted in 2^20 bins of distance; those in one bin count as tied
    as long as no order among them could move the correlation by more than 3e-6 (1e-12 in
    float64), and are sorted otherwise.

    Time: N^2 C / 2 products and N^2 / 2 counts for C components, some passes over N D for PCA.
    Memory: two copies of the features that are used, and some 100 MB; the public code takes 80
    N (N - 1) / 2 bytes. A constant feature counts as 0, N < D and K > N / 2 are nothing special.

    References
    ----------
    Bolya, Mittapalli, Hoffman, "Scalable Diverse Model Selection for Accessible Transfer Learning",
    NeurIPS 2021, Eqs. 1-3.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "parc")
    >>> lead_fast.score(x, y, "parc") < far < 100
    True
    """

    name = "parc"
    upper_bound = 100.0
    multi_label = True

    def __init__(
        self, labels, *, n_components=32, max_samples=15000, ties="public", seed=0,
        dtype="float32", device=None,
    ):  # fmt: skip
        super().__init__(labels, device, dtype)
        self.n_components = (
            None if n_components is None else integer("n_components", n_components, 2)
        )
        self.ties = choice("ties", ties, ("public", "exact"))
        self.seed = check_seed(seed)
        most = None if max_samples is None else integer("max_samples", max_samples, 2)
        self.rows = self._choose(most)
        self.pairs = LabelPairs(self._chosen_labels(), self.ties)
        if not self._labels_vary():
            raise InputError("parc: the labels of all pairs are equally far; one sample per class?")

    def _choose(self, most):
        """Rows that are kept, ascending, or None for all."""
        n = self.labels.n
        if most is None or n <= most:
            return None
        generator = np.random.default_rng(self.seed)
        if isinstance(self.labels, MultiLabels):
            return np.sort(generator.choice(n, most, replace=False))
        kept = [
            generator.choice(rows, max(1, int(most / n * len(rows))), replace=False)
            for rows in self.labels.rows_by_class()
        ]
        return np.sort(np.concatenate(kept))

    def _chosen_labels(self):
        if self.rows is None:
            return self.labels
        if isinstance(self.labels, MultiLabels):
            return MultiLabels(self.labels.matrix[self.rows])
        return Labels(self.labels.classes, self.labels.codes[self.rows])

    def _labels_vary(self):
        lengths = self.pairs.lengths
        return len(lengths) > 0 and lengths[-1] - lengths[0] > 1e-9

    def evaluate(self, shared):
        """The score from one model's features."""
        if self.pairs.bits is not None:
            sizes = self._chosen_labels().matrix.sum(axis=1)
            odd = int(((sizes == 0) | (sizes == self.labels.n_classes)).sum())
            if odd:
                warn(f"parc: {odd} samples have none or all of the labels; their distance is 1")
        x = shared.by_column.x
        x = x if self.rows is None else x[shared.put(self.rows)]
        if _alike(x):
            raise InputError(_EQUALLY_FAR)
        if self.n_components is not None:
            x = _reduce(x, min(self.n_components, *x.shape))
        z, undefined = _unit_rows(shared.xp, x)
        if undefined:
            warn(
                f"parc: {undefined} of {len(z)} samples have all features the same after "
                "standardisation; their distance to all others is 1"
            )
        if shared.native:
            correlation = spearman(z, self.pairs, _TOL[self.dtype.name])
        else:
            correlation = spearman_sorted(z, self.pairs)
        if not np.isfinite(correlation):
            raise InputError(_EQUALLY_FAR)
        return 100.0 * min(max(correlation, -1.0), 1.0)


def _alike(x):
    """Whether all samples are the same, of which components would be rounding alone."""
    return bool((x[0] == x[-1]).all()) and bool((x == x[0]).all())


def _reduce(x, count):
    """Scores (N, C) of the public code's randomised PCA, from the same random numbers.

    Products are orthonormalised in between, as the public code's are not: the same space, but what
    it holds of small components does not drown in the roundings of large ones. Components that are
    rounding alone, as the features have fewer dimensions, are 0: standardised, they would count
    like any other, and differ from processor to processor.
    """
    xp = namespace(x)
    centred = x - x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    wide = centred.shape[0] < centred.shape[1]
    m = centred.T if wide else centred
    draws = np.random.RandomState(_RANDOM_STATE).normal(size=(m.shape[1], count + _OVERSAMPLES))
    q = xp.asarray(draws.astype(x.dtype))
    for factor in (m, m.T, m):
        q, _ = xp.linalg.qr(factor @ q)
    left, values, right = xp.linalg.svd(q.T @ m, full_matrices=False)
    u, v = (right.T, (q @ left).T) if wide else (q @ left, right)
    # Signs as there: correlations between samples depend on them.
    largest = xp.abs(v).argmax(axis=1)
    signs = xp.sign(v[xp.arange(len(v)), largest])
    real = values > _NOISE * float(np.finfo(x.dtype).eps) * values[0]
    return (u * (signs * values * real))[:, :count]


def _unit_rows(xp, x):
    """Rows whose inner products are the samples' correlations, and how many have none."""
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    limits = np.finfo(x.dtype)
    # Constant but for rounding, or so nearly that the inverse would overflow.
    tiny = xp.maximum(10 * float(limits.eps) * xp.abs(mean), float(limits.tiny))
    inverse = xp.where(deviation > tiny, 1.0 / xp.where(deviation > 0, deviation, 1.0), 1.0)
    z = (x - mean.astype(x.dtype)) * inverse.astype(x.dtype)
    z -= z.mean(axis=1, dtype=np.float64, keepdims=True).astype(x.dtype)
    length = xp.sqrt((z.astype(np.float64) ** 2).sum(axis=1))
    defined = length > 1e-6 * x.shape[1] ** 0.5
    scale = xp.where(defined, 1.0 / xp.where(defined, length, 1.0), 0.0)
    z *= scale.astype(x.dtype)[:, None]
    return z, int((~defined).sum())
