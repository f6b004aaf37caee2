"""From a model and images to a file of features.

``setting`` looks at data, options and a directory once for all models, ``names`` says what these
are called, ``sources`` makes a model out of what names it, ``images`` a data set out of a folder,
``batches`` batches of either, ``passes`` run a model over them, ``taps`` take features from its
forward pass, ``files`` write them, ``run`` puts it together.
"""

from .run import Extracted, extract

__all__ = ["Extracted", "extract"]
