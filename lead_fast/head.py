"""Random heads: the multilayer perceptrons whose kernel LEAD uses."""

import functools
import itertools
import math

import numpy as np

from . import backend
from .device import on_gpu, resolve, to_host
from .errors import InputError, InputTypeError
from .features import real_array
from .options import integer
from .options import seed as check_seed


class Head:
    """A randomly initialised multilayer perceptron D -> hidden -> K with ReLU between layers.

    He-normal weights (variance 2 / fan_in), zero biases. Philox4x32-10, a counter-based generator,
    draws every weight from its place alone, so the same seed gives the same head, to the bit, for
    any number of threads and on every device.

    Parameters
    ----------
    n_features, n_classes : int
        Input and output width, D and K.
    hidden : sequence of int
        Widths of the hidden layers; may be empty.
    seed : int
        0 <= seed < 2**64.
    device : {None, "cpu", "cuda", "cuda:N"}
        Where to draw. A head for features on a GPU is best drawn there: one on the CPU is copied
        over in every call that uses it.

    Attributes
    ----------
    weights : list of ndarray float32
        ``(D, H1), (H1, H2), ..., (Hn, K)``; arrays of CuPy (or of torch, where CuPy is not
        installed) on a GPU.
    biases : list of ndarray float32
        ``(H1,), ..., (K,)``, all zero.
    device : str
        ``"cpu"`` or ``"cuda:N"``.

    Notes
    -----
    Four bytes per weight; about 1 ns per weight and thread to draw on a CPU.

    Examples
    --------
    >>> import lead_fast
    >>> head = lead_fast.Head(64, 10, hidden=(32,), seed=1)
    >>> [w.shape for w in head.weights]
    [(64, 32), (32, 10)]
    """

    def __init__(self, n_features, n_classes, hidden=(1024, 2048), seed=0, device=None):
        self.n_features = integer("n_features", n_features, 1)
        self.n_classes = integer("n_classes", n_classes, 1)
        self.hidden = check_hidden(hidden)
        self.seed = check_seed(seed)
        self.device = backend.check_device(device)
        widths = (self.n_features, *self.hidden, self.n_classes)
        place = resolve(device)
        draw = self._draw if place is None else functools.partial(self._draw_on, place)
        self.weights = [
            draw(layer, fan_in, fan_out, math.sqrt(2.0 / fan_in))
            for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths))
        ]
        self.biases = [np.zeros(width, np.float32) for width in widths[1:]]
        if place is not None:
            self.biases = [place.upload(bias).array for bias in self.biases]

    def _draw(self, layer, fan_in, fan_out, scale):
        return backend.cpu().head_weights(
            self.seed, layer, fan_in, fan_out, scale, backend.threads()
        )

    def _draw_on(self, place, layer, fan_in, fan_out, scale):
        weights = place.empty((fan_in, fan_out), "float32")
        backend.cuda().head_weights(weights.memory(), self.seed, layer, scale, *place.where())
        return weights.array

    @classmethod
    def from_arrays(cls, weights, biases=None):
        """Make a head of given weights (in, out) and biases (default: zero)."""
        weights = _arrays(weights, "weights")
        if biases is None:
            biases = [np.zeros(w.shape[-1:], np.float32) for w in weights]
        biases = _arrays(biases, "biases")
        _check_layers(weights, biases)
        head = cls.__new__(cls)
        head.n_features, head.n_classes = weights[0].shape[0], weights[-1].shape[1]
        head.hidden = tuple(w.shape[1] for w in weights[:-1])
        head.seed = None
        head.device = "cpu"
        head.weights, head.biases = weights, biases
        return head

    def __repr__(self):
        return f"Head({self.n_features}, {self.n_classes}, hidden={self.hidden}, seed={self.seed})"


def check_hidden(hidden):
    """Return the hidden widths as a tuple of positive ints."""
    try:
        widths = tuple(hidden)
    except TypeError as error:
        raise InputTypeError(f"hidden: expected a sequence of widths, got {hidden!r}") from error
    return tuple(integer("hidden", width, 1) for width in widths)


def _arrays(arrays, name):
    """Float32 copies of a head's arrays."""
    try:
        arrays = list(arrays)
    except TypeError as error:
        raise InputTypeError(f"head: {name} is no sequence of arrays") from error
    return [
        np.array(real_array(to_host(a, "head"), f"head: {name}"), np.float32, order="C")
        for a in arrays
    ]


def _check_layers(weights, biases):
    if not weights or len(weights) != len(biases):
        raise InputError(
            f"head: {len(weights)} weights and {len(biases)} biases; one of each per layer"
        )
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        if w.ndim != 2 or 0 in w.shape or b.shape != (w.shape[1],):
            raise InputError(f"head: layer {layer} has weights {w.shape} and biases {b.shape}")
        if layer and w.shape[0] != weights[layer - 1].shape[1]:
            raise InputError(f"head: layer {layer} does not take what layer {layer - 1} gives")
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise InputError(f"head: NaN or infinity in layer {layer}")


def layers(head, n_features, place=None):
    """Weights and biases of any head-like object as the native code takes them.

    On the CPU arrays; on a GPU, that of ``place``, :class:`lead_fast.device.DeviceArray`.
    """
    if isinstance(head, Head):
        weights, biases = head.weights, head.biases
        if place is None and on_gpu(weights[0]):
            weights, biases = _arrays(weights, "weights"), _arrays(biases, "biases")
    else:
        if not (hasattr(head, "weights") and hasattr(head, "biases")):
            raise InputTypeError(
                f"head: expected an object with arrays in weights and biases, "
                f"got {type(head).__name__}"
            )
        weights, biases = _arrays(head.weights, "weights"), _arrays(head.biases, "biases")
        _check_layers(weights, biases)
    if weights[0].shape[0] != n_features:
        raise InputError(
            f"head: takes {weights[0].shape[0]} features, but the features have {n_features}"
        )
    if place is not None:
        weights = [place.bring(w, "head") for w in weights]
        biases = [place.bring(b, "head") for b in biases]
    return weights, biases
