"""What every metric has in common: labels, precision, features, and what it may say of a score.

A metric is a class derived from :class:`Metric`. Its ``__init__`` names its options, does what
depends on the labels alone, and its ``evaluate(shared, **inputs)`` turns one model's
:class:`~lead_fast.metrics._shared.Shared` into a score.
"""

import math
from typing import ClassVar

import numpy as np

from .. import backend
from .._caller import warn_caller
from ..device import resolve, to_host
from ..errors import InputError, InputTypeError, SaturationWarning, ScoreWarning
from ..labels import Labels, encode
from ..options import choice

DTYPES = ("float32", "float64")


class MultiLabels:
    """Several labels per sample.

    Attributes
    ----------
    matrix : ndarray (N, K) float64
        1 where sample i has label k, else 0.
    """

    def __init__(self, matrix):
        self.matrix = matrix

    @property
    def n(self):
        """Samples, N."""
        return self.matrix.shape[0]

    @property
    def n_classes(self):
        """Labels a sample may have, K."""
        return self.matrix.shape[1]


def is_multi_label(labels):
    """Whether labels are a matrix of several per sample."""
    if isinstance(labels, list | tuple) and len(labels) > 0:
        return all(isinstance(row, list | tuple) for row in labels)
    return isinstance(labels, MultiLabels) or getattr(labels, "ndim", 1) == 2


def encode_targets(labels, metric, multi_label):
    """Labels as :class:`~lead_fast.labels.Labels`, or (N, K) of 0/1 as :class:`MultiLabels`.

    Parameters
    ----------
    labels : array-like (N,) or (N, K), Labels or MultiLabels
    metric : str
        What to call the metric in messages.
    multi_label : bool
        Whether its definition allows several labels per sample.
    """
    if is_multi_label(labels):
        if not multi_label:
            raise InputError(
                f"labels: {metric} is defined for one label per sample, "
                "not for a matrix of several; give one class number for each"
            )
        return labels if isinstance(labels, MultiLabels) else _multi_labels(labels)
    return encode(labels)


def _multi_labels(labels):
    labels = to_host(labels, "labels")
    if type(labels).__module__.split(".")[0] == "torch":
        labels = labels.detach().cpu().numpy()
    try:
        matrix = np.asarray(labels)
        matrix = matrix.astype(np.float64) if matrix.dtype.kind in "fiub" else None
    except (TypeError, ValueError) as error:
        raise InputTypeError("labels: not a matrix of 0 and 1") from error
    if matrix is None or not ((matrix == 0) | (matrix == 1)).all():
        raise InputTypeError("labels: a matrix of labels holds only 0 and 1")
    if 0 in matrix.shape:
        raise InputError(f"labels: empty, shape {matrix.shape}")
    return MultiLabels(matrix)


class Metric:
    """Base of the metrics.

    Parameters
    ----------
    labels : array-like (N,), or (N, K) of 0/1 where `multi_label` is set
    device : {None, "cpu", "cuda", "cuda:N"}
        None: where the features are. On a GPU the work is CuPy's, on the caller's stream.
    dtype : {"float32", "float64"}
        Of the products with the features; everything of size D x D and K x D is float64 anyway. For
        features that are too small for float32, or too far from 0, it is float64 in any case, see
        :class:`~lead_fast.metrics._shared.Shared`.

    Attributes
    ----------
    name : str
        As in the registry.
    upper_bound : float or None
        The largest score there is.
    multi_label : bool
        Whether labels may be a matrix.
    per_model : dict {option: role}
        Options that differ from model to model, and where a zoo has them: ``"output"``
        (``MODEL_DATASET_output.npy``, ``MODEL/preds.npy``) or ``"reference"``
        (``MODEL_REFERENCE_feature.npy`` of the data set that ``reference=`` names). They may be
        given to the constructor for one model, and to each call.
    reference_model : bool
        Whether the option ``reference`` is the features (N, D') of another model on the same
        samples, the same for all models; a zoo takes it from the model of that name.
    needs : tuple of str
        Options without which there is no score; ``metric="all"`` leaves such a metric out where
        they are not given.
    order : int
        Metrics of lower order are computed first, those whose work the others can use.
    over_zoo : bool
        Whether scores exist only beside those of other models. Such a class has
        ``parts(shared) -> tuple of float`` for one model and
        ``combine(list of tuples) -> list of float`` for all.
    """

    name = ""
    upper_bound = None
    multi_label = False
    per_model: ClassVar[dict] = {}
    reference_model = False
    needs = ()
    order = 0
    over_zoo = False

    def __init__(self, labels, device=None, dtype="float32"):
        self.device = backend.check_device(device)
        self._device = device if device is None else self.device
        self.dtype = np.dtype(choice("dtype", dtype, DTYPES))
        self.labels = encode_targets(labels, self.name, self.multi_label)

    def __call__(self, features, keep=True, shared=None, **inputs):
        """Score features (N, D): a float, higher is better.

        Parameters
        ----------
        features : array-like (N, D)
            Not looked at if `shared` is given.
        keep : bool
            Whether further calls follow.
        shared : Shared, optional
            Work on the same features that other metrics have done.
        **inputs
            What `per_model` names, for these features.
        """
        if shared is None:
            shared = self.share(features)
        for name in inputs:
            if name not in self.per_model:
                raise InputTypeError(f"metric {self.name!r} takes no {name!r} with its features")
        with shared.active():
            score = float(self.evaluate(shared, **inputs))
        if not math.isfinite(score):
            raise InputError(f"{self.name}: the score is {score}; rescale the features")
        return score

    def share(self, features):
        """What metrics need of these features, computed when it is first asked for."""
        from ._shared import Shared

        place = resolve(self._device, features)
        if place is None:
            return Shared(to_host(features, "features"), self.labels, self.dtype)
        from ._arrays import share_on

        return share_on(place, features, self.labels, self.dtype)

    def evaluate(self, shared, **inputs):
        """The score from one model's :class:`Shared`."""
        raise NotImplementedError


def warn(message):
    """Warn that a score cannot discriminate."""
    warn_caller(message, ScoreWarning)


def warn_saturated(message):
    """Warn that a score has reached its bound."""
    warn_caller(message, SaturationWarning)


__all__ = [
    "DTYPES",
    "Labels",
    "Metric",
    "MultiLabels",
    "encode_targets",
    "is_multi_label",
    "warn",
    "warn_saturated",
]
