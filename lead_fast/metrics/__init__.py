"""The registry of metrics: one file per published metric, one class each.

A metric is a class. ``Metric(labels, device=None, **options)`` checks its options and does what
depends on the labels alone; calling the instance with features returns the score, higher is better,
and ``keep=False`` tells it that no further call follows, so that it may free what it would keep.
``device`` is the name of the device it works on, and ``upper_bound`` the largest score there is, or
None. All but ``lead`` derive from :class:`lead_fast.metrics._base.Metric`, where
several of them share the work on one model's features.
"""

import importlib

from ..errors import InputError, InputTypeError

_HOME = {
    "lead": ("lead", "Lead"),
    "lead+": ("lead_plus", "LeadPlus"),
    "logme": ("logme", "LogME"),
    "parc": ("parc", "PARC"),
    "nleep": ("nleep", "NLEEP"),
    "pactran": ("pactran", "PACTran"),
    "sfda": ("sfda", "SFDA"),
    "gbc": ("gbc", "GBC"),
    "etran": ("etran", "ETran"),
    "ped": ("ped", "PED"),
    "hscore": ("hscore", "HScore"),
    "hscore_regularized": ("hscore", "HScoreRegularized"),
    "leep": ("leep", "LEEP"),
    "nce": ("nce", "NCE"),
    "transrate": ("transrate", "TransRate"),
    "knn": ("knn", "KNN"),
    "rsa": ("rsa", "RSA"),
    "dds": ("dds", "DDS"),
}


def names():
    """Return the names that ``metric=`` takes.

    Examples
    --------
    >>> import lead_fast
    >>> "lead" in lead_fast.metrics.names()
    True
    """
    return list(_HOME)


def expand(metric):
    """Names of the metrics that ``metric=`` asks for.

    Parameters
    ----------
    metric : str, or list or tuple of str
        A name, several of them, or ``"all"``.

    Returns
    -------
    list of str
    """
    if metric == "all":
        return names()
    if isinstance(metric, str) or not isinstance(metric, list | tuple):
        get(metric)
        return [metric]
    if not metric:
        raise InputError("metric: an empty list; give at least one name")
    for name in metric:
        get(name)
    if len(set(metric)) < len(metric):
        raise InputError(f"metric: a name given twice in {', '.join(metric)}")
    return list(metric)


def get(name):
    """Return the class of the metric called ``name``.

    Raises
    ------
    InputError
        If there is none, naming those that exist.
    """
    if not isinstance(name, str):
        raise InputTypeError(
            f"metric: expected a name, got {type(name).__name__}; "
            f"choose one of: {', '.join(names())}"
        )
    if name not in _HOME:
        raise InputError(f"metric: {name!r} does not exist; choose one of: {', '.join(names())}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
