"""What models and their files are called."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, replace

from .._text import name_list
from ..errors import InputError

KINDS = ("timm", "torchvision", "hf")
_SPEC = re.compile(rf"(?:([^=:]+)=)?({'|'.join(KINDS)}):(.+?)(?:,weights=(.*))?", re.S)


@dataclass(frozen=True)
class Spec:
    """What names a model: ``[NAME=]KIND:MODEL[,weights=FILE]``.

    Attributes
    ----------
    kind, model : str
        The library, and what it calls the model; a folder with its whole path.
    weights : str
        The whole path of a file, or "".
    name : str
        What the model is to be called, or "".
    """

    kind: str
    model: str
    weights: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text):
        """The parts of a text, paths as they are given."""
        found = _SPEC.fullmatch(text)
        if not found:
            raise InputError(
                f"model: {text!r} is none of timm:NAME, torchvision:NAME, hf:NAME-or-path"
            )
        name, kind, model, weights = found.groups("")
        return cls(kind, model, weights, name)

    def __str__(self):
        return f"{self.kind}:{self.model}{self.weights and f',weights={self.weights}'}"

    def resolved(self):
        """The same model, whatever folder its paths are seen from."""
        local = self.kind == "hf" and os.path.isdir(self.model)
        return replace(
            self,
            model=os.path.abspath(self.model) if local else self.model,
            weights=self.weights and os.path.abspath(self.weights),
        )

    def called(self, depth=1, kind=False):
        """A name: `depth` parts of the path of the model and one less of its weights'."""
        weights = _parts(os.path.splitext(self.weights)[0])
        parts = _parts(self.model)[-depth:] + weights[max(0, len(weights) + 1 - depth) :]
        return self.name or "_".join([self.kind, *parts] if kind else parts)

    def depth(self):
        """The most that :meth:`called` can tell."""
        return max(len(_parts(self.model)), len(_parts(self.weights)) + 1)


def names_of(texts):
    """Names for the models of one command, None for a text that is no :class:`Spec`.

    A name that is one model's alone is the last part of its path. Where that would give several
    models one file, these get as much of their paths, of the names of their weights and libraries
    as tells them apart.

    Raises
    ------
    InputError
        Two models would have one file all the same.
    """
    specs = [_SPEC.fullmatch(text) and Spec.parse(text).resolved() for text in texts]
    names = {spec: spec.called() for spec in specs if spec}
    for group in _sharing(names):
        kind = len({spec.kind for spec in group}) > 1
        for depth in range(1, max(spec.depth() for spec in group) + 1):
            longer = {spec: spec.called(depth, kind) for spec in group}
            if not _sharing(longer):
                names.update(longer)
                break
    for group in _sharing(names):
        raise InputError(
            f"models: {name_list(group)} would have one file, {file_name(names[group[0]])}; "
            f"give them names, as in NAME={group[0]}"
        )
    return [names.get(spec) for spec in specs]


def file_name(name, layer=""):
    """Name of the file of a model's layer: ``NAME.safetensors`` or ``NAME@LAYER.safetensors``."""
    full = unicodedata.normalize("NFC", f"{name}@{layer}" if layer else name)
    spaced = "".join(character if _stays(character) else " " for character in full)
    return ("_".join(spaced.split()).strip("._") or "model") + ".safetensors"


def _stays(character):
    """Whether a character may be in a file's name: of words of any language, accents included."""
    known = character.isalnum() or character in "@+=._-"
    return known or unicodedata.category(character).startswith("M")


def _parts(path):
    parts = path.replace(os.sep, "/").split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _sharing(names):
    """Groups of specs whose names would give one file."""
    groups = {}
    for spec, name in names.items():
        groups.setdefault(file_name(name), []).append(spec)
    return [group for group in groups.values() if len(group) > 1]
