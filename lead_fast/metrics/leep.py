"""LEEP: how well the source classifier's probabilities predict the labels."""

from typing import ClassVar

import numpy as np

from ..device import to_host
from ..errors import InputError
from ..features import real_array
from ..options import flag
from ._base import Metric, warn, warn_saturated

_SATURATED = 1e-9


class LEEP(Metric):
    r"""Mean log-likelihood of the labels under the expected empirical predictor.

    .. math:: \frac{1}{N} \sum_i \log \sum_z p(y_i \mid z) \, \theta(x_i)_z, \quad
              p(y, z) = \frac{1}{N} \sum_{i: y_i = y} \theta(x_i)_z

    where :math:`\theta(x_i)` are the probabilities that the source classifier gives its classes.

    Parameters
    ----------
    labels : array-like (N,)
    source : array-like (N, S), optional
        Outputs of the source classifier on the samples. Rows that are not negative and sum to 1 are
        probabilities; anything else is taken as logits and soft-maxed. Needed unless each call
        brings its own; a zoo has them in ``MODEL_DATASET_output.npy`` or ``MODEL/preds.npy``.
    log : bool
        Whether to take the logarithm; the public code of SFDA leaves it out.
    dtype : {"float32", "float64"}
        Without effect: sums are float64.
    device : {None, "cpu", "cuda", "cuda:N"}
        Without effect: outputs on a GPU are copied to the host.

    Raises
    ------
    InputError
        No outputs, or not N rows of at least 2; NaN or infinity.

    Warns
    -----
    ScoreWarning
        The outputs are the same for all samples.
    SaturationWarning
        The score has reached its bound.

    Notes
    -----
    At most 0 (1 without the logarithm). Time: 2 N S, from the outputs alone: the features count for
    nothing but their number. Memory: K S and a copy of the outputs. A source class of probability 0
    everywhere counts for nothing; classes of one sample are nothing special, but with one in every
    class the score is near its bound.

    References
    ----------
    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations",
    ICML 2020, Eq. 2.

    Examples
    --------
    >>> import lead_fast
    >>> source = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    >>> score = lead_fast.score([[0.0]] * 4, [0, 0, 1, 1], "leep", source=source)
    >>> round(score, 3)
    -0.239
    """

    name = "leep"
    upper_bound = 0.0
    per_model: ClassVar[dict] = {"source": "output"}
    needs = ("source",)

    def __init__(self, labels, *, source=None, log=True, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.log = flag("log", log)
        if not self.log:
            self.upper_bound = 1.0
        self.source = None if source is None else probabilities(source, self.labels.n)

    def evaluate(self, shared, source=None):
        """The score from one model's outputs."""
        theta = self.source if source is None else probabilities(source, shared.n)
        if theta is None:
            raise missing_source(self.name)
        score = expected_prediction(theta, shared.labels, self.log)
        if self.upper_bound - score < _SATURATED:
            warn_saturated(
                f"leep: the score is saturated ({score:.12g}, the most is {self.upper_bound:g}): "
                "every source class has one label"
            )
        elif not np.ptp(theta, axis=0).max() > 0.0:
            warn(
                "leep: the source classifier gives the same probabilities for all samples, so the "
                "score tells of the labels alone"
            )
        return score


def expected_prediction(theta, labels, log=True):
    """Mean (log-)likelihood of the labels given ``theta`` (N, S), the probabilities of sources."""
    rows = labels.rows_by_class()
    joint = np.stack([theta[r].sum(axis=0, dtype=np.float64) for r in rows])  # (K, S), times N
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    total = 0.0
    for c, r in enumerate(rows):
        likelihood = theta[r] @ conditional[c]
        total += float(np.log(likelihood).sum() if log else likelihood.sum())
    return total / labels.n


def probabilities(source, n):
    """Outputs (N, S) as probabilities, float64."""
    outputs = real_array(to_host(source, "source"), "source").astype(np.float64)
    if outputs.ndim != 2 or outputs.shape[0] != n or outputs.shape[1] < 2:
        raise InputError(
            f"source: expected outputs of the source classifier, {n} rows and at least 2 columns, "
            f"got shape {outputs.shape}"
        )
    if not np.isfinite(outputs).all():
        raise InputError("source: NaN or infinity in the outputs of the source classifier")
    if (outputs >= 0).all() and sum_to_one(outputs).all():
        return outputs
    outputs -= outputs.max(axis=1, keepdims=True)
    np.exp(outputs, out=outputs)
    outputs /= outputs.sum(axis=1, keepdims=True)
    return outputs


def sum_to_one(rows):
    """Which rows (N, S) sum to 1, but for rounding: (N,) bool."""
    # Half-precision probabilities of a thousand classes do so no better.
    return np.abs(rows.sum(axis=1, dtype=np.float64) - 1) < 1e-2


def missing_source(name):
    """The error that a metric on outputs raises without them."""
    return InputError(
        f"{name}: needs the source classifier's outputs on the samples: give source=, "
        "or a zoo with MODEL_DATASET_output.npy or MODEL/preds.npy"
    )
