"""Closed-form evolution of the logits and the score of the evolved state."""

import numpy as np

from . import backend
from .errors import InputError
from .features import as_features, check_finite, real_array
from .labels import encode
from .options import choice, integer, real


def check_rates(rates, n_classes):
    """Return the rates as (K,) float64, finite and not negative."""
    array = np.ascontiguousarray(real_array(rates, "rates"), dtype=np.float64)
    if array.shape != (n_classes,):
        raise InputError(f"rates: expected {n_classes}, one for each class, got {array.shape}")
    if not (np.isfinite(array) & (array >= 0.0)).all():
        raise InputError("rates: must be finite and at least 0")
    return array


def _prepare(initial, labels, rates, classes):
    p = as_features(initial, "initial")
    encoded = encode(labels, n=p.shape[0], classes=classes)
    if encoded.n_classes != p.shape[1]:
        raise InputError(
            f"initial: {p.shape[1]} columns for {encoded.n_classes} classes; "
            "pass classes= to name the class of each column"
        )
    check_finite(p, "initial")
    return p, encoded, check_rates(rates, encoded.n_classes)


def evolve(initial, labels, rates, time=1.0, unit=1e-6, classes=None):
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

    Returns
    -------
    ndarray (N, K) float64

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
    p, encoded, rates = _prepare(initial, labels, rates, classes)
    t = _times(time, unit)
    if len(t) != 1:
        raise InputError("time: expected a single number")
    return backend.cpu().evolve_logits(
        p.data, p.dtype, encoded.codes, rates, t[0], backend.threads()
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
    initial, labels, rates, times, unit=1e-6, cross_entropy="distribution", classes=None
):
    """Score the evolved state at one or many times in one pass, without forming it.

    Parameters
    ----------
    initial, labels, rates, unit, classes
        As for :func:`evolve`.
    times : float or array-like (T,)
        In units of ``unit``.
    cross_entropy : {"distribution", "logits"}
        ``"distribution"``: mean of log E[i, y_i], for an initial state that is a distribution.
        ``"logits"``: mean of log_softmax(E_i)[y_i], for any initial state.

    Returns
    -------
    ndarray (T,) float64
        At most 0; higher is better. ``-inf`` where a label has probability 0 at time 0.

    Notes
    -----
    ``"distribution"`` reads one number per row whatever K is; ``"logits"`` reads the row once and
    takes T K exponentials.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> lead_fast.evolved_score([[0.5, 0.5], [0.2, 0.8]], [0, 1], [3.0, 2.0], [0.0]).round(4)
    array([-0.4581])
    """
    choice("cross_entropy", cross_entropy, ("distribution", "logits"))
    p, encoded, rates = _prepare(initial, labels, rates, classes)
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
    return fused(p.data, p.dtype, encoded.codes, rates, _times(times, unit), backend.threads())


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

    state = as_features(initial, "initial")
    check_finite(state, "initial")
    f = np.ascontiguousarray(state.to_float(), dtype=np.float64)
    targets = np.asarray(target)
    if targets.ndim == 0:
        targets = np.full(len(f), integer("target", targets.item(), 0, f.shape[1] - 1))
    outside = targets.dtype.kind not in "iu" or (targets < 0).any() or (targets >= f.shape[1]).any()
    if targets.shape != (len(f),) or outside:
        raise InputError(f"target: expected {len(f)} column numbers from 0 to {f.shape[1] - 1}")
    values, basis = spectrum({"kernel": kernel}, vectors=True)["kernel"]
    if len(values) != len(f):
        raise InputError(f"kernel: of {len(values)} samples, but initial has {len(f)}")
    rounding = 1e-6 * max(values.max(), 0.0)
    if values.min() < -rounding:
        raise InputError(
            f"kernel: not positive semi-definite (an eigenvalue of {values.min():.3g})"
        )
    values = np.where(values < 1e-12 * values.max(), 0.0, values)  # negative by rounding alone
    t = _times(time, unit)
    if len(t) != 1:
        raise InputError("time: expected a single number")
    with backend.one_blas_thread():
        return backend.cpu().evolve_spectral(values, basis, f, targets.astype(np.int32), t[0])
