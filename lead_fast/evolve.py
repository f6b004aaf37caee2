"""Closed-form evolution of the logits and the score of the evolved state."""

import numpy as np

from . import backend
from .device import check_findings, on_gpu, resolve, to_host
from .errors import InputError
from .features import as_features, check_finite, real_array
from .labels import encode
from .options import choice, integer, real


def check_rates(rates, n_classes):
    """Return the rates as (K,) float64, finite and not negative."""
    rates = to_host(rates, "rates")
    array = np.ascontiguousarray(real_array(rates, "rates"), dtype=np.float64)
    if array.shape != (n_classes,):
        raise InputError(f"rates: expected {n_classes}, one for each class, got {array.shape}")
    if not (np.isfinite(array) & (array >= 0.0)).all():
        raise InputError("rates: must be finite and at least 0")
    return array


def _prepare(initial, labels, rates, classes, device):
    place = resolve(device, initial)
    if place is None:
        p = as_features(to_host(initial, "initial"), "initial")
    else:
        p = place.features(initial, "initial")
    encoded = encode(labels, n=p.shape[0], classes=classes)
    if encoded.n_classes != p.shape[1]:
        raise InputError(
            f"initial: {p.shape[1]} columns for {encoded.n_classes} classes; "
            "pass classes= to name the class of each column"
        )
    if place is None:  # a GPU's kernels look for themselves
        check_finite(p, "initial")
    return place, p, encoded, check_rates(rates, encoded.n_classes)


