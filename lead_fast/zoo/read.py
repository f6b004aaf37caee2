"""Which models a zoo holds, and where their features and labels lie.

A zoo is a directory with, per model, any of

- ``MODEL.npz`` or ``MODEL.safetensors``, with arrays ``features`` (N, D) and ``labels`` (N,), and
  ``output`` for the metrics that look at the source classifier's outputs; how many ``parameters``
  the model has, for the report, is an integer in the one and metadata in the other;
- ``MODEL_DATASET_feature.npy`` beside ``MODEL_DATASET_label.npy`` (and ``_output.npy``), as the
  published code of SFDA, PED and ETran writes them;
- ``MODEL/features.npy`` beside ``MODEL/targets.npy`` (and ``preds.npy``), as the
  Transfer-Learning-Library writes them.

A model without labels of its own takes those of ``labels.npy`` in the zoo's directory. Features on
a reference data set, which some metrics compare with, are ``MODEL_REFERENCE_feature.npy``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from .._text import name_list
from ..errors import InputError, InputTypeError
from . import fingerprint, formats

LAYOUTS = (
    "MODEL.npz",
    "MODEL.safetensors",
    "MODEL_DATASET_feature.npy",
    "MODEL/features.npy",
)
_SHARED_LABELS = "labels.npy"
_BLANKS = " \t\r\n"  # around the labels of a text file
_FEATURE, _LABEL, _OUTPUT = "_feature.npy", "_label.npy", "_output.npy"


@dataclass(frozen=True)
class ModelFiles:
    """One model of a directory: its name and the files it lies in."""

    name: str
    features: Path  # .npy, or an archive that may hold the labels as well
    labels: Path | None  # the model's own label file, where it has one
    shared_labels: Path | None  # labels for every model that has none of its own
    output: Path | None = None  # outputs of the source classifier

    def read_features(self, empty=np.empty):
        """Features (N, D), memory-mapped where the format allows it, else in an `empty` array."""
        return formats.read_array(self.features, "features", empty)

    def parameters(self):
        """How many parameters the model has, where its file says so; else None."""
        if self.features.suffix == ".npz":
            count = formats.read_integer(self.features, "parameters")
        else:
            text = formats.read_metadata(self.features).get("parameters", "")
            count = int(text) if re.fullmatch("[0-9]{1,15}", text) else None
        return count if count is not None and count > 0 else None

    def state(self):
        """What changes whenever the file of the features does."""
        return fingerprint.file_state(self.features)

    def read_labels(self):
        """Labels (N,): the model's own, else the shared ones."""
        for path in (self.labels, self.shared_labels):
            if path is not None and (path != self.features or _has_array(path, "labels")):
                return _labels_of(path)
        raise InputError(
            f"{self.features}: no labels for it (looked for {self._wanted_labels()} and "
            f"{_SHARED_LABELS} beside the models)"
        )

    def has_output(self):
        """Whether there are outputs of the source classifier."""
        return self.output is not None and (
            self.output != self.features or _has_array(self.output, "output")
        )

    def read_output(self):
        """Outputs of the source classifier (N, S); None where there are none."""
        return formats.read_array(self.output, "output") if self.has_output() else None

    def read_reference(self, dataset):
        """Features of the model on another data set."""
        folder = self.features.parent
        if self.features.name == "features.npy":
            folder = folder.parent
        path = folder / f"{self.name}_{dataset}{_FEATURE}"
        if not os.path.exists(path):
            raise InputError(f"{path}: not there; it would hold the features on {dataset}")
        return formats.read_array(path, "features")

    def _wanted_labels(self):
        if self.features.suffix in formats.ARCHIVES:
            return "an array 'labels' in it"
        if self.features.name.endswith(_FEATURE):
            return self.features.name.removesuffix(_FEATURE) + _LABEL
        return f"{self.features.parent.name}/targets.npy"


