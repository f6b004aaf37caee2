"""What metrics take beside features and labels, found for each model of a zoo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from .. import metrics
from .._text import name_list
from ..errors import InputError, LeadFastError
from . import formats


class Inputs:
    """Options of metrics, parted into those of a constructor and those of each model.

    Parameters
    ----------
    zoo : Zoo
    names : list of str
        Metrics.
    options : dict {name: dict}
        The options given for each metric. One that differs from model to model is a dictionary
        ``{model: array}``; for a reference also the name of a data set of the zoo, or another zoo.

    Attributes
    ----------
    options : dict {name: dict}
        What is left for the constructors.
    """

    def __init__(self, zoo, names, options):
        self.options = {name: dict(options[name]) for name in names}
        self._binders = {name: {} for name in names}
        for name in names:
            kind = metrics.get(name)
            for option, role in getattr(kind, "per_model", {}).items():
                given = self.options[name].pop(option, None)
                self._binders[name][option] = _binder(zoo, name, option, role, given)
            if getattr(kind, "reference_model", False):
                given = self.options[name].get("reference")
                if isinstance(given, str | os.PathLike):
                    self.options[name]["reference"] = _model_features(zoo, name, given)

    @property
    def bind_samples(self):
        """Whether options hold arrays of as many rows as there are samples."""
        return any("reference" in options for options in self.options.values())

    def of(self, model, name):
        """Inputs of a metric for a model: ``{option: array}``, those that there are."""
        return read_inputs(self.readers(model)[name])

    def readers(self, model):
        """``{metric: {option: callable}}`` for a model alone, which another process can be sent."""
        return {
            name: {option: bind(model) for option, bind in binders.items()}
            for name, binders in self._binders.items()
        }


def read_inputs(readers):
    """``{option: array}`` of what the readers of a metric find."""
    found = {option: read() for option, read in readers.items()}
    return {option: value for option, value in found.items() if value is not None}


def computable(zoo, name, options):
    """Whether ``metric="all"`` includes a metric: what it needs is given, or in the zoo."""
    kind = metrics.get(name)
    for option in getattr(kind, "needs", ()):
        if option in options:
            if getattr(kind, "reference_model", False) and not _one_model(zoo, options[option]):
                return False
        elif getattr(kind, "per_model", {}).get(option) != "output" or not any(
            _has_output(model) for model in zoo.models
        ):
            return False
    return True


def _one_model(zoo, reference):
    """Whether a reference can be the features of another model, for metrics that compare two."""
    if isinstance(reference, str | os.PathLike):
        return any(model.name == reference for model in zoo.models) or _features_file(reference)
    return not isinstance(reference, Mapping)


def _features_file(path):
    return os.path.splitext(os.fspath(path))[1] in formats.SUFFIXES and os.path.exists(path)


def _has_output(model):
    try:
        return model.has_output()
    except LeadFastError:
        return False  # nothing of this file can be read, which scoring will say


def _binder(zoo, name, option, role, given):
    """From a model to the callable that reads its value of the option."""
    if isinstance(given, Mapping):
        missing = [model for model in zoo.names if model not in given]
        if missing:
            raise InputError(f"{option}: nothing for {name_list(missing)}")
        return lambda model: partial(_same, given[model.name])
    if role == "output":
        if given is not None:
            raise InputError(
                f"{option}: for a zoo, give a dictionary {{model: outputs}}, or leave it out where "
                "the zoo has MODEL_DATASET_output.npy or MODEL/preds.npy"
            )
        return lambda model: model.read_output
    if given is None:
        return lambda model: partial(_same, None)
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"{option}: for a zoo, give a dictionary {{model: features}}, the name of a data set "
            f"of the zoo, or a directory of the same models, so that {name} has one for each"
        )
    if os.path.isdir(given):
        from .read import open_zoo

        there = {model.name: model for model in open_zoo(given).models}
        missing = [model for model in zoo.names if model not in there]
        if missing:
            raise InputError(f"{option}: {os.fspath(given)} has no {name_list(missing)}")
        return lambda model: there[model.name].read_features
    return lambda model: partial(model.read_reference, os.fspath(given))


def _same(value):
    return value


def _model_features(zoo, name, given):
    for model in zoo.models:
        if model.name == given:
            return model.read_features()
    if _features_file(given):
        return formats.read_array(given, "features")
    raise InputError(
        f"reference: {os.fspath(given)} is neither a model of the zoo nor a file of features, "
        f"which {name} compares with"
    )
