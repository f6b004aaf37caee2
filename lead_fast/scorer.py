"""Score features by any metric of the registry."""

import inspect

from . import metrics
from .errors import InputTypeError


class Scorer:
    """Score many feature matrices of the same samples; label-side work is done once.

    Parameters
    ----------
    labels : array-like (N,)
    metric : str
        One of ``lead_fast.metrics.names()``.
    device : {None, "cpu"}
    **options
        Of the metric; those of :func:`lead` for ``"lead"``.

    Attributes
    ----------
    metric, device : str

    Raises
    ------
    InputError, InputTypeError, DeviceError
        At construction, for a metric, option, device or labels that cannot be used.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(40) % 2
    >>> scorer = lead_fast.Scorer(y, time=2.0)
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> scorer(x) == lead_fast.score(x, y, time=2.0)
    True
    """

    def __init__(self, labels, metric="lead", device=None, **options):
        kind = metrics.get(metric)
        allowed = [p for p in inspect.signature(kind).parameters if p not in ("labels", "device")]
        for name in options:
            if name not in allowed:
                raise InputTypeError(
                    f"metric {metric!r} has no option {name!r}; it has: {', '.join(allowed)}"
                )
        self._metric = kind(labels, device=device, **options)
        self.metric = metric
        self.device = self._metric.device

    def __call__(self, features):
        """Score features (N, D): a float, higher is better."""
        return self._metric(features)


def score(features, labels, metric="lead", device=None, **options):
    """Score the features of one frozen backbone; higher is better, for every metric.

    Parameters
    ----------
    features : array-like (N, D)
    labels : array-like (N,)
    metric : str
        One of ``lead_fast.metrics.names()``.
    device : {None, "cpu"}
    **options
        Of the metric; those of :func:`lead` for ``"lead"``.

    Returns
    -------
    float

    Raises
    ------
    InputError, InputTypeError, DeviceError
        Input that cannot be used.

    See Also
    --------
    Scorer : for many feature matrices of the same samples.
    rank : for a directory of them.

    Examples
    --------
    >>> import lead_fast
    >>> lead_fast.score([[0.0, 1.0], [1.0, 0.0], [0.1, 1.0], [1.0, 0.1]], ["a", "b", "a", "b"]) < 0
    True
    """
    return Scorer(labels, metric, device, **options)._metric(features, keep=False)
