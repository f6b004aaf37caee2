"""Several metrics on the same features: options to whom they belong, shared work done once."""

import dataclasses
import inspect
import time
from contextlib import nullcontext

import numpy as np

from ..errors import InputError, InputTypeError, LeadFastError
from . import get
from ._base import Metric, MultiLabels, encode_targets, is_multi_label


def route(names, options, of_all=False):
    """Give each metric the options it has.

    Parameters
    ----------
    names : list of str
    options : dict
        Each must belong to at least one of the metrics.
    of_all : bool
        Whether nobody chose these metrics. A reference, which means different things to them, is
        then for those that have no score without one, where they are among them.

    Returns
    -------
    dict {name: dict}
    """
    allowed = {name: option_names(name) for name in names}
    if options.get("reference") is not None:
        others, own = _two_meanings(names)
        if others and own and not of_all:
            raise InputError(
                f"reference: of {', '.join(own)} the same model's features on other data, of "
                f"{', '.join(others)} another model's on this; ask for them one after the other"
            )
        if others:
            for name in own:
                allowed[name] = [option for option in allowed[name] if option != "reference"]
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


def _two_meanings(names):
    """Metrics that take another model's features as reference, and those for which it is own."""
    others = [name for name in names if getattr(get(name), "reference_model", False)]
    own = [name for name in names if "reference" in getattr(get(name), "per_model", {})]
    return others, own


def option_names(name):
    """Names of the options of a metric."""
    parameters = inspect.signature(get(name)).parameters
    return [option for option in parameters if option not in ("labels", "device")]


@dataclasses.dataclass(frozen=True)
class Draws:
    """A score that is the mean over several seeds."""

    draws: tuple

    def __float__(self):
        return sum(self.draws) / len(self.draws)


class Repeated:
    """A metric by several seeds, ``seed, seed + 1, ...``.

    Parameters
    ----------
    metrics : list of Metric
        One instance for each seed.
    """

    over_zoo = False

    def __init__(self, metrics):
        self.metrics = metrics
        first = metrics[0]
        self.device, self.dtype, self.labels = first.device, first.dtype, first.labels
        self.order, self.per_model = first.order, first.per_model

    def share(self, features):
        """As of a metric."""
        return self.metrics[0].share(features)

    def __call__(self, features, keep=True, shared=None, **inputs):
        """The score by each seed: :class:`Draws`."""
        shared = self.share(features) if shared is None else shared
        return Draws(tuple(one(features, shared=shared, **inputs) for one in self.metrics))


def repeated(options, names, repeats):
    """Options by which :func:`make` draws what is random in a metric `repeats` times.

    ``lead`` does so by itself; a metric without ``seed`` has nothing to draw.
    """
    if repeats == 1:
        return options
    found = {}
    for name in names:
        option = next((o for o in ("repeats", "seed") if o in option_names(name)), None)
        found[name] = {**options[name], "repeats": repeats} if option else options[name]
    return found


@dataclasses.dataclass(frozen=True)
class Unusable:
    """Stands for a metric that could not be made, which is its outcome for every model."""

    error: LeadFastError
    device = "cpu"


# Labels that suit every metric: more than any zoo here has, as options may be limited by N.
_MADE_UP = 1 << 17


def made_up_labels():
    """Labels (N,) for checking options where those of the models are not known."""
    return np.arange(_MADE_UP) % 2


def unusable(made, device, options):
    """Why some of all metrics could not be made for these labels, if it is for these alone.

    Parameters
    ----------
    made : dict {name: metric}
        What :func:`make` made with ``raising=False`` of these options on this device.

    Returns
    -------
    dict {name: LeadFastError}

    Raises
    ------
    LeadFastError
        What is wrong with an option or the device; or with the labels, if no metric is left.
    """
    found = {name: one.error for name, one in made.items() if isinstance(one, Unusable)}
    for name, error in found.items():
        try:
            make([name], made_up_labels(), device, options)
        except LeadFastError:
            raise error from None
    if len(found) == len(made):
        raise next(iter(found.values()))
    return found


def make(names, labels, device, options, raising=True):
    """Instances of the metrics for these labels, encoded once.

    Parameters
    ----------
    names : list of str
    labels : array-like (N,) or (N, K)
    device : str or None
    options : dict {name: dict}
    raising : bool
        Else a metric that refuses its options or the labels is :class:`Unusable`.

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
        try:
            made[name] = _make_one(name, kind, mine, device, options[name])
        except LeadFastError as error:
            if raising:
                raise
            made[name] = Unusable(error)
    return made


def _make_one(name, kind, labels, device, options):
    given = dict(options)
    if "repeats" not in given or "repeats" in option_names(name):
        return kind(labels, device=device, **given)
    seed, repeats = given.get("seed", 0), given.pop("repeats")
    seeds = [{**given, "seed": (seed + draw) % 2**64} for draw in range(repeats)]
    return Repeated([kind(labels, device=device, **one) for one in seeds])


def suits(name, labels):
    """Whether a metric can be asked for these labels at all."""
    return not is_multi_label(labels) or getattr(get(name), "multi_label", False)


def score_each(metrics, features, keep=True, inputs=None, watch=None, curve=False):
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
    curve : bool
        Whether lead's results have their ``curve``.

    Returns
    -------
    dict {name: (outcome, seconds)}
        In the order of `metrics`. The outcome is the score, or what ``float`` makes the score of
        (LeadResult, Draws); a tuple of parts for a metric that scores a whole zoo; or the exception
        that it raised. Work that metrics share is in the
        seconds of the one that came first.
    """
    found, shares = {}, {}
    for name in sorted(metrics, key=lambda name: getattr(metrics[name], "order", 0)):
        metric, started = metrics[name], time.perf_counter()
        try:
            with nullcontext() if watch is None else watch(name):
                if isinstance(metric, Unusable):
                    raise metric.error
                extra = inputs(name) if inputs else {}
                if isinstance(metric, Metric | Repeated):
                    if metric.dtype not in shares:
                        shares[metric.dtype] = metric.share(features)
                    outcome = _outcome(metric, features, keep, shares[metric.dtype], extra)
                else:
                    outcome = metric.evaluate(features, keep_head=keep, curve=curve)
        except Exception as error:
            outcome = error
        found[name] = outcome, time.perf_counter() - started
    return {name: found[name] for name in metrics}


def _outcome(metric, features, keep, shared, extra):
    if metric.over_zoo:
        with shared.active():
            return metric.parts(shared)
    return metric(features, keep=keep, shared=shared, **extra)
