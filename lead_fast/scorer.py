"""Score features by any metric of the registry, or by several at once."""

from . import metrics
from ._caller import warn_caller
from .errors import InputError, InputTypeError, LeadFastError, ScoreWarning
from .metrics import _several


class Scorer:
    """Score many feature matrices of the same samples; label-side work is done once.

    Parameters
    ----------
    labels : array-like (N,), or (N, K) of 0/1 for the metrics that allow several labels
    metric : str, list of str
        One of ``lead_fast.metrics.names()``, several of them, or ``"all"``: those that can be
        computed from what is given, and a ScoreWarning says why any other is left out.
    device : {None, "cpu", "cuda", "cuda:N"}
        None: where the features are.
    **options
        Of the metric; those of :func:`lead` for ``"lead"``. Of several metrics, each takes the
        options that it has.

    Attributes
    ----------
    metric : str or list of str
    device : str

    Raises
    ------
    InputError, InputTypeError, DeviceError
        At construction, for a metric, option, device or labels that cannot be used.

    Notes
    -----
    What several metrics need of the features, such as sums of outer products, is computed once.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(40) % 2
    >>> scorer = lead_fast.Scorer(y, time=2.0)
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> scorer(x) == lead_fast.score(x, y, time=2.0)
    True
    >>> list(lead_fast.Scorer(y, ["logme", "knn"])(x))
    ['logme', 'knn']
    """

    def __init__(self, labels, metric="lead", device=None, **options):
        names, self._all = metrics.expand(metric), metric == "all"
        if self._all:
            names = [name for name in names if _computable(name, labels, options)]
        self._single = not self._all and isinstance(metric, str)
        for name in [] if self._single else names:
            if _over_zoo(name):
                raise InputError(
                    f"{name}: its parts are scaled over a zoo, so one model has no score; use rank"
                )
        routed = _several.route(names, options, self._all)
        made = _several.make(names, labels, device, routed, raising=not self._all)
        left_out = _several.unusable(made, device, routed)
        _say_left_out(left_out)
        self._metrics = {name: one for name, one in made.items() if name not in left_out}
        self._metric = next(iter(self._metrics.values()))
        self.metric = metric if self._single else list(self._metrics)
        self.device = self._metric.device

    def __call__(self, features, *, keep=True, **inputs):
        """Score features (N, D).

        Parameters
        ----------
        features : array-like (N, D)
        keep : bool
            Whether further calls follow.
        **inputs
            What a metric takes beside each model's features, as ``source`` for ``"leep"``.

        Returns
        -------
        float, or dict {metric: float} of several metrics
            Higher is better.
        """
        if self._single:
            return self._metric(features, keep=keep, **inputs)

        taken = {name: getattr(one, "per_model", ()) for name, one in self._metrics.items()}
        for key in inputs:
            if not any(key in keys for keys in taken.values()):
                raise InputTypeError(f"none of the metrics takes {key!r} with its features")

        def of(name):
            return {key: value for key, value in inputs.items() if key in taken[name]}

        outcomes = _several.score_each(self._metrics, features, keep, of)
        failed = {name: one for name, (one, _) in outcomes.items() if isinstance(one, Exception)}
        if failed and (len(failed) == len(outcomes) or not self._all):
            raise next(iter(failed.values()))
        for error in failed.values():
            if not isinstance(error, LeadFastError):
                raise error
        _say_left_out(failed)
        return {name: float(one) for name, (one, _) in outcomes.items() if name not in failed}


def _say_left_out(errors):
    for name, error in errors.items():
        text = str(error)
        shown = text if text.startswith(f"{name}: ") else f"{name}: {text}"
        warn_caller(f"left out: {shown}", ScoreWarning)


def _computable(name, labels, options):
    """Whether ``metric="all"`` includes a metric, for one model."""
    if _over_zoo(name) or not _several.suits(name, labels):
        return False
    return all(option in options for option in getattr(metrics.get(name), "needs", ()))


def _over_zoo(name):
    return getattr(metrics.get(name), "over_zoo", False)


def score(features, labels, metric="lead", device=None, **options):
    """Score the features of one frozen backbone; higher is better, for every metric.

    Parameters
    ----------
    features : array-like (N, D)
    labels : array-like (N,), or (N, K) of 0/1 for the metrics that allow several labels
    metric : str, list of str
        One of ``lead_fast.metrics.names()``, several of them, or ``"all"``: those that can be
        computed from what is given, and a ScoreWarning says why any other is left out.
    device : {None, "cpu", "cuda", "cuda:N"}
        None: where the features are.
    **options
        Of the metric; those of :func:`lead` for ``"lead"``. Of several metrics, each takes the
        options that it has.

    Returns
    -------
    float, or dict {metric: float} of several metrics

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
    return Scorer(labels, metric, device, **options)(features, keep=False)
