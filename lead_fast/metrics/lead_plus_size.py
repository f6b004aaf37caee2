"""lead+ and the size of the model, at equal scale over a zoo, added."""

from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..options import real
from ._base import warn
from .lead_plus import LeadPlus


class LeadPlusSize(LeadPlus):
    r"""``z(lead+) + weight z(log size)``, z being standardisation over the models compared.

    Features of the last layer say what a network sees, not how far the layers below will move: deep
    networks fine-tune better than their frozen features look, small ones worse. The number of
    parameters is known of every model, costs nothing, and says some of that. One model alone
    has parts (:meth:`parts`) but no score: :meth:`combine` needs those of all.

    Parameters
    ----------
    labels : array-like (N,)
    size : float, optional
        Of one model: number of parameters, or operations per image (the same for all models),
        positive. A zoo has parameters in files by ``lead-fast extract`` and in an ``.npz`` that
        holds an integer ``parameters``; else give ``{model: size}``, or a JSON file of that.
    weight : float
        Of the size; the larger, the less the features count.
    n_components : int
        See :class:`~lead_fast.metrics.lead_plus.LeadPlus`, as the next.
    penalty : float
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        At a call: one model alone cannot be scored. No size, or one that is not positive.

    Warns
    -----
    ScoreWarning
        A part that is the same for all models, which counts as 0. What ``"lead+"`` warns of.

    Notes
    -----
    Scores have mean 0 over the models compared, and change with what is compared. With models of
    one architecture the order is that of ``"lead+"``; two models that the parts order differently
    tie.

    The form, equal parts of both, was fixed before a zoo of other architectures than those it was
    found on was made. ``bench/RANKING.md`` has its figures there and elsewhere, and what sizes
    alone are worth: ``python bench/beyond_last_layer.py`` prints them.

    Time: that of ``"lead+"``, with which it shares all work. Memory: the same. A constant column
    counts as 0.

    References
    ----------
    As of :class:`~lead_fast.metrics.lead_plus.LeadPlus`. No publication proposes the sum.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + np.eye(3, 8)[y]
    >>> size = {"small": 11.7e6, "large": 60.2e6}
    >>> lead_fast.rank({"small": x, "large": x + 0.01}, y, "lead+size", size=size).best
    'large'
    """

    name = "lead+size"
    upper_bound = None
    over_zoo = True
    per_model: ClassVar[dict] = {"size": "parameters"}
    needs = ("size",)

    def __init__(
        self,
        labels,
        *,
        size=None,
        weight=1.0,
        n_components=64,
        penalty=0.1,
        dtype="float32",
        device=None,
    ):
        super().__init__(
            labels, n_components=n_components, penalty=penalty, dtype=dtype, device=device
        )
        self.size = None if size is None else real("size", size, positive=True)
        self.weight = real("weight", weight)

    def evaluate(self, shared, size=None):
        """Refuse: a score exists only beside those of other models."""
        raise InputError(
            "lead+size: its parts are standardised over a zoo, so one model has no score; use "
            "rank, or parts() of each model and combine()"
        )

    def parts(self, shared, size=None):
        """The score by lead+ and the logarithm of the size of one model: two floats."""
        size = self.size if size is None else real("size", size, positive=True)
        if size is None:
            raise InputError(
                "lead+size: the model's size is not known; give size={model: number of "
                "parameters}, or a JSON file of that"
            )
        return super().evaluate(shared), float(np.log(size))

    def combine(self, parts):
        """Scores of models from their parts.

        Parameters
        ----------
        parts : sequence of (score, log of size)
            Of at least two models.

        Returns
        -------
        list of float
            In the same order.
        """
        table = np.array(parts, dtype=np.float64).reshape(-1, 2)
        if len(table) < 2:
            raise InputError(f"lead+size: needs at least two models to compare, got {len(table)}")
        centred = table - table.mean(axis=0)
        spread = centred.std(axis=0)
        # What differs by rounding alone, that of float32, is the same.
        varies = spread > 1e-6 * np.abs(table).max(axis=0)
        for name, one in zip(("score by lead+", "size"), varies, strict=True):
            if not one:
                warn(f"lead+size: the {name} is the same for all models and counts as 0")
        scaled = np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)
        return (scaled @ np.array([1.0, self.weight])).tolist()
