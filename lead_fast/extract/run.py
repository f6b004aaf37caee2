"""Run a model over images and keep its features."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from dataclasses import dataclass, field

import numpy as np

from .._text import one_line, printable
from .._version import __version__
from ..errors import InputError
from .batches import batches, in_order, loader_of
from .files import (
    label_numbers,
    matches,
    module_fingerprint,
    refuse_other,
    weights_fingerprint,
    write,
)
from .images import Folder
from .names import Spec, file_name
from .passes import Pass
from .setting import Setting
from .sources import open_model
from .taps import Taps

_LONGEST = 230  # bytes of a file's name; 255 with what is added until it is whole


@dataclass
class Extracted:
    """What :func:`extract` made of one model.

    Attributes
    ----------
    features : dict {layer: ndarray (N, D)}
        With the one key "" if no layers were asked for, or these side by side.
    labels : ndarray (N,)
        As the data have them.
    logits : ndarray (N, S) float32 or None
    images_per_second : float
        Decoding included, loading of the model not; 0 if everything was there already.
    batch_size : int
        Images that the model was given at a time in the end.
    paths : list of Path
        The files, if `out` was given; in the order of the layers.
    skipped : bool
        Whether the files were there already, of the same data, model and options. The arrays are
        then empty.
    layers : list of str
        Those whose outputs `features` has; "" for what the model gives otherwise.
    """

    features: dict = field(default_factory=dict)
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    logits: np.ndarray | None = None
    images_per_second: float = 0.0
    batch_size: int = 0
    paths: list = field(default_factory=list)
    skipped: bool = False
    layers: list = field(default_factory=list)


def extract(
    model, data, out=None, *, name=None, layers=None, join=False, logits=False, device=None,
    precision="float32", dtype="float16", batch_size=64, workers=0, transform=None, progress=None,
):  # fmt: skip
    """Features of every image by a frozen model, ready to be ranked.

    Parameters
    ----------
    model : torch.nn.Module or str
        A module; or ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME-or-path``, the first two also
        with ``,weights=FILE`` (safetensors, or what ``torch.load`` reads without running code), and
        each also as ``NAME=timm:...`` to be called NAME.
    data : path-like, torch Dataset or DataLoader
        A folder with one directory of images per class, a data set that Hugging Face's
        ``save_to_disk`` wrote, or what gives pairs of image and label (batches of them, in a
        DataLoader, which must keep one order for all models). Batches may be dictionaries with
        ``pixel_values`` and ``labels``.
    out : path-like, optional
        A directory, made where it is missing, that gets ``NAME.safetensors`` (of several layers
        ``NAME@LAYER.safetensors``) with ``features``, ``labels`` and, with `logits`, ``output``.
        Labels that are strings are written as their places among the sorted names, which are in
        the metadata as ``classes``. Files appear complete or not at all; what is there already and
        made of the same data, model and options is kept, see Notes.
    name : str, optional
        Of the model; by default that of its class, or the last part of `model`. A file of that name
        is replaced if it was made from this model, of other weights or options; if it says that it
        was made from another one, that is an error. A module is known by its name alone, so give
        each of several a name.
    layers : list of str, optional
        Layers whose outputs are the features, as ``module.named_modules()`` calls them, all in one
        pass. By default the model's pooled output, or what goes into its classifier if it comes
        with one (timm, torchvision) or `logits` is set; see Notes.
    join : bool, default False
        Whether the features of an image are the outputs of several layers side by side, one row of
        the zoo: of `layers`, or by default of at most four hidden layers, found evenly among the
        model's blocks before the last one. ``"lead+"`` ranks better by them, see Notes.
    logits : bool, default False
        Whether to keep the output of the classifier, which leep and nce need.
    device : str, optional
        As torch calls it; by default a GPU if there is one.
    precision : {"float32", "float16", "bfloat16"}
        In which the model computes, by torch's autocast.
    dtype : {"float16", "float32"}
        Of the features. Values beyond float16 are refused, not made infinite.
    batch_size : int
        Images at a time; halved when memory does not suffice, and kept so.
    workers : int
        Processes that decode images of a folder or Dataset.
    transform : callable, optional
        From an RGB image of PIL to a tensor, in place of the model's own preparation; for folders.
    progress : bool, optional
        Whether to show a bar of images on stderr; by default if that is a terminal.

    Returns
    -------
    Extracted

    Raises
    ------
    InputError
        A name, a file or an option that cannot be used; a library that is missing, with the command
        that installs it; features that are not finite; whatever the data or the model raise, with
        that as its cause.

    Notes
    -----
    Outputs of shape (B, C, H, W) are averaged over places, as are square maps (B, H, W, C), and
    (B, T, C) over tokens. A model of Transformers gives its ``pooler_output``, unless its
    checkpoint has no weights for that; one of images and texts, as CLIP, what its
    ``get_image_features`` gives; a masked autoencoder sees whole images.

    What goes into the classifier is, of timm's models, what ``forward_head(..., pre_logits=True)``
    gives (the output of those without a classifier); else the input of the linear layer, or 1 x 1
    convolution, whose output is the model's, perhaps after a ReLU or soft-max.

    Two of the images are looked at twice more, and a model that gives other features each time is
    warned of.

    The last layer's features are made for what a model was trained on; how well the layers below
    suit new images says more of how well it can be fine-tuned. ``bench/RANKING.md`` has what `join`
    is worth. A block is a child of the model, or of what in it is only a container; a convolution
    or linear layer is one together with the norm and activation after it.

    A file is kept if it is complete and says that it was made of the same images (a folder's names,
    sizes and times of modification), weights, printed module, layers, `precision`, `dtype`,
    `logits` and preparation. A Dataset and a `transform` say what they are by an attribute
    ``fingerprint``, a string that changes with what they give; without it nothing is kept. An
    edited ``forward`` that shows neither in the weights nor in the printed module cannot be
    noticed: remove the file.

    A module is left in evaluation mode and on `device`.

    Memory: the features of all images in `dtype`.

    Examples
    --------
    >>> import lead_fast, torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> images = [(torch.rand(3, 16, 16), i % 2) for i in range(10)]
    >>> found = lead_fast.extract(model, images, layers=["0", "1"])
    >>> {layer: x.shape for layer, x in found.features.items()}
    {'0': (10, 8), '1': (10, 8)}
    """
    setting = Setting.checked(data, out, device, precision, dtype, batch_size, workers)
    return extract_model(model, setting, name, layers, join, logits, transform, progress)


def extract_model(
    model, setting, name=None, layers=None, join=False, logits=False, transform=None, progress=None
):
    """What :func:`extract` does, of a :class:`Setting` that several models share."""
    source = open_model(model, logits, name)
    layers = [layers] if isinstance(layers, str) else layers
    classified = logits or (source.classifier and not layers)
    taps = Taps(source.module, layers, classified, join, source.forward, source.kind)
    data, preprocessing = _prepared(setting.data, transform, source)
    pin_memory = setting.device.type == "cuda"
    loader = loader_of(data, setting.batch_size, setting.workers, pin_memory)
    fingerprint = _mark(loader.dataset)
    known = {
        "data": fingerprint, "weights": weights_fingerprint(source.module),
        "module": module_fingerprint(source.module, source.settings), "dtype": setting.dtype,
        "logits": str(logits), "precision": setting.precision, "preprocessing": preprocessing,
    }  # fmt: skip
    paths = {}
    if setting.out is not None:
        paths = _paths(setting.out, source.name, taps.kinds)
        described = fingerprint and preprocessing  # else nobody can say whether they are the same
        if described and all(
            path.exists() and matches(path, {**known, "layer": taps.kinds[layer]})
            for layer, path in paths.items()
        ):
            return Extracted(paths=list(paths.values()), skipped=True)
        for layer, path in paths.items():
            refuse_other(path, known, _origins(model, source), layer)
    _move(source, setting.device)
    found = Pass(source.name, taps, setting, logits)
    started = time.perf_counter()
    for images, labels in _bar(loader, source.name, progress):
        found.add(images, labels)
    features, labels, kept = found.arrays()
    seconds = time.perf_counter() - started
    for layer, path in paths.items():
        numbers, classes = label_numbers(labels)
        arrays = {"features": features[layer], "labels": numbers}
        if kept is not None:
            arrays["output"] = kept
        about = _about(source, model, len(labels) / seconds)
        metadata = {**known, **classes, "layer": taps.kinds[layer], **about}
        if join:
            metadata["layers"] = ",".join(taps.layers)
        write(path, arrays, metadata)
    return Extracted(
        features, labels, kept, len(labels) / seconds, found.size, list(paths.values()),
        layers=taps.layers,
    )  # fmt: skip


def _bar(loader, name, progress):
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        yield from batches(loader)
        return
    from tqdm import tqdm

    total = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    with tqdm(total=total, desc=name, unit="image", file=sys.stderr, leave=False) as bar:
        for images, labels in batches(loader):
            yield images, labels
            bar.update(len(labels))


def _prepared(data, transform, source):
    """Data as the model is to see them, and what says how; "" where nobody can say."""
    if hasattr(data, "batch_sampler"):  # a loader, whose data prepare images by themselves
        if not in_order(data):
            return data, ""
        folder = isinstance(data.dataset, Folder)
        return data, _given(data.dataset.transform) if folder else source.preprocessing
    if not isinstance(data, Folder):
        return data, source.preprocessing
    given = data.transform if transform is None else transform
    if given is None:
        return data.prepared(source.transform), source.preprocessing
    return data.prepared(given), _given(given)


def _given(transform):
    """What says how the caller's transform prepares images; "" if it does not."""
    if transform is None:
        return "by default"
    mark = _mark(transform)
    return mark and f"given {mark}"