@dataclass(frozen=True)
class ModelArray:
    """One model given as an array."""

    name: str
    features: object

    def read_features(self, empty=None):
        """The array."""
        return self.features

    def parameters(self):
        """None: an array does not say."""
        return None

    def state(self):
        """None: an array lies in no file."""
        return None

    def has_output(self):
        """Arrays come without outputs."""
        return False

    def read_output(self):
        """None: arrays come without outputs."""
        return None

    def read_reference(self, dataset):
        """Refused: an array has no file beside it."""
        raise InputError(
            f"reference: {dataset!r} names files of a directory; "
            "for a dictionary of features, give a dictionary {model: features}"
        )


@dataclass(frozen=True)
class Zoo:
    """The models of a zoo in natural order, and the array files that belong to none of them."""

    models: list
    stray: list = field(default_factory=list)
    dataset: str | None = None  # what the labels are of, where the files' names say so

    @property
    def names(self):
        """Model names, in order."""
        return [model.name for model in self.models]


def open_zoo(zoo, dataset=None):
    """The models of a zoo; no array is read yet.

    Parameters
    ----------
    zoo : path-like or mapping {name: features}
        A directory in one or several of the layouts above, or arrays by model name.
    dataset : str, optional
        Which DATASET of the ``MODEL_DATASET_feature.npy`` files to take. It may be left out when
        they all belong to one; it is then what follows the last underscore of MODEL_DATASET.

    Returns
    -------
    Zoo

    Raises
    ------
    InputError
        There is no such directory, it holds no model, two models of one name, or several data sets
        of which none was chosen.
    InputTypeError
        Neither a path nor a mapping with strings as keys.
    """
    if isinstance(zoo, Mapping):
        return _from_mapping(zoo, dataset)
    try:
        directory = Path(zoo)
    except TypeError as error:
        raise InputTypeError(
            f"a zoo is a directory or a dictionary {{name: features}}, not {type(zoo).__name__}"
        ) from error
    if not os.fspath(zoo):
        raise InputError("the zoo's directory is an empty name")  # not the current directory
    try:
        entries = sorted(
            (path for path in directory.iterdir() if not path.name.startswith(".")),
            key=lambda path: natural_key(path.name),
        )
    except NotADirectoryError as error:
        raise InputError(f"{directory}: not a directory; a zoo is a directory of models") from error
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from error

    shared = next((path for path in entries if path.name == _SHARED_LABELS), None)
    models, stray = [], []
    pairs = {}  # MODEL_DATASET: its _feature.npy
    for path in entries:
        if os.path.isdir(path):  # unlike path.is_dir(), False where access is denied
            features, labels = path / "features.npy", path / "targets.npy"
            if os.path.exists(features) or os.path.exists(labels):
                output = _if_there(path / "preds.npy")
                models.append(ModelFiles(path.name, features, _if_there(labels), shared, output))
        elif path.suffix in formats.ARCHIVES:
            models.append(ModelFiles(path.stem, path, path, shared, path))
        elif path.name.endswith(_FEATURE):
            pairs[path.name.removesuffix(_FEATURE)] = path
        elif path.suffix == ".npy" and path != shared:
            stray.append(path)
    found, dataset = _feature_files(pairs, directory, shared, dataset)
    models += found
    partners = {stem + end for stem in pairs for end in (_LABEL, _OUTPUT)}
    stray = [path for path in stray if path.name not in partners]
    if not models:
        raise _no_model(directory, entries)
    models.sort(key=lambda model: natural_key(model.name))
    _refuse_duplicates(models)
    return Zoo(models, stray, dataset)


def read_labels(path):
    """Labels from a file of their own.

    Parameters
    ----------
    path : path-like
        ``.npy``; ``.npz`` or ``.safetensors`` with an array ``labels``; or ``.txt`` with one label
        per line, which are integers if all of them can be read as such and strings otherwise. Lines
        end in a newline, before which a carriage return is ignored, as are blanks around a label.

    Returns
    -------
    ndarray

    Raises
    ------
    InputError
        The file cannot be read or has an empty line between labels.
    """
    path = Path(path)
    return _text_labels(path) if path.suffix == ".txt" else _labels_of(path)


