"""Images and models of a fifth zoo, made to judge features of hidden layers; see make_zoo.py.

Its architectures are none of the other zoos', and neither are scripts and seeds, but for the
Canadian syllables of the second zoo's sources. Its digits are the second's, fewer of them, and the
pictures of "flower" a source of the first.
"""

from sklearn.datasets import load_sample_image
from zoo_images import DEJAVU, LATIN, cut, letters, patches, script
from zoo_images_second import grey, mnist

_LINES = [*letters(0x2900, 0x297F, 56), *letters(0x2580, 0x25FF, 40)]  # arrows, blocks
_ACCENTS = [*letters(0x1F00, 0x1FFF, 60), *letters(0x0180, 0x024F, 40)]  # Greek, Latin
_SIGNS = [*letters(0x2100, 0x214F, 36), *letters(0x2150, 0x218F, 28)]  # letterlike, fractions

SOURCES = {
    "lines": lambda: script(_LINES, DEJAVU, 40, 5, 411),
    "accents": lambda: script(_ACCENTS, LATIN, 40, 5, 412),
    "rocket": lambda: patches(cut(grey("rocket"), 3, 4), 400, 20, 413),
}
TASKS = {
    "mnist": lambda: mnist(20, 421),
    "nko": lambda: script(letters(0x07C0, 0x07FA), DEJAVU, 8, 40, 422),
    "signs": lambda: script(_SIGNS, DEJAVU, 8, 40, 423),
    "syllables": lambda: script(letters(0x1401, 0x167F, 72), DEJAVU, 8, 30, 424),
    "raised": lambda: script(letters(0x2070, 0x209F), DEJAVU, 10, 40, 425),  # and lowered
    "flower": lambda: patches(
        cut(load_sample_image("flower.jpg").mean(axis=2) / 255.0, 2, 3), 50, 240, 426
    ),
}
MODELS = (
    "squeeze-lines-sup", "squeeze-accents-sup", "inception-accents-sup", "inception-none-rand",
    "grouped-lines-sup", "grouped-accents-rot", "nin-accents-sup", "nin-rocket-sup",
    "next-lines-sup", "next-none-rand", "vit-accents-sup", "vit-lines-rot", "lenet-accents-sup",
    "lenet-none-rand", "deepmlp-lines-sup", "deepmlp-rocket-ae",
)  # fmt: skip
FIRST_SEED = 400
