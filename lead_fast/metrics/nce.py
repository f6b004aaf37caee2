"""NCE: the negative conditional entropy of the labels given the source classifier's classes."""

from typing import ClassVar

import numpy as np

from ..device import to_host
from ..errors import InputError
from ..features import real_array
from ..labels import encode
from ._base import Metric, warn
from .leep import missing_source


class NCE(Metric):
    r"""Minus the entropy of the labels given the source class that is predicted.

    .. math:: \sum_{y, z} p(y, z) \log \frac{p(y, z)}{p(z)}

    Parameters
    ----------
    labels : array-like (N,)
    source : array-like (N,) or (N, S), optional
        The source class predicted for each sample, or outputs of the source classifier, of which
        the largest counts. Needed unless each call brings its own; a zoo has outputs in
        ``MODEL_DATASET_output.npy`` or ``MODEL/preds.npy``.
    dtype : {"float32", "float64"}
        Without effect: counts are exact.
    device : {None, "cpu", "cuda", "cuda:N"}

    Raises
    ------
    InputError
        No source classes, or not N of them.

    Warns
    -----
    ScoreWarning
        As many source classes are predicted as would tell most samples apart.

    Notes
    -----
    At most 0. Time: N log N; the features count for nothing but their number. Memory: some N
    integers. With one sample in every class the score is minus the logarithm of the source classes'
    sizes, averaged.

    References
    ----------
    Tran, Nguyen, Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV
    2019, Eq. 12.

    Examples
    --------
    >>> import lead_fast
    >>> x, labels = [[0.0]] * 8, [0, 0, 0, 0, 1, 1, 1, 1]
    >>> round(lead_fast.score(x, labels, "nce", source=[5, 5, 5, 5, 7, 7, 7, 5]), 3)
    -0.313
    """

    name = "nce"
    upper_bound = 0.0
    per_model: ClassVar[dict] = {"source": "output"}
    needs = ("source",)

    def __init__(self, labels, *, source=None, dtype="float32", device=None):
        super().__init__(labels, device, dtype)
        self.source = None if source is None else _classes(source, self.labels.n)

    def evaluate(self, shared, source=None):
        """The score from one model's predicted source classes."""
        predicted = self.source if source is None else _classes(source, shared.n)
        if predicted is None:
            raise missing_source(self.name)
        return negative_conditional_entropy(predicted, shared.labels)


def negative_conditional_entropy(predicted, labels):
    """``sum p(y, z) log p(y | z)`` of two sets of class numbers."""
    pairs, counts = np.unique(
        predicted.codes.astype(np.int64) * labels.n_classes + labels.codes, return_counts=True
    )
    if len(pairs) > 0.5 * labels.n:
        warn(
            f"{len(pairs)} pairs of source class and label among {labels.n} samples: "
            "too few samples to estimate an entropy"
        )
    marginal = np.bincount(predicted.codes)[pairs // labels.n_classes]
    return float((counts * np.log(counts / marginal)).sum() / labels.n)


def _classes(source, n):
    source = to_host(source, "source")
    if getattr(source, "ndim", 1) != 2:
        return encode(source, n=n, fewest=1)
    outputs = real_array(source, "source")
    if outputs.shape[0] != n or outputs.shape[1] < 2:
        raise InputError(
            f"source: expected {n} predicted classes, or outputs of {n} rows and at least 2 "
            f"columns, got shape {outputs.shape}"
        )
    if not np.isfinite(outputs).all():
        raise InputError("source: NaN or infinity in the outputs of the source classifier")
    return encode(outputs.argmax(axis=1), fewest=1)
