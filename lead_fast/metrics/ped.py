"""PED: potential energy decline, another metric after classes have repelled one another."""

import numpy as np

from ..device import on_gpu, wrap
from ..errors import InputError
from ..features import as_features, check_finite
from ..options import choice, integer, real
from . import _shared
from ._arrays import statistics
from ._base import Metric, warn
from .gbc import GBC, pair_squares
from .logme import LogME
from .sfda import SFDA

_OVER = {"sfda": SFDA, "logme": LogME, "gbc": GBC}
_FLOOR = 1e-3


class PED(Metric):
    r"""SFDA, LogME or GBC of features whose classes have moved apart.

    Each class is a ball at its mean :math:`m_a` with radius :math:`r_a`, the root of its total
    variance, in features that are rescaled by reference statistics. Overlapping balls repel:

    .. math:: \Delta_a = \sum_b \frac{m_a - m_b}{d_{ab}} \min(\tfrac{1}{2} \tau^2 c F_{ab}, F_{ab}),
              \quad F_{ab} = \max(n_\sigma (r_a + r_b) - d_{ab}, 0)

    Every sample moves with its class. Steps are repeated while :math:`\sum |\Delta|` is more than
    ``exit_ratio`` of that of the first step.

    Parameters
    ----------
    labels : array-like (N,)
    over : {"sfda", "logme", "gbc"}
        The metric of the moved features, with its default options.
    reference : array-like (M, D), optional
        Features of a general data set by the same model, whose column means and standard deviations
        (at least 1e-3) rescale the features: ImageNet's in the public code. By default those of the
        features themselves. A zoo has them in ``MODEL_REFERENCE_feature.npy``.
    step, n_sigma, exit_ratio, constant : float
        :math:`\tau`, :math:`n_\sigma`, the ratio that ends the motion, and c.
    max_steps : int
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        Reference features of another width.

    Warns
    -----
    ScoreWarning
        No two classes overlap: the score is that of the features as they are (as it is without a
        warning for ``max_steps=0`` or an ``exit_ratio`` of 1 and more). What the metric over which
        it works warns of.

    Notes
    -----
    Moving a class as a whole changes neither its scatter nor its radius, so the motion needs class
    means and variances only, and the metric after it works on the scatter of the unmoved features.
    Two classes with one and the same mean do not repel (the public code divides by 0).

    Time: N D for moments, K^2 D for each step, and that of the metric. Memory: K D beside it. A
    class of one sample has radius 0.

    References
    ----------
    Li, Hu, Ge, Shan, Duan, "Exploring Model Transferability through the Lens of Potential Energy",
    ICCV 2023, Eqs. 4-9 and Appendix B (rescaling).

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + np.eye(3, 8)[y]
    >>> lead_fast.score(x, y, "ped") > lead_fast.score(x, y, "sfda")
    True
    """

    name = "ped"
    per_model = {"reference": "reference"}  # noqa: RUF012

    def __init__(
        self, labels, *, over="sfda", reference=None, step=0.1, n_sigma=0.6, exit_ratio=0.5,
        max_steps=6, constant=1.0, dtype="float32", device=None,
    ):  # fmt: skip
        super().__init__(labels, device, dtype)
        self.over = choice("over", over, tuple(_OVER))
        self.reference = reference
        self.step = real("step", step, positive=True)
        self.n_sigma = real("n_sigma", n_sigma)
        self.exit_ratio = real("exit_ratio", exit_ratio)
        self.constant = real("constant", constant, positive=True)
        self.max_steps = integer("max_steps", max_steps, 0)
        self._metric = _OVER[self.over](self.labels, dtype=dtype, device=device)
        self.upper_bound = self._metric.upper_bound

    def evaluate(self, shared, reference=None):
        """The score from one model's features."""
        reference = self.reference if reference is None else reference
        shift, steps = self.displacement(shared, reference)
        if steps == 0:
            return self._metric.evaluate(shared)
        return self._metric.evaluate(Moved(shared, shared.put(shift)))

    def displacement(self, shared, reference=None):
        """How far each class moves, (K, D) float64 on the host, and the number of steps made."""
        scale = _reference_scale(shared, reference)
        variances = shared.host(shared.class_variances)
        place = shared.host(shared.class_means - shared.mean) / scale
        start = place.copy()
        radius = np.sqrt((variances / scale**2).sum(axis=1))
        reach = self.n_sigma * (radius[:, None] + radius)
        first = None
        for made in range(self.max_steps):
            move, overlap = self._move(place, reach)
            size = float(np.abs(move).sum())
            if first is None:
                first = size
                if not overlap:
                    warn(f"ped: no two classes overlap, so this is the score of {self.over} itself")
            if not (first > 0.0 and size / first > self.exit_ratio):
                return (place - start) * scale, made
            place += move
        return (place - start) * scale, self.max_steps

    def _move(self, place, reach):
        """One step of every class, (K, D), and whether any two overlap."""
        distance = np.sqrt(pair_squares(place - place.mean(axis=0)))
        overlap = np.maximum(reach - distance, 0.0)
        np.fill_diagonal(overlap, 0.0)
        # Products, as a power that overflows raises.
        length = min(0.5 * self.step * self.step * self.constant, 1.0) * overlap
        apart = distance > 0.0
        pull = np.where(apart, length / np.where(apart, distance, 1.0), 0.0)
        centred = place - place.mean(axis=0)
        return pull.sum(axis=1)[:, None] * centred - pull @ centred, bool(overlap.any())


