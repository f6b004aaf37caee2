"""Small grey images for make_zoo.py, from what scikit-learn and matplotlib bring: no download.

- Digits: scikit-learn's 1797 handwritten digits.
- Scripts: characters of the fonts that matplotlib brings, each drawn in a random face, turned,
  sheared, moved, and with noise.
- Photographs: patches of scikit-learn's two; the class of a patch is the region it comes from. The
  patches of the test are cut from other columns than those of the training.

Every set is a function of its seed. Images are (N, 1, 16, 16) float32, brightness b as
(b - 0.25) / 0.35, which is roughly of mean 0 and variance 1.
"""

import dataclasses
import functools
import pathlib

import numpy as np
import scipy.ndimage
from sklearn.datasets import load_digits, load_sample_image

SIZE = 16
_DRAWN = 48  # pixels of a character before it is moved and made smaller
DEJAVU = tuple(
    f"DejaVu{face}{cut}"
    for face, cuts in (
        ("Sans", ("", "-Bold", "-Oblique", "-BoldOblique")),
        ("SansMono", ("", "-Bold", "-Oblique", "-BoldOblique")),
        ("Serif", ("", "-Bold", "-Italic", "-BoldItalic")),
    )
    for cut in cuts
)
LATIN = (
    *DEJAVU, "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Images:
    """Images to train and to test with.

    Attributes
    ----------
    train, test : ndarray (N, 1, 16, 16) float32
    train_labels, test_labels : ndarray (N,) int64
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @property
    def n_classes(self):
        """Classes, K."""
        return int(self.train_labels.max()) + 1


def letters(first, last, count=None):
    """Characters from one code to another, all or `count` evenly among them."""
    found = [chr(code) for code in range(first, last + 1)]
    if count is None:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]


@functools.cache
def _charmap(face):
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    path = pathlib.Path(get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return str(path), set(FT2Font(str(path)).get_charmap())


@functools.cache
def _character(letter, face):
    """One character, filling (48, 48) float32 within 0 and 1; None where the face lacks it."""
    from PIL import Image, ImageDraw, ImageFont

    path, known = _charmap(face)
    if ord(letter) not in known:
        return None
    font = ImageFont.truetype(path, _DRAWN)
    left, top, right, bottom = font.getbbox(letter)
    if right <= left or bottom <= top:
        return None
    side = max(right - left, bottom - top)
    image = Image.new("L", (side, side))
    place = ((side - (right + left)) / 2, (side - (bottom + top)) / 2)
    ImageDraw.Draw(image).text(place, letter, fill=255, font=font)
    image = image.resize((_DRAWN, _DRAWN), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / 255.0


def _moved(image, rng):
    """A character turned, sheared, scaled and moved at random, (16, 16), with noise."""
    angle, shear = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(_DRAWN / SIZE * rng.uniform(1.0, 1.5, 2))
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ stretch
    middle = np.full(2, (SIZE - 1) / 2) + rng.uniform(-1.5, 1.5, 2)
    offset = np.full(2, (_DRAWN - 1) / 2) - matrix @ middle
    soft = scipy.ndimage.gaussian_filter(image, 1.2)
    small = scipy.ndimage.affine_transform(soft, matrix, offset, (SIZE, SIZE), order=1)
    return small + rng.normal(0.0, 0.12, (SIZE, SIZE))


def script(characters, faces, n_train, n_test, seed):
    """`n_train` and `n_test` images of each character that two faces or more have."""
    known = [[g for f in faces if (g := _character(one, f)) is not None] for one in characters]
    known = [drawings for drawings in known if len(drawings) > 1]
    parts = []
    for number, count in enumerate((n_train, n_test)):
        rng = np.random.default_rng([seed, number])
        images = [
            _moved(drawings[rng.integers(len(drawings))], rng)
            for drawings in known
            for _ in range(count)
        ]
        parts += [stack(images), np.repeat(np.arange(len(known)), count)]
    return Images(*parts)


def stack(images):
    """Images of brightness 0 to 1, (N, 16, 16), as networks take them."""
    return (np.asarray(images, np.float32)[:, None] - 0.25) / 0.35


def split(images, labels, n_train, seed):
    """`n_train` images of each class to train with, the rest to test with."""
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = range(labels.max() + 1)
    train = np.concatenate([order[labels[order] == one][:n_train] for one in classes])
    test = np.setdiff1d(order, train)
    return Images(images[train], labels[train], images[test], labels[test])


def digits(n_train, seed):
    """`n_train` of each of scikit-learn's digits to train with, the rest to test with."""
    images, labels = load_digits(return_X_y=True)
    images = scipy.ndimage.zoom(images.reshape(-1, 8, 8) / 16.0, (1, 2, 2), order=1)
    return split(stack(images), labels, n_train, seed)


def patches(regions, n_train, n_test, seed):
    """Patches of grey regions, 2 SIZE wide, made half as large; the class is the region.

    The middle third of a region's columns is tested on, the others are trained on.
    """
    wide, parts = 2 * SIZE, []
    for number, count in enumerate((n_train, n_test)):
        rng = np.random.default_rng([seed, number])
        images = []
        for grey in regions:
            height, width = grey.shape
            for _ in range(count):
                y = rng.integers(height - wide + 1)
                third = (1, rng.choice((0, 2)))[number == 0]
                x = third * (width // 3) + rng.integers(width // 3 - wide + 1)
                patch = grey[y : y + wide, x : x + wide]
                images.append(patch.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3)))
        parts += [stack(images), np.repeat(np.arange(len(regions)), count)]
    return Images(*parts)


