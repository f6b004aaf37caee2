"""Images and models of a fourth zoo, on which nothing in the package was chosen; see make_zoo.py.

Its architectures are none of the other zoos'. Scripts and seeds are new; the photograph of the task
"coffee" is a source of the second zoo, and the digits are the first's, fewer of them.
"""

from zoo_images import DEJAVU, LATIN, cut, digits, letters, patches, script
from zoo_images_second import grey

_PICTURES = [
    *letters(0x1F600, 0x1F640, 36),  # faces
    *letters(0x1F030, 0x1F093, 36),  # dominoes
    *letters(0x1F0A0, 0x1F0F5, 36),  # cards
]
_EXTENDED = [*letters(0x1E00, 0x1EFF, 48), *letters(0x0450, 0x04FF, 48)]  # Latin, Cyrillic
_RARE = [*letters(0xA4D0, 0xA4FF), *letters(0x2D00, 0x2D25)]  # Lisu, Georgian church script

SOURCES = {
    "pictures": lambda: script(_PICTURES, DEJAVU, 40, 5, 311),
    "extended": lambda: script(_EXTENDED, LATIN, 40, 5, 312),
    "astronaut": lambda: patches(cut(grey("astronaut"), 3, 4), 400, 20, 313),
}
TASKS = {
    "digits": lambda: digits(12, 321),
    "lao": lambda: script(letters(0x0E81, 0x0EDD), DEJAVU, 10, 40, 322),
    "lisu": lambda: script(_RARE, DEJAVU, 8, 30, 323),
    "tifinagh": lambda: script(letters(0x2D30, 0x2D67), DEJAVU, 8, 40, 324),
    "hexagrams": lambda: script(letters(0x4DC0, 0x4DFF, 40), DEJAVU, 12, 40, 325),
    "coffee": lambda: patches(cut(grey("coffee"), 2, 3), 50, 240, 326),
}
MODELS = (
    "plain-pictures-sup", "plain-extended-sup", "vgg-pictures-sup", "vgg-pictures-rot",
    "mobile-extended-sup", "mobile-astronaut-sup", "dense-pictures-sup", "dense-none-rand",
    "thin-extended-sup", "thin-pictures-rot", "deep-extended-sup", "deep-none-rand",
    "alex-pictures-sup", "alex-astronaut-ae", "mixer-extended-sup", "mixer-none-rand",
)  # fmt: skip
FIRST_SEED = 300