def _reference_scale(shared, reference):
    """Standard deviations (D,) that rescale the features, at least the floor."""
    if reference is None:
        return np.maximum(np.sqrt(shared.host(shared.variance)), _FLOOR)
    there = on_gpu(reference)
    features = wrap(reference, "reference") if there else as_features(reference, "reference")
    if features.shape[1] != shared.d:
        raise InputError(
            f"reference: {features.shape[1]} features wide, but the model's are {shared.d}"
        )
    found = statistics(features)
    check_finite(features, "reference", found)
    return np.maximum(np.sqrt(found["variance"]), _FLOOR)


class Moved(_shared.Shared):
    """Features of which each class has been shifted; what a shift leaves alone is taken over."""

    def __init__(self, base, shift):
        self.base, self.shift, self.xp = base, shift, base.xp
        self.active, self.host, self.put = base.active, base.host, base.put
        self.dtype, self.labels = base.dtype, base.labels
        self.n, self.d, self.k = base.n, base.d, base.k
        weight = base.counts / base.n
        self.flat, self.mean = base.flat, base.mean + weight @ shift
        before = (base.class_means - base.mean) ** 2
        after = (base.class_means + shift - self.mean) ** 2
        self.variance = base.variance + weight @ (after - before)
        self.class_sums = base.class_sums + base.counts[:, None] * shift
        self.class_means = base.class_means + shift
        self.counts = base.counts
        self._memo = {}

    @property
    def codes(self):
        """Class number of each sample, (N,)."""
        return self.base.codes

    @property
    def within(self):
        """Scatter within the classes: that of the unmoved features."""
        return self.base.within

    @property
    def x(self):
        """The moved features (N, D): a copy."""
        return self.base.x + self.shift.astype(self.dtype)[self.codes]

    def blocks(self, rows=None):
        """Go through the moved features in blocks, see the base class."""
        shift = self.shift.astype(self.dtype)
        for place, block in self.base.blocks(rows):
            codes = self.codes[place if rows is None else self.put(rows)[place]]
            yield place, block + shift[codes]

    @property
    def class_variances(self):
        """Variances within the classes: those of the unmoved features."""
        return self.base.class_variances

    @property
    def refined(self):
        """The same in float64."""
        if self.dtype == np.float64:
            return self
        return self.once("float64", lambda: Moved(self.base.refined, self.shift))