def evolve(initial, labels, rates, time=1.0, unit=1e-6, classes=None, device=None):
    r"""Evolve initial logits in closed form (LEAD, Eq. 7).

    .. math:: E_i = (1 - e^{-\lambda_c \eta t})\, \mathrm{onehot}(y_i) + e^{-\lambda_c \eta t} p_i,
              \quad c = y_i

    Parameters
    ----------
    initial : array-like (N, K)
        Initial state p, column k for class k.
    labels : array-like (N,)
    rates : array-like (K,)
        :math:`\lambda_c`, see :func:`class_rates`.
    time : float
        In units of ``unit``, at least 0; infinity is allowed.
    unit : float
        :math:`\eta t = unit * time`; 1e-6 in the paper.
    classes : array-like (K,), optional
        The class of each column; by default the sorted distinct labels.
    device : {None, "cpu", "cuda", "cuda:N"}
        By default where the initial state is.

    Returns
    -------
    ndarray (N, K) float64
        From a GPU an array on it, of the library that ``initial`` came from, or of CuPy.

    Raises
    ------
    InputError
        Shapes that do not fit, values that are not finite, a negative time.

    Examples
    --------
    >>> import lead_fast
    >>> lead_fast.evolve([[0.5, 0.5], [0.5, 0.5]], [0, 1], [1.0, 0.0], time=float("inf"))
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    place, p, encoded, rates = _prepare(initial, labels, rates, classes, device)
    t = _times(time, unit)
    if len(t) != 1:
        raise InputError("time: expected a single number")
    if place is not None:
        out = place.empty(p.shape)
        found = backend.cuda().evolve_logits(
            p.memory(), encoded.codes_on(place), rates, t[0], out.memory(), *place.where()
        )
        check_findings(found, "initial", p.shape[0])
        return out.array
    return backend.cpu().evolve_logits(
        p.data, p.dtype, encoded.codes, rates, t[0], backend.threads(p.nbytes())
    )


def _times(times, unit):
    try:
        array = np.atleast_1d(np.asarray(times, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"time: not a number: {times!r}") from error
    if array.ndim != 1 or np.isnan(array).any() or (array < 0.0).any():
        raise InputError(f"time: must be at least 0, got {times!r}")
    return array * real("unit", unit, positive=True)


def evolved_score(
    initial, labels, rates, times, unit=1e-6, cross_entropy="distribution", classes=None,
    device=None,
):  # fmt: skip
    """Score the evolved state at one or many times in one pass, without forming it.

    Parameters
    ----------
    initial, labels, rates, unit, classes, device
        As for :func:`evolve`.
    times : float or array-like (T,)
        In units of ``unit``.
    cross_entropy : {"distribution", "logits"}
        ``"distribution"``: mean of log E[i, y_i], for an initial state that is a distribution.
        ``"logits"``: mean of log_softmax(E_i)[y_i], for any initial state.

    Returns
    -------
    ndarray (T,) float64
        At most 0; higher is better. ``-inf`` where a label has probability 0 at time 0. A NumPy
        array for any device.

    Notes
    -----
    ``"distribution"`` reads one number per row whatever K is; ``"logits"`` reads the row once and
    takes T K exponentials. On a GPU every eight times are one pass over the data; the exponentials
    of ``"logits"`` are float32 there, for a score within 1e-6, and ``"distribution"`` notices a NaN
    only where it reads. Labels are encoded on the CPU; to score many states of the same samples
    encode them once, with :func:`lead_fast.labels.encode`.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> lead_fast.evolved_score([[0.5, 0.5], [0.2, 0.8]], [0, 1], [3.0, 2.0], [0.0]).round(4)
    array([-0.4581])
    """
    choice("cross_entropy", cross_entropy, ("distribution", "logits"))
    place, p, encoded, rates = _prepare(initial, labels, rates, classes, device)
    if place is not None:
        scores, found = backend.cuda().evolved_score(
            cross_entropy == "logits", False, p.memory(), encoded.codes_on(place), rates,
            _times(times, unit), *place.where(),
        )  # fmt: skip
        check_findings(found, "initial", p.shape[0], p, encoded.codes)
        return scores
    if cross_entropy == "distribution":
        own = p.to_float()[np.arange(len(encoded.codes)), encoded.codes]
        outside = (own < -1e-6) | (own > 1 + 1e-3)
        if outside.any():
            row = int(outside.argmax())
            raise InputError(
                f"initial: {own[row]:.3g} in row {row} is no probability; "
                "use cross_entropy='logits' for states that are not distributions"
            )
    fused = getattr(backend.cpu(), f"evolved_score_{cross_entropy}")
    times = _times(times, unit)
    team = backend.threads(len(times) * p.nbytes())
    return fused(p.data, p.dtype, encoded.codes, rates, times, team)


def evolve_samples(initial, target, kernel, time=1.0, unit=1e-6):
    r"""Evolve samples through their whole kernel instead of its mean eigenvalue (LEAD, Eq. 6).

    .. math:: F(t) = Y + e^{-\eta \Phi t} (F(0) - Y)

    Parameters
    ----------
    initial : array-like (S, K)
        State of the S samples between which ``kernel`` was taken.
    target : int or array-like (S,) of int
        Column of the samples' class.
    kernel : array-like (S, S)
        One of :func:`class_kernels`.
    time, unit : float
        As for :func:`evolve`.

    Returns
    -------
    ndarray (S, K) float64

    Notes
    -----
    One eigendecomposition, 9 S^3 operations, and two products of S^2 K.
    """
    from .eigh import spectrum

    if on_gpu(initial):
        return _evolve_samples_on(resolve(None, initial), initial, target, kernel, time, unit)
    state = as_features(initial, "initial")
    check_finite(state, "initial")
    f = np.ascontiguousarray(state.to_float(), dtype=np.float64)
    targets = _targets(target, *f.shape)
    values, basis = spectrum({"kernel": kernel}, vectors=True)["kernel"]
    values, t = _spectral_rates(values, len(f), time, unit)
    with backend.one_blas_thread():
        return backend.cpu().evolve_spectral(values, basis, f, targets.astype(np.int32), t)


def _targets(target, n, n_classes):
    """The column of each of n samples, (n,)."""
    targets = np.asarray(to_host(target, "target"))
    if targets.ndim == 0:
        targets = np.full(n, integer("target", targets.item(), 0, n_classes - 1))
    outside = targets.dtype.kind not in "iu" or (targets < 0).any() or (targets >= n_classes).any()
    if targets.shape != (n,) or outside:
        raise InputError(f"target: expected {n} column numbers from 0 to {n_classes - 1}")
    return targets


def _spectral_rates(values, n, time, unit):
    """Eigenvalues (n,) without those that are negative by rounding alone, and the time."""
    if len(values) != n:
        raise InputError(f"kernel: of {len(values)} samples, but initial has {n}")
    rounding = 1e-6 * max(values.max(), 0.0)
    if values.min() < -rounding:
        raise InputError(
            f"kernel: not positive semi-definite (an eigenvalue of {values.min():.3g})"
        )
    values = np.where(values < 1e-12 * values.max(), 0.0, values)
    t = _times(time, unit)
    if len(t) != 1:
        raise InputError("time: expected a single number")
    return values, t[0]


def _evolve_samples_on(place, initial, target, kernel, time, unit):
    """:func:`evolve_samples` on a GPU, the products by the library that the arrays belong to."""
    from .eigh import spectrum

    state = place.features(initial, "initial")
    n, n_classes = state.shape
    targets = _targets(target, n, n_classes)
    kernel = place.library.cast(place.bring(kernel, "kernel").array, "float64")
    values, basis = spectrum({"kernel": kernel}, vectors=True)["kernel"]
    values, t = _spectral_rates(to_host(values, "kernel"), n, time, unit)
    with np.errstate(invalid="ignore"):
        keep = np.where(values == 0.0, 1.0, np.exp(-values * t))
    onehot = np.zeros((n, n_classes))
    onehot[np.arange(n), targets] = 1.0
    onehot = place.upload(onehot).array
    keep = place.upload(keep[:, None]).array
    residual = place.library.cast(state.array, "float64") - onehot
    evolved = onehot + basis @ (keep * (basis.T @ residual))
    if not np.isfinite(float(evolved.sum())):
        check_finite(as_features(to_host(initial, "initial")), "initial")
    return evolved
