"""The multi-class linear SVM: checks, scaling, and the solver: native, or of arrays on a GPU."""

import contextlib
import dataclasses
import math

import numpy as np

from . import backend
from ._caller import warn_caller
from .device import DeviceArray
from .errors import ConvergenceWarning, InputError
from .features import check_finite
from .options import choice, integer, real

FORMS = ("ww", "ovr", "cs")  # in the order of SvmForm in csrc/svm.h
SCALES = ("unit", "standard", "none")
ONE_THREAD = 256  # classes up to which matrices between them are for one thread of the host


@dataclasses.dataclass(frozen=True)
class SvmReport:
    """How well an SVM was solved.

    Attributes
    ----------
    primal, dual : float
        Objective at the solution and its certified lower bound, in float64 over the original
        problem.
    gap : float
        (primal - dual) / primal.
    passes : float
        Effective passes over the data: pairs of sample and class visited / all pairs.
    converged : bool
        Whether gap <= tol.
    """

    primal: float
    dual: float
    gap: float
    passes: float
    converged: bool


@dataclasses.dataclass(frozen=True)
class SvmOptions:
    """Options of the solver, checked."""

    svm: str = "ww"
    hinge: int = 1
    C: float = 1.0
    scale: str = "unit"
    tol: float = 1e-3
    max_passes: int = 1000
    seed: int = 0

    def __post_init__(self):
        choice("svm", self.svm, FORMS)
        choice("hinge", self.hinge, (1, 2))
        real("C", self.C, positive=True)
        choice("scale", self.scale, SCALES)
        real("tol", self.tol, positive=True)
        integer("max_passes", self.max_passes, 1)


@dataclasses.dataclass(frozen=True)
class ColumnMap:
    """z = (x - centre) * inverse_scale, per column."""

    centre: np.ndarray
    inverse_scale: np.ndarray


def column_map(x, scale, rows=None):
    """The map of ``scale`` for the given rows; refuses rows that are not finite."""
    if isinstance(x, DeviceArray):
        from .svm_arrays import adapt

        with adapt.on_device(x) as (xp, data):
            found = adapt.statistics(xp, data, rows)
    else:
        found = x.column_statistics(rows)
    check_finite(x, found=found)
    mean, variance = found["mean"], found["variance"]
    if not np.isfinite(variance).all():
        raise InputError("features: so large that their squares overflow; rescale them")
    if scale == "none":
        return ColumnMap(np.zeros_like(mean), np.ones_like(mean))
    if scale == "unit":
        size = np.sqrt(variance.sum())
        inverse = np.full_like(mean, 1.0 / size if size > 0.0 else 1.0)
    else:
        # A constant column has a variance of nothing but rounding.
        spread = np.sqrt(variance)
        constant = spread <= 1e-7 * np.abs(mean)
        inverse = np.where(constant, 1.0, 1.0 / np.where(constant, 1.0, spread))
    return ColumnMap(mean, inverse)


def fit(x, codes, n_classes, options, mapping, rows=None, log_probability=False):
    """Train on features (N, D) and class numbers; see :class:`lead_fast.MultiClassSVM`.

    Returns
    -------
    weights : (K, D) float64
        In the mapped space.
    bias : (K,) float64
    report : SvmReport
    log_probability : (N,) float64
        log soft-max of each sample's label at the solution, if asked for.
    """
    if isinstance(x, DeviceArray):
        from .svm_arrays import adapt

        # The host factorises matrices of a few dozen rows meanwhile: threads that BLAS starts for
        # them have been seen to take 40 ms instead of half of one.
        limit = backend.one_blas_thread() if n_classes <= ONE_THREAD else contextlib.nullcontext()
        with limit, adapt.on_device(x) as (xp, data):
            found = adapt.fit(xp, data, codes, n_classes, options, mapping, rows, log_probability)
    else:
        # Each of its many passes multiplies the features by K columns of weights.
        team = backend.threads(4 * len(codes) * x.shape[1] * max(1, n_classes // 10))
        with backend.one_blas_thread():
            found = backend.cpu().svm_fit(
                x.data, x.dtype, rows, codes, n_classes, mapping.centre, mapping.inverse_scale,
                FORMS.index(options.svm), int(options.hinge), float(options.C),
                float(options.tol), int(options.max_passes), options.seed, team, log_probability,
            )  # fmt: skip
    report = SvmReport(*(found[k] for k in ("primal", "dual", "gap", "passes", "converged")))
    if not report.converged:
        warn_caller(
            f"the SVM stopped after {report.passes:.0f} passes at a relative duality gap of "
            f"{report.gap:.2g}, above tol={options.tol:g}; scale the features, lower C, or raise "
            "max_passes or tol",
            ConvergenceWarning,
        )
    return found["weights"], found["bias"], report, found["log_probability"]


def relative_gap(primal, dual):
    """The gap relative to the primal objective; infinite where a huge C overflows."""
    gap = (primal - dual) / primal
    return math.inf if math.isnan(gap) else max(0.0, gap)


def label_log_probability(x, codes, n_classes, mapping, weights, bias, rows=None):
    """Log soft-max(W z + b)[label] of the given rows, (n,) float64."""
    if isinstance(x, DeviceArray):
        from .svm_arrays import adapt

        with adapt.on_device(x) as (xp, data):
            return adapt.label_log_probability(xp, data, codes, mapping, weights, bias, rows)
    return backend.cpu().svm_label_log_probability(
        x.data, x.dtype, rows, codes, n_classes, mapping.centre, mapping.inverse_scale,
        weights, bias, backend.threads(x.nbytes(rows)),
    )  # fmt: skip