def cut(grey, rows, columns):
    """Regions of a picture, row by row."""
    height, width = grey.shape[0] // rows, grey.shape[1] // columns
    return [
        grey[top * height : (top + 1) * height, left * width : (left + 1) * width]
        for top in range(rows)
        for left in range(columns)
    ]


def _photograph(name, rows, columns, n_train, n_test, seed):
    grey = load_sample_image(name).mean(axis=2) / 255.0
    return patches(cut(grey, rows, columns), n_train, n_test, seed)


def models(characters, others, photograph):
    """The 16 models of a zoo, ARCHITECTURE-SOURCE-OBJECTIVE, by its three sources."""
    return (
        f"cnn_s-{characters}-sup", f"cnn_s-{others}-sup",
        f"cnn_m-{characters}-sup", f"cnn_m-{others}-sup", f"cnn_m-{photograph}-sup",
        f"cnn_m-{characters}-rot", "cnn_m-none-rand",
        f"res-{characters}-sup", f"res-{others}-sup", f"res-{photograph}-sup",
        f"res-{characters}-rot", "res-none-rand",
        f"wide-{characters}-sup", f"wide-{photograph}-ae",
        f"mlp-{characters}-sup", "mlp-none-rand",
    )  # fmt: skip


def _sources():
    scripts = [
        *letters(0x10D0, 0x10F0),  # Georgian
        *letters(0x0531, 0x0556),  # Armenian
        *letters(0x05D0, 0x05EA),  # Hebrew
        *letters(0x2200, 0x22FF, 40),  # mathematical operators
    ]
    cyrillic = [*letters(0x0410, 0x042F), *letters(0x0430, 0x044F)]
    return {
        "scripts": lambda: script(scripts, DEJAVU, 40, 5, 11),
        "cyrillic": lambda: script(cyrillic, LATIN, 80, 5, 12),
        "flower": lambda: _photograph("flower.jpg", 3, 4, 400, 20, 13),
    }


def _tasks():
    symbols = [*letters(0x2190, 0x21FF, 40), *letters(0x2500, 0x25FF, 40)]
    return {
        "digits": lambda: digits(30, 21),
        "latin": lambda: script(letters(ord("A"), ord("Z")), LATIN, 12, 60, 22),
        "greek": lambda: script(letters(0x03B1, 0x03C9), LATIN, 12, 60, 23),
        "symbols": lambda: script(symbols, DEJAVU, 6, 20, 24),
        "photo": lambda: _photograph("china.jpg", 2, 3, 50, 240, 25),
    }


MODELS = models("scripts", "cyrillic", "flower")
FIRST_SEED = 0
SOURCES, TASKS = _sources(), _tasks()
