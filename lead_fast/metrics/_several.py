"""Several metrics on the same features: options to whom they belong, shared work done once."""

import inspect
import time
from contextlib import nullcontext

from ..errors import InputTypeError
from . import get
from ._base import Metric, MultiLabels, encode_targets, is_multi_label


def route(names, options):
    """Give each metric the options it has.

    Parameters
    ----------
    names : list of str
    options : dict
        Each must belong to at least one of the metrics.

    Returns
    -------
    dict {name: dict}
    """
    allowed = {name: option_names(name) for name in names}
    for option in options:
        if not any(option in found for found in allowed.values()):
            if len(names) == 1:
                raise InputTypeError(
                    f"metric {names[0]!r} has no option {option!r}; "
                    f"it has: {', '.join(allowed[names[0]])}"
                )
            raise InputTypeError(f"none of the metrics has an option {option!r}")
    return {
        name: {option: value for option, value in options.items() if option in allowed[name]}
        for name in names
    }


def option_names(name):
    """Names of the options of a metric."""
    parameters = inspect.signature(get(name)).parameters
    return [option for option in parameters if option not in ("labels", "device")]


def make(names, labels, device, options):
    """Instances of the metrics for these labels, encoded once.

    Parameters
    ----------
    names : list of str
    labels : array-like (N,) or (N, K)
    device : str or None
    options : dict {name: dict}

    Returns
    -------
    dict {name: metric}
    """
    encoded = labels
    if len(names) > 1:
        encoded = encode_targets(labels, "", multi_label=True)
    made = {}
    for name in names:
        kind = get(name)
        ours = isinstance(kind, type) and issubclass(kind, Metric)
        mine = labels if isinstance(encoded, MultiLabels) and not ours else encoded
        made[name] = kind(mine, device=device, **options[name])
    return made


def suits(name, labels):
    """Whether a metric can be asked for these labels at all."""
    return not is_multi_label(labels) or getattr(get(name), "multi_label", False)


def score_each(metrics, features, keep=True, inputs=None, watch=None):
    """Score features by several metrics.

    Parameters
    ----------
    metrics : dict {name: metric}
        Instances for the same labels.
    features : array-like (N, D)
    keep : bool
        Whether further calls follow.
    inputs : callable, optional
        From the name of a metric to what it takes beside these features, a dict.
    watch : callable, optional
        From the name of a metric to a context manager around its work.

    Returns
    -------
    dict {name: (outcome, seconds)}
        In the order of `metrics`. The outcome is the score, a tuple of parts for a metric that
        scores a whole zoo, or the exception that it raised. Work that metrics share is in the
        seconds of the one that came first.
    """
    found, shares = {}, {}
    for name in sorted(metrics, key=lambda name: getattr(metrics[name], "order", 0)):
        metric, started = metrics[name], time.perf_counter()
        try:
            with nullcontext() if watch is None else watch(name):
                extra = inputs(name) if inputs else {}
                if isinstance(metric, Metric):
                    if metric.dtype not in shares:
                        shares[metric.dtype] = metric.share(features)
                    outcome = _outcome(metric, features, keep, shares[metric.dtype], extra)
                else:
                    outcome = float(metric(features, keep=keep))
        except Exception as error:
            outcome = error
        found[name] = outcome, time.perf_counter() - started
    return {name: found[name] for name in metrics}


def _outcome(metric, features, keep, shared, extra):
    if metric.over_zoo:
        with shared.active():
            return metric.parts(shared)
    return metric(features, keep=keep, shared=shared, **extra)
