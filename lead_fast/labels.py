"""Labels of any integers or strings as class numbers."""

import numpy as np

from .device import to_host
from .errors import InputError, InputTypeError


class Labels:
    """Encoded labels.

    Attributes
    ----------
    classes : ndarray (K,)
        The sorted distinct labels.
    codes : ndarray (N,) int32
        The position of each sample's label in ``classes``.
    """

    def __init__(self, classes, codes):
        self.classes = classes
        self.codes = np.ascontiguousarray(codes, dtype=np.int32)
        self._on_device = {}

    @property
    def n(self):
        """Samples, N."""
        return len(self.codes)

    @property
    def n_classes(self):
        """Classes, K."""
        return len(self.classes)

    def codes_on(self, place):
        """The codes on a GPU, as the native code is told of them; copied there once."""
        key = place.library.name, place.device
        if key not in self._on_device:
            self._on_device[key] = place.upload(self.codes)
        return self._on_device[key].memory()

    def rows_by_class(self):
        """Row numbers of each class, ascending: list of K int64 arrays."""
        narrow = self.n_classes <= 1 << 16  # whose numbers NumPy sorts by their digits
        codes = self.codes.astype(np.uint16) if narrow else self.codes
        order = np.argsort(codes, kind="stable").astype(np.int64)
        ends = np.cumsum(np.bincount(self.codes, minlength=self.n_classes))
        return np.split(order, ends[:-1])


def _plain(labels):
    labels = to_host(labels, "labels")
    if type(labels).__module__.split(".")[0] == "torch":
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, np.ma.MaskedArray):
        raise InputTypeError("labels: masked arrays are not supported; drop what is masked")
    try:
        array = np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError("labels: not a sequence of integers or strings") from error
    if array.dtype.kind == "U" and isinstance(labels, (list, tuple)):
        strange = [v for v in labels if not isinstance(v, str)]
        if strange:
            raise InputTypeError(f"labels: {strange[0]!r} among strings; missing labels?")
    if array.ndim != 1:
        hint = "; if each row marks its class, pass their argmax" if array.ndim == 2 else ""
        raise InputError(f"labels: expected 1 dimension, got shape {array.shape}{hint}")
    if array.dtype.kind in "iubUS":
        return array
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            bad = ~np.isfinite(array)
            raise InputError(
                f"labels: NaN or infinity in {bad.sum()} of {len(array)}, "
                f"first in row {bad.argmax()}"
            )
        if (np.abs(array) > 2.0**53).any():
            raise InputError("labels: numbers too large to be exact; pass integers or strings")
        whole = array.astype(np.int64)
        if (whole != array).any():
            raise InputError("labels: fractions are no class labels; pass integers or strings")
        return whole
    if array.dtype.kind in "OT":  # T: NumPy's variable-width strings
        values = array.tolist()
        if all(isinstance(v, str) for v in values):
            return np.array(values, dtype=str)
        if all(isinstance(v, (int, np.integer)) for v in values):
            return np.array(values)
    raise InputTypeError(f"labels: dtype {array.dtype} is neither integers nor strings")


def encode(labels, n=None, classes=None, fewest=2):
    """Encode labels as class numbers.

    Parameters
    ----------
    labels : array-like (N,)
        Integers (also as whole floats), booleans, or strings.
    n : int, optional
        The number of samples they must belong to.
    classes : array-like (K,), optional
        The classes in their order; by default the sorted distinct labels.
    fewest : int
        How many classes there must be.

    Returns
    -------
    Labels

    Raises
    ------
    InputError, InputTypeError
        Wrong shape, length or type; a label outside ``classes``; too few classes.
    """
    if isinstance(labels, Labels):
        encoded = labels
    else:
        array = _plain(labels)
        if len(array) == 0:
            raise InputError("labels: empty, 0 labels")
        if classes is None:
            found, codes = np.unique(array, return_inverse=True)
        else:
            found = _plain(classes)
            if len(found) == 0 or len(np.unique(found)) != len(found):
                raise InputError("classes: expected distinct labels, at least one")
            order = np.argsort(found, kind="stable")
            place = np.searchsorted(found, array, sorter=order)
            codes = order[np.minimum(place, len(found) - 1)]
            strange = found[codes] != array
            if strange.any():
                row = int(strange.argmax())
                raise InputError(f"labels: {array[row]!r} in row {row} is not among the classes")
        encoded = Labels(found, codes)
    if n is not None:
        check_count(encoded, n)
    if encoded.n_classes < fewest:
        raise InputError(
            "labels: at least two classes are needed, every label is "
            f"{encoded.classes.tolist()[0]!r}"
        )
    return encoded


def check_count(labels, n):
    """Raise unless there are as many labels (anything with their number as ``n``) as samples."""
    if labels.n != n:
        raise InputError(
            f"labels: {labels.n} labels for {n} samples; pass one for each row of features"
        )
