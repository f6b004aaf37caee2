"""DDS: duality diagram similarity to the features of a reference model."""

import numpy as np

from ..device import on_gpu, wrap
from ..errors import InputError
from ..features import as_features
from ..options import flag
from ._base import Metric, warn_saturated
from ._linalg import namespace
from ._shared import Shared


class DDS(Metric):
    r"""Similarity of two models' features on the same samples: bias-corrected centred alignment.

    Columns are standardised and rows scaled to length 1; with K and L the two matrices of cosine
    similarities of the samples and :math:`\tilde K` the U-centred K (without its diagonal),

    .. math:: 100 \; \frac{\langle \tilde K, \tilde L\rangle}{\|\tilde K\| \, \|\tilde L\|}

    which is what cosine distances give as well.

    Parameters
    ----------
    labels : array-like (N,)
        Only their number counts.
    reference : array-like (N, D')
        Features of a model that was trained on the target task, on the same samples; in a zoo, the
        name of that model.
    debiased : bool
        U-centring, as in the public code; else plain centring with the diagonal.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        No reference, or one of other samples; features that are the same for all samples.

    Warns
    -----
    SaturationWarning
        The features are the reference's own, up to a similarity.

    Notes
    -----
    At most 100; a constant column counts for nothing. Time: N (D^2 + D'^2 + 2 D D')
    multiplications, the reference's share once: inner products of N x N matrices of rank D are
    squared norms of D x D' ones. Memory: three D x D'.

    References
    ----------
    Dwivedi, Huang, Cichy, Roig, "Duality Diagram Similarity: a generic framework for
    initialization selection in task transfer learning", ECCV 2020; U-centring: Szekely and Rizzo,
    "Partial distance correlation with methods for dissimilarities", 2014.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> task = rng.standard_normal((60, 8))
    >>> x = task @ rng.standard_normal((8, 20))
    >>> y = np.arange(60) % 3
    >>> noise = lead_fast.score(rng.standard_normal((60, 20)), y, "dds", reference=task)
    >>> lead_fast.score(x, y, "dds", reference=task) > 10 > noise
    True
    """

    name = "dds"
    upper_bound = 100.0
    reference_model = True
    needs = ("reference",)

    def __init__(self, labels, *, reference=None, debiased=True, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.debiased = flag("debiased", debiased)
        self.reference = reference_of(self, reference)
        if self.debiased and self.labels.n < 4:
            raise InputError(f"dds: U-centring needs at least 4 samples, got {self.labels.n}")

    def evaluate(self, shared):
        """The score from one model's features and the reference's."""
        shared, reference = shared.by_column, reference_beside(shared, self.reference).by_column
        theirs = reference.once("unit_rows", lambda: unit_rows(reference))
        of_reference = reference.once(("dds", self.debiased), lambda: self._inner(theirs, theirs))
        rows = shared.once("unit_rows", lambda: unit_rows(shared))
        own = self._inner(rows, rows)
        if not (own > 0 and of_reference > 0):
            raise InputError("dds: all samples have the same features, so there is no similarity")
        both = self._inner(rows, theirs)
        score = 100.0 * both / (own * of_reference) ** 0.5
        if score > 100.0 - 1e-4:
            warn_saturated("the score is saturated (100): the features are the reference's own")
        return score

    def _inner(self, a, b):
        """Inner product of the centred matrices of inner products of the rows of a and b."""
        xp, n = namespace(a), len(a)
        square = sum_of_squares(a, b)
        if not self.debiased:
            # The rows' mean is taken out: the same as centring both sides of the matrices.
            mean_a, mean_b = (z.mean(axis=0, dtype=np.float64) for z in (a, b))
            cross = (a.T @ b).astype(np.float64) - n * xp.outer(mean_a, mean_b)
            return float(xp.vdot(cross, cross))
        norms_a, norms_b = (xp.einsum("ij,ij->i", z, z, dtype=np.float64) for z in (a, b))
        sums_a, sums_b = (
            (z @ z.sum(axis=0, dtype=np.float64).astype(z.dtype)).astype(np.float64) - norms
            for z, norms in ((a, norms_a), (b, norms_b))
        )
        square -= float(norms_a @ norms_b)
        square += float(sums_a.sum() * sums_b.sum()) / ((n - 1) * (n - 2))
        return square - 2.0 / (n - 2) * float(sums_a @ sums_b)


def sum_of_squares(a, b):
    """``|a^T b|^2``, blocks of rows added in float64."""
    xp = namespace(a)
    total = xp.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), 4096):
        total += a[start : start + 4096].T @ b[start : start + 4096]
    return float(xp.vdot(total, total))


def unit_rows(shared):
    """Standardised columns, rows of length 1, (N, D); rows of nothing stay 0."""
    mean, inverse = standardisation(shared)
    xp = shared.xp
    out = xp.empty((shared.n, shared.d), shared.dtype)
    for place, block in shared.blocks():
        rows = (block - mean) * inverse
        norms = xp.sqrt(xp.einsum("ij,ij->i", rows, rows))
        out[place] = rows / xp.where(norms > 0, norms, shared.dtype.type(1))[:, None]
    return out


def standardisation(shared):
    """Mean and inverse deviation of every column, in the work type; 0 for constant columns."""
    return shared.mean.astype(shared.dtype), shared.inverse_deviation.astype(shared.dtype)


def reference_of(metric, reference):
    """The reference's features as :class:`Shared`, checked."""
    if reference is None:
        raise InputError(
            f"{metric.name}: needs a second model's features on the same samples: give reference= "
            "(an array, or the name of a model of the zoo)"
        )
    there = on_gpu(reference)
    x = wrap(reference, "reference") if there else as_features(reference, "reference")
    if x.shape[0] != metric.labels.n:
        raise InputError(f"reference: {x.shape[0]} samples, and {metric.labels.n} labels")
    return metric.share(x) if there else Shared(x, metric.labels, metric.dtype)


def reference_beside(shared, reference):
    """The reference as :class:`Shared`, on the device of `shared`; moved there once."""
    if shared.native == reference.native:
        return reference
    if shared.native:
        return reference.once(
            "moved", lambda: Shared(reference.on_host(), reference.labels, reference.dtype)
        )
    return reference.once("moved", lambda: shared.beside(reference.x))
