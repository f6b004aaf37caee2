"""The pseudo neural tangent kernel of each class, and its mean eigenvalue."""

import numpy as np

from . import backend
from .device import on_gpu, resolve, split, to_host
from .errors import InputError
from .features import as_features, check_finite
from .head import layers
from .labels import encode
from .options import integer
from .options import seed as check_seed

_SAMPLE_STREAM = 1  # see csrc/philox.h


def choose_rows(labels, n_samples, seed):
    """Rows of each class: a list of K ascending int64 arrays of at most ``n_samples``."""
    chosen = []
    for number, rows in enumerate(labels.rows_by_class()):
        if len(rows) > n_samples:
            keys = backend.cpu().sample_keys(seed, number, _SAMPLE_STREAM, len(rows))
            rows = rows[_smallest(keys, n_samples)]
        chosen.append(rows)
    return chosen


def _smallest(keys, count):
    """Places of the smallest `count` keys, ascending; of equal keys the first."""
    places = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
    if len(places) > count:
        places = np.sort(np.argsort(keys, kind="stable")[:count])
    return places


def sample_rows(labels, n_samples=64, seed=0):
    """Choose the samples that stand for each class, without replacement.

    Parameters
    ----------
    labels : array-like (N,)
    n_samples : int
        S. All samples of a class that has no more.
    seed : int
        The choice depends on the seed and on the order of the samples, not on the features.

    Returns
    -------
    dict
        ``{class: (S,) int64}`` row numbers, ascending.
    """
    encoded = encode(labels, fewest=1)
    rows = choose_rows(encoded, integer("n_samples", n_samples, 1), check_seed(seed))
    return dict(zip(encoded.classes.tolist(), rows, strict=True))


def _prepare(features, labels, head, n_samples, seed, device):
    place = resolve(device, features)
    if place is not None and on_gpu(features):
        x = place.features(features)
    else:  # with a place, the chosen rows alone are copied to it
        x = as_features(to_host(features, "features"))
    encoded = encode(labels, n=x.shape[0], fewest=1)
    rows = choose_rows(encoded, integer("n_samples", n_samples, 1), check_seed(seed))
    return place, x, encoded, rows, layers(head, x.shape[1], place)


def _explain(x):
    """Why a kernel came out as NaN or infinity."""
    if on_gpu(x):
        x = as_features(to_host(x, "features"))
    check_finite(x)
    raise InputError("features: so large that the kernel overflows float32; rescale them")


def _on_device(place, x, rows, head, allow_tf32, want_kernels):
    """Rates (K,) on the host, and the flat kernels on the GPU or None."""
    weights, biases = head
    sizes = [len(r) for r in rows]
    chosen = np.concatenate(rows)
    resident = x
    if not on_gpu(x):
        resident = place.upload(x.data[chosen], x.dtype)
        chosen = np.arange(len(chosen))
    phi = place.empty((sum(n * n for n in sizes),)) if want_kernels else None
    rates, finite = backend.cuda().ntk(
        resident.memory(), chosen, [0, *np.cumsum(sizes).tolist()],
        [w.memory() for w in weights], [b.memory() for b in biases], bool(allow_tf32),
        None if phi is None else phi.memory(), *place.where(),
    )  # fmt: skip
    if not finite:
        _explain(x)
    return rates, phi


def rates_on_device(place, x, rows, head):
    """:func:`rates_of_rows` for features and head on the GPU of ``place``."""
    return _on_device(place, x, rows, head, False, False)[0]


def rates_of_rows(x, rows, weights, biases):
    """Mean of the kernel's diagonal for each class, from the rows chosen for it."""
    diagonal = backend.cpu().ntk_diagonal
    with backend.one_blas_thread():
        trace = diagonal(x.data, x.dtype, np.concatenate(rows), weights, biases, backend.threads())
    if not np.isfinite(trace).all():
        _explain(x)
    ends = np.cumsum([len(r) for r in rows])
    return np.array([part.mean() for part in np.split(trace, ends[:-1])])


def expected_rates(x, rows, n_classes, hidden):
    r"""Mean of the rates over all He-normal heads with zero biases, (K,) float64.

    A weight matrix of variance 2 / fan-in followed by a ReLU keeps :math:`|a|^2 / width` on
    average, and the gates are on half of the time whatever the norms are, so that
    :math:`E |a_l|^2 = |x|^2 H_l / D` and :math:`E |s_l|^2 = K`, independent within each layer.
    """
    width = x.shape[1]
    slope = 1.0 + sum(hidden) / width
    chosen = np.concatenate(rows)
    norms = np.empty(len(chosen))
    for start in range(0, len(chosen), 1024):  # a copy of a few rows at a time
        part = as_features(type(x)(x.data[chosen[start : start + 1024]], x.dtype)).to_float()
        norms[start : start + 1024] = np.einsum("nd,nd->n", part, part, dtype=np.float64)
    ends = np.cumsum([len(r) for r in rows])
    means = np.array([part.mean() for part in np.split(norms, ends[:-1])])
    return n_classes * (len(hidden) + 1 + slope * means)


