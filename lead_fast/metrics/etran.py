"""ETran: energy and linear discriminant analysis, scaled over a zoo and added."""

import numpy as np

from ..errors import InputError
from ..options import choice, flag, real
from ._base import Metric, warn
from ._fisher import first_analysis, scores, softmax
from .sfda import linear_scores

_ENERGY, _LDA = 0.15, 0.85


class ETran(Metric):
    r"""``0.15 energy + 0.85 LDA``, each scaled to [0, 1] over the models that are compared.

    The energy is the mean of :math:`\log \sum_j e^{x_{ij}}` over the samples with the lowest; the
    LDA part is the mean posterior :math:`p(y_i | x_i)` of a linear discriminant analysis. One model
    alone has parts (:meth:`parts`) but no score: :meth:`combine` needs those of all.

    Parameters
    ----------
    labels : array-like (N,)
    percent : float
        Share of the samples, in percent, whose energy counts. The public code's 0.5 is half a
        percent; the paper's text means half of the samples, 50.
    tail : {"bottom", "top"}
        The samples with the lowest energy or those with the highest.
    public : bool
        The public code's LDA (see Notes) or the one that the paper describes.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        At a call: one model alone cannot be scored. ``public=False`` without scatter within
        classes.

    Warns
    -----
    ScoreWarning
        A part that is the same for all models. ``public=False`` with fewer samples than features.

    Notes
    -----
    The public code asks a symmetric eigensolver for the eigenvectors of ``S_w^-1 S_b``, which is
    not symmetric. Whatever matrix it reads, the solver returns an orthonormal basis, and the code
    keeps all of it: projections then change no inner product, and neither S_w nor the shrinkage has
    any influence. What is left is the nearest class mean under unit covariance,
    ``softmax_k(x.m_k - |m_k|^2 / 2 + log prior_k)``, and this is what is computed.
    ``public=False`` uses the eigenvectors of the generalised problem: SFDA's first analysis.

    As there, a share is rounded down to tenths of a percent and then to samples, but here at least
    one sample counts.

    Time: N D exponentials and 2 N D K; with ``public=False`` also N D^2 + D^3 / 3. Memory: small
    blocks, or two D x D. A class of one sample and a constant feature are nothing special.

    References
    ----------
    Gholami, Akbari, Wang, Kamranian, Zhang, "ETran: Energy-Based Transferability Estimation",
    ICCV 2023, Eqs. 4-9.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> etran = lead_fast.metrics.get("etran")(y)
    >>> parts = [etran.parts(etran.share(x + shift * np.eye(3, 8)[y])) for shift in (0, 1, 4)]
    >>> scores = etran.combine(parts)
    >>> int(np.argmax(scores))
    2
    """

    name = "etran"
    upper_bound = _ENERGY + _LDA
    over_zoo = True

    def __init__(
        self, labels, *, percent=0.5, tail="bottom", public=True, dtype="float32", device=None
    ):
        super().__init__(labels, device, dtype)
        self.percent = check_percent(percent)
        self.tail = choice("tail", tail, ("bottom", "top"))
        self.public = flag("public", public)

    def evaluate(self, shared):
        """Refuse: a score exists only beside those of other models."""
        raise InputError(
            "etran: its parts are scaled over a zoo, so one model has no score; use rank, or "
            "parts() of each model and combine()"
        )

    def parts(self, shared):
        """Energy and LDA of one model: two floats, before scaling."""
        energy = shared.once(
            ("energy", self.percent, self.tail),
            lambda: mean_energy(shared, self.percent, self.tail),
        )
        key = ("lda", self.public)
        return energy, shared.once(key, lambda: mean_posterior(shared, self.public))

    def combine(self, parts):
        """Scores of models from their parts.

        Parameters
        ----------
        parts : sequence of (energy, lda)
            Of at least two models.

        Returns
        -------
        list of float
            In [0, 1], in the same order.
        """
        table = np.array(parts, dtype=np.float64).reshape(-1, 2)
        if len(table) < 2:
            raise InputError(f"etran: needs at least two models to compare, got {len(table)}")
        span = table.max(axis=0) - table.min(axis=0)
        for name, width in zip(("energy", "LDA part"), span, strict=True):
            if not width > 0.0:
                warn(f"etran: the {name} is the same for all models and counts as 0")
        scaled = (table - table.min(axis=0)) / np.where(span > 0.0, span, 1.0)
        return (scaled @ np.array([_ENERGY, _LDA])).tolist()


def check_percent(percent):
    """Return a share in percent as a float within (0, 100]."""
    percent = real("percent", percent, positive=True)
    if percent > 100.0:
        raise InputError(f"percent: must be at most 100, got {percent:g}")
    return percent


def mean_energy(shared, percent, tail):
    """Mean of the logsumexp over the features, of one tail of the samples."""
    xp = shared.xp
    energies = xp.empty(shared.n)
    step = 64 if shared.native else shared.n  # a few rows, so that the exponentials stay in cache
    for place, block in shared.blocks():
        for start in range(0, len(block), step):
            rows = block[start : start + step]
            top = rows.max(axis=1, keepdims=True)
            part = xp.exp(rows - top).sum(axis=1, dtype=np.float64)
            first = place.start + start
            energies[first : first + len(rows)] = xp.log(part) + top[:, 0]
    share = int(percent * 10) * shared.n
    if tail == "bottom":
        count = max(1, share // 1000)
        return float(xp.partition(energies, count - 1)[:count].mean())
    count = max(1, -(-share // 1000))
    return float(xp.partition(energies, shared.n - count)[-count:].mean())


def mean_posterior(shared, public):
    """Mean posterior of the labels of the linear discriminant analysis."""
    if public:
        source, centred = shared, shared.class_means - shared.mean
        weights = centred.T
    else:
        if shared.n < shared.d + shared.k:
            warn(
                f"{shared.n} samples of {shared.k} classes with {shared.d} features: "
                "any labels can be separated, so the score may not discriminate"
            )
        weights, _, source = first_analysis(shared)
        centred = source.class_means - source.mean
    s = linear_scores(source, weights, scores(weights, centred, source.counts))
    return float(softmax(s)[source.xp.arange(source.n), source.codes].mean())
