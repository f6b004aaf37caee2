"""From a model and images to a file of features.

``sources`` makes a model out of what names it, ``images`` a loader out of a folder, ``taps`` take
features from a forward pass, ``files`` write them, ``run`` puts it together.
"""

from .run import Extracted, extract

__all__ = ["Extracted", "extract"]