def read_features(path):
    """Features from an ``.npy`` file, or from the array ``features`` of an archive."""
    return formats.read_array(path, "features")


def natural_key(name):
    """Sort key that puts resnet18 before resnet101; names that differ never compare equal."""
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = [(int(digits), digits) for digits in parts[1::2]]
    return parts


def _from_mapping(zoo, dataset):
    if dataset is not None:
        raise InputError("dataset= chooses among the files of a directory, not of a dictionary")
    for name in zoo:
        if not isinstance(name, str):
            raise InputTypeError(f"model names must be strings, not {type(name).__name__}")
    if not zoo:
        raise InputError("the zoo is an empty dictionary; it needs at least one {name: features}")
    return Zoo([ModelArray(name, zoo[name]) for name in sorted(zoo, key=natural_key)])


def _feature_files(pairs, directory, shared, dataset):
    """The models of the MODEL_DATASET_feature.npy layout, and their DATASET."""
    if dataset is None:
        split = {stem: stem.rpartition("_")[::2] for stem in pairs}
        datasets = sorted({data for _, data in split.values()}, key=natural_key)
        if len(datasets) > 1:
            raise InputError(
                f"{directory}: holds features of {len(datasets)} data sets "
                f"({name_list(datasets, 20)}); choose one with dataset= or --dataset"
            )
    else:
        tail = "_" + dataset
        split = {stem: (stem.removesuffix(tail), dataset) for stem in pairs if stem.endswith(tail)}
        if not split:
            there = sorted({stem.rpartition("_")[2] for stem in pairs}, key=natural_key)
            raise InputError(
                f"{directory}: no MODEL_{dataset}{_FEATURE} in it; "
                f"data sets there: {name_list(there, 20) or 'none'}"
            )
    models = []
    for stem, (model, _) in split.items():
        if not model:
            raise InputError(
                f"{pairs[stem]}: the name must be MODEL_DATASET{_FEATURE}, and one part is missing"
            )
        labels = _if_there(directory / (stem + _LABEL))
        output = _if_there(directory / (stem + _OUTPUT))
        models.append(ModelFiles(model, pairs[stem], labels, shared, output))
    return models, next(iter({data for _, data in split.values()}), None)


def _if_there(path):
    return path if os.path.exists(path) else None


def _refuse_duplicates(models):
    for one, other in pairwise(models):
        if one.name == other.name:
            raise InputError(
                f"two models are called {one.name}: {one.features} and {other.features}; "
                "rename or remove one"
            )


def _no_model(directory, entries):
    hint = ""
    if any(path.name == "features.npy" for path in entries):
        hint = "; it looks like the directory of one model: give the one above it"
    elif folders := [path.name for path in entries if os.path.isdir(path)]:
        hint = f"; its folders ({name_list(folders)}) are not searched for zoos"
    return InputError(f"{directory}: no model in it; looked for {', '.join(LAYOUTS)}{hint}")


def _has_array(path, name):
    return name in formats.array_names(path)


def _labels_of(path):
    labels = formats.read_array(path, "labels")
    if not isinstance(labels, np.ndarray):
        raise InputError(
            f"{path}: labels of dtype {labels.dtype}; they must be integers or strings"
        )
    return np.array(labels)  # small, so that no file stays open for it


def _text_labels(path):
    try:
        text = path.read_bytes().decode("utf-8-sig").rstrip(_BLANKS)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8") from error
    # Characters that str.splitlines() and str.strip() take away as well may belong to a label.
    lines = [line.strip(_BLANKS) for line in text.split("\n")] if text else []
    if "" in lines:
        raise InputError(f"{path}: line {lines.index('') + 1} is empty; one label per line")
    if lines and all(re.fullmatch(r"[+-]?[0-9]{1,18}", line) for line in lines):
        return np.array(lines, dtype=np.int64)
    return np.array(lines, dtype=str)