def class_rates(features, labels, head, n_samples=64, seed=0, device=None, allow_tf32=False):
    r"""Mean eigenvalue of each class's kernel, from its diagonal alone.

    The mean eigenvalue is the trace divided by S, so neither an S x S matrix nor an eigensolver is
    needed; the same samples as in :func:`class_kernels`.

    Parameters
    ----------
    features : array-like (N, D)
    labels : array-like (N,)
    head : Head
        Or any object with ``weights`` and ``biases``.
    n_samples : int
        S, samples per class.
    seed : int
        Of the choice of samples.
    device : {None, "cpu", "cuda", "cuda:N"}
        By default where the features are. Of features on the CPU the chosen rows alone are copied
        to a GPU.
    allow_tf32 : bool
        Let a GPU's products round their factors to TF32 (11 bits): faster, and off by about 1e-3.
        Without effect on the CPU.

    Returns
    -------
    ndarray (K,) float64
        In the order of the sorted classes; a NumPy array for any device.

    Notes
    -----
    2 S K (D H1 + 2 H1 H2 + ...) operations in single-threaded products, one group of rows per
    thread; scratch memory of one group of at most 320 rows per thread.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> x = np.eye(4, 3, dtype=np.float32)
    >>> head = lead_fast.Head(3, 2, hidden=())
    >>> lead_fast.class_rates(x, [0, 0, 1, 1], head)  # (|x|^2 + 1) * 2
    array([4., 3.])
    """
    place, x, _, rows, head = _prepare(features, labels, head, n_samples, seed, device)
    if place is not None:
        return _on_device(place, x, rows, head, allow_tf32, False)[0]
    return rates_of_rows(x, rows, *head)


def class_kernels(features, labels, head, n_samples=64, seed=0, device=None, allow_tf32=False):
    r"""Pseudo neural tangent kernel among samples of each class.

    .. math:: \Phi_{uv} = \langle \nabla g(x_u), \nabla g(x_v) \rangle
              = \sum_l (\langle a_{l-1}(u), a_{l-1}(v) \rangle + 1) \langle s_l(u), s_l(v) \rangle

    with :math:`g = \sum_j F_j` the sum of the head's outputs, the gradient over all weights and
    biases, :math:`a_l` the activations and :math:`s_l` the back-propagated signals. The Jacobian is
    never formed.

    Parameters
    ----------
    features : array-like (N, D)
    labels : array-like (N,)
    head : Head
        Or any object with ``weights`` and ``biases``.
    n_samples : int
        S, samples per class; all of a class that has fewer.
    seed : int
        Of the choice of samples, see :func:`lead_fast.ntk.sample_rows`.
    device, allow_tf32
        As for :func:`class_rates`.

    Returns
    -------
    dict
        ``{class: (S, S) float64}``; float32 products, summed over layers in float64. From a GPU
        arrays on it, of the library that the features came from, or of CuPy.

    Raises
    ------
    InputError
        For features, labels or a head that cannot be used.

    Notes
    -----
    The cost of :func:`class_rates` plus 2 S^2 (D + 2 H1 + 2 H2 + ...) operations per class.

    References
    ----------
    LEAD (CVPR 2024), section 3; the pseudo-NTK: Mohamadi, Bae, Sutherland, "A fast, well-founded
    approximation to the empirical neural tangent kernel" (ICML 2023).
    """
    return kernels_and_rates(features, labels, head, n_samples, seed, device, allow_tf32)[0]


def kernels_and_rates(features, labels, head, n_samples=64, seed=0, device=None, allow_tf32=False):
    """Both :func:`class_kernels` and :func:`class_rates`, from one pass through the head."""
    place, x, encoded, rows, head = _prepare(features, labels, head, n_samples, seed, device)
    names = encoded.classes.tolist()
    if place is not None:
        rates, phi = _on_device(place, x, rows, head, allow_tf32, True)
        kernels = split(phi.array, [len(r) for r in rows], square=True)
        return dict(zip(names, kernels, strict=True)), rates
    weights, biases = head
    begin = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).tolist()
    with backend.one_blas_thread():
        kernels = backend.cpu().ntk_kernels(
            x.data, x.dtype, np.concatenate(rows), begin, weights, biases, backend.threads()
        )
    if not all(np.isfinite(kernel).all() for kernel in kernels):
        _explain(x)
    rates = np.array([np.diagonal(kernel).mean() for kernel in kernels])
    return dict(zip(names, kernels, strict=True)), rates