def _mark(thing):
    """The text of an attribute ``fingerprint``, "" where there is none."""
    mark = getattr(thing, "fingerprint", None)
    return "" if mark is None else str(mark)


def _paths(out, name, layers):
    """The file of each layer."""
    paths = {}
    for layer in layers:
        path = out / file_name(name, layer)
        if len(os.fsencode(path.name)) > _LONGEST:
            raise InputError(f"name: {path.name[:40]}... is too long for a file; give another")
        shared = [other for other in paths if paths[other] == path]
        if shared:
            raise InputError(
                f"layers: {shared[0]} and {layer} would have one file, {path.name}; "
                "take them one at a time, each with an out of its own"
            )
        paths[layer] = path
    return paths


def _origins(model, source):
    """What tells a model from others of its name: where it is from; a module's name alone.

    Files of former versions have paths as they were given.
    """
    if not isinstance(model, str):
        return (printable(source.name),)
    spec = Spec.parse(model)
    return printable(spec.resolved()), printable(spec)


def _move(source, device):
    try:
        source.module.to(device)
    except Exception as error:  # memory, above all
        text = one_line(error)[:300]
        raise InputError(f"{source.name}: cannot be moved to {device} ({text})") from error


def _about(source, model, rate):
    """What is written beside what must match, for people and for the report."""
    versions = {"lead_fast": __version__}
    for library in ("torch", "timm", "torchvision", "transformers"):
        if library in sys.modules:
            versions[library] = importlib.metadata.version(library)
    return {
        "model": _origins(model, source)[0],
        "parameters": str(sum(p.numel() for p in source.module.parameters())),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "images_per_second": f"{rate:.1f}",
    }
