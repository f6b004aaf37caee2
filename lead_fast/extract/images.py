"""Data sets of images: a folder with one directory per class, or one of Hugging Face on disk."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import stat
from pathlib import Path

import numpy as np

from .._optional import need
from .._text import name_list, one_line
from ..errors import InputError
from ..zoo.read import natural_key

_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".gif", ".tif", ".tiff", ".tga",
    ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".avif",
)  # fmt: skip
_SAVED = ("info", "dict")  # what save_to_disk writes of a data set, and of several
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def default_transform(image, size=224):
    """The usual preparation: shorter side to 256/224 of `size`, centre crop, ImageNet's moments.

    Parameters
    ----------
    image : PIL.Image.Image
    size : int
        Of the crop, in pixels.

    Returns
    -------
    torch.Tensor (3, size, size) float32
    """
    torch = need("torch", "extracting features")
    bicubic = need("PIL.Image", "reading images").Resampling.BICUBIC
    width, height = image.size
    scale = size * 256 / 224 / min(width, height)
    image = image.resize((max(size, round(width * scale)), max(size, round(height * scale))),
                         bicubic)  # fmt: skip
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
    pixels = (pixels - np.float32(_MEAN)) / np.float32(_STD)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def rgb(image):
    """An image of PIL, of whatever kind, in colours of 8 bits.

    Pillow's own conversion cuts off what is above 255.

    Raises
    ------
    ValueError
        Numbers whose range nobody knows.
    """
    numbers = np.asarray(image) if image.mode.startswith(("I", "F")) else None
    if numbers is None:
        return image.convert("RGB")
    if image.mode == "F" or numbers.min(initial=0) < 0 or numbers.max(initial=0) > 65535:
        raise ValueError(f"pixels of mode {image.mode}: save images of 8 or 16 bits")
    if image.mode != "I" or numbers.max(initial=0) > 255:  # wide numbers may hold 8 bits
        numbers = numbers >> 8
    return need("PIL.Image", "reading images").fromarray(numbers.astype(np.uint8)).convert("RGB")


class Folder:
    """Images of a folder, prepared for whichever model is to see them.

    Attributes
    ----------
    transform : callable or None
        From an RGB image of PIL to a tensor; None for :func:`default_transform`.
    fingerprint : str
        Of the images, not of what prepares them.
    """

    transform = None

    def prepared(self, transform):
        """The same images for a model, which need not be looked for again."""
        found = copy.copy(self)
        found.transform = transform
        return found

    def _prepare(self, image, where):
        try:
            return (self.transform or default_transform)(image)
        except Exception as error:  # of a library's, or of the caller's own
            text = f"{type(error).__name__}: {one_line(error)[:300]}"
            raise InputError(f"{where}: cannot be prepared for the model ({text})") from error


@contextlib.contextmanager
def _readable(where):
    """What is raised while an image is read becomes an error that says where."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Pillow's, of damaged files in many formats, and the system's
        raise InputError(f"{where}: not a readable image ({one_line(error)})") from error


class ImageFolder(Folder):
    """Images in one directory per class: ``DATA/CLASS/**/IMAGE``.

    Parameters
    ----------
    folder : path-like
    transform : callable, optional
        From an RGB image of PIL to a tensor; :func:`default_transform` if it is left out.

    Attributes
    ----------
    classes : list of str
        In natural order; labels are positions in it.
    fingerprint : str
        Of the names, sizes and times of modification of the files.

    Raises
    ------
    InputError
        No such directory, or fewer than two classes with images.
    """

    def __init__(self, folder, transform=None):
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such directory of images")
        self.transform = transform
        self.paths, self.labels, self.classes = [], [], []
        found = hashlib.sha256(b"upright\n")  # features of images as they lay are not kept
        try:
            entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}") from error
        for directory in entries:
            if not directory.is_dir() or directory.name.startswith("."):
                continue
            files = sorted(path for path in directory.rglob("*") if _visible(path, directory))
            images = [path for path in files if path.suffix.lower() in _SUFFIXES]
            if files and not images:
                raise InputError(
                    f"{directory}: no image among {name_list([path.name for path in files])}; "
                    f"images end in {', '.join(_SUFFIXES)}"
                )
            for path in images:
                name = path.relative_to(folder).as_posix()
                found.update(f"{name} {_state(path)}\n".encode("utf-8", "surrogateescape"))
            if images:
                self.labels += [len(self.classes)] * len(images)
                self.paths += images
                self.classes.append(directory.name)
        if len(self.classes) < 2:
            held = name_list(self.classes) or "none"
            raise InputError(
                f"{folder}: images of at least two classes are needed, each in a directory "
                f"CLASS/; found: {held}"
            )
        self.fingerprint = found.hexdigest()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        with _readable(path), need("PIL.Image", "reading images").open(path) as image:
            need("PIL.ImageOps", "reading images").exif_transpose(image, in_place=True)
            image = rgb(image)
        return self._prepare(image, path), self.labels[index]


def _visible(path, folder):
    """Whether a path within a folder is no directory, and hidden in no way."""
    parts = path.relative_to(folder).parts
    return not any(part.startswith(".") for part in parts) and not path.is_dir()


def _state(path):
    """Size and time of modification: of images that are not compressed all have one size."""
    try:
        found = path.stat()
    except OSError as error:  # a link to nothing, say
        raise InputError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise InputError(f"{path}: not a regular file")
    return f"{found.st_size} {found.st_mtime_ns}"


class SavedDataset(Folder):
    """A data set of Hugging Face that was saved by ``save_to_disk``.

    Parameters
    ----------
    folder : path-like
    transform : callable, optional
        As of :class:`ImageFolder`.
    """

    def __init__(self, folder, transform=None):
        datasets = need("datasets", "a data set of Hugging Face")
        self._folder = folder
        try:
            self._rows = datasets.load_from_disk(os.fspath(folder))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: {one_line(error)}") from error
        if isinstance(self._rows, datasets.DatasetDict):
            parts = name_list(self._rows)
            raise InputError(f"{folder}: has several parts ({parts}); give the folder of one")
        features = self._rows.features
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        labels = labels or [name for name in ("label", "labels") if name in features]
        if len(images) != 1 or len(labels) != 1:
            raise InputError(
                f"{folder}: needs one column of images and one of labels; it has "
                f"{name_list(features)}"
            )
        self._image, self._label = images[0], labels[0]
        self.transform = transform
        self.labels = list(self._rows[self._label])
        if None in self.labels:
            raise InputError(f"{folder}: no label of image {self.labels.index(None)}")
        self.classes = getattr(features[self._label], "names", None)
        self.fingerprint = str(self._rows._fingerprint)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        where = f"{self._folder}, image {index}"
        with _readable(where):
            row = self._rows[int(index)]
            image = rgb(row[self._image])
        return self._prepare(image, where), row[self._label]


def open_folder(folder):
    """The data set in a folder, as it was saved or by its directories."""
    saved = (os.path.exists(os.path.join(folder, f"dataset_{what}.json")) for what in _SAVED)
    return SavedDataset(folder) if any(saved) else ImageFolder(folder)
