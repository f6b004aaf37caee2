"""The multi-class SVM as a scikit-learn classifier."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    check_random_state,
    column_or_1d,
    validate_data,
)

from . import backend
from . import svm as solver
from .device import on_gpu, resolve, to_host
from .errors import InputError
from .features import Features, as_features
from .labels import Labels
from .options import integer

_DTYPES = (np.float32, np.float64, np.float16)


def _is_bfloat16(X):
    return isinstance(X, Features) or str(getattr(X, "dtype", "")).endswith("bfloat16")


class MultiClassSVM(ClassifierMixin, BaseEstimator):
    r"""Linear multi-class support vector machine with a certified duality gap.

    .. math:: \min_{W, b} \tfrac12 |W|^2 + \tfrac12 |b|^2 + C \sum_i \ell_i, \quad f = W x + b

    with, for a sample of class y and p the power of the hinge,

    - ``"ww"`` (Weston-Watkins): :math:`\ell = \sum_{k \ne y} \max(0, 1 - (f_y - f_k))^p`
    - ``"ovr"`` (one-vs-rest): :math:`\ell = \sum_k \max(0, 1 - s_k f_k)^p`, s = 1 for y, else -1
    - ``"cs"`` (Crammer-Singer): :math:`\ell = \max_{k \ne y} \max(0, 1 - (f_y - f_k))^p`

    Parameters
    ----------
    svm : {"ww", "ovr", "cs"}
    hinge : {1, 2}
        The power p.
    C : float
        Cost of the loss.
    tol : float
        Relative duality gap at which to stop. Below 2e-5 the solver goes on in float64.
    scale : {"none", "unit", "standard"}
        The features the problem is solved for: as they are; centred and divided by one number so
        that their mean squared norm is 1; each column standardised. ``coef_`` and ``intercept_``
        always apply to the features as they were given. Without scaling, features far from zero
        or of very different sizes can take thousands of passes.
    max_passes : int
        Limit on effective passes over the data.
    random_state : int, RandomState or None
        Of the order in which samples are visited; without effect on a GPU.
    device : {None, "cpu", "cuda", "cuda:N"}
        Where to train; by default where the features are. Attributes are NumPy arrays in any case.

    Attributes
    ----------
    classes_ : ndarray (K,)
    coef_ : ndarray (K, D)
        (1, D) for two classes: f_1 - f_0 for ``"ww"`` and ``"cs"``, f_1 for ``"ovr"``.
    intercept_ : ndarray (K,) or (1,)
    primal_, dual_, gap_ : float
        Certified in float64 over all samples; gap_ = (primal_ - dual_) / primal_.
    n_iter_ : float
        Effective passes over the data.
    converged_ : bool
    n_features_in_ : int

    Warns
    -----
    ConvergenceWarning
        If ``max_passes`` ended the training; the message names the gap.

    Notes
    -----
    Dual block coordinate descent with exact sub-problems (for Weston-Watkins see Wang and Scott,
    ICML 2021, arXiv 2102.05640); on a GPU an augmented Lagrangian with a semismooth Newton method
    on the primal (:func:`lead_fast.svm_arrays.svm_fit_arrays`), where the search for a direction,
    but nothing that is certified, may take its products in TF32. Memory beyond the
    features: 5 bytes for each sample and class on a CPU, some 50 on a GPU.

    Examples
    --------
    >>> import lead_fast
    >>> model = lead_fast.MultiClassSVM().fit([[0.0], [1.0], [5.0], [6.0]], ["a", "a", "b", "b"])
    >>> model.predict([[0.5], [5.5]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        svm="ww",
        hinge=1,
        C=1.0,
        tol=1e-3,
        scale="none",
        max_passes=1000,
        random_state=0,
        device=None,
    ):
        self.svm = svm
        self.hinge = hinge
        self.C = C
        self.tol = tol
        self.scale = scale
        self.max_passes = max_passes
        self.random_state = random_state
        self.device = device

    def fit(self, X, y):
        """Train.

        Parameters
        ----------
        X : array-like (N, D)
        y : array-like (N,)

        Returns
        -------
        self
        """
        if isinstance(self.random_state, (int, np.integer)):
            seed = integer("random_state", self.random_state, 0, 2**64 - 1)
        else:
            seed = int(check_random_state(self.random_state).randint(2**31))
        options = solver.SvmOptions(
            self.svm, self.hinge, self.C, self.scale, self.tol, self.max_passes, seed
        )
        place = resolve(self.device, X)
        if place is None:
            x, y = self._training_data(to_host(X, "X"), to_host(y, "y"))
        else:
            from .svm_arrays.adapt import memory_errors

            with memory_errors():
                x, y = self._device_data(place, X, to_host(y, "y"))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("labels: at least two classes are needed, found one class")
        labels = Labels(self.classes_, codes)
        mapping = solver.column_map(x, self.scale)
        weights, bias, report, _ = solver.fit(x, labels.codes, labels.n_classes, options, mapping)
        # Fold the map into the coefficients: f = (W s) x + (b - (W s) centre).
        coef = weights * mapping.inverse_scale
        intercept = bias - coef @ mapping.centre
        if len(self.classes_) == 2:
            if self.svm == "ovr":
                coef, intercept = coef[1:], intercept[1:]
            else:
                coef, intercept = np.diff(coef, axis=0), np.diff(intercept)
        self.coef_, self.intercept_ = coef, intercept
        self.primal_, self.dual_, self.gap_ = report.primal, report.dual, report.gap
        self.n_iter_, self.converged_ = report.passes, report.converged
        return self

    def _training_data(self, X, y):
        if not _is_bfloat16(X):
            # Finiteness is checked with the column statistics, which name the row.
            X, y = validate_data(self, X, y, dtype=_DTYPES, ensure_all_finite=False, estimator=self)
            return as_features(X, "X"), y
        x = as_features(X, "X")  # NumPy, and so scikit-learn, has no bfloat16
        y = column_or_1d(y, warn=True)
        check_consistent_length(x.data, y)
        self.n_features_in_ = x.shape[1]
        return x, y

    def _device_data(self, place, X, y):
        if on_gpu(X):
            x = place.features(X, "X")
            y = column_or_1d(y, warn=True)
            check_consistent_length(x.array, y)
            self.n_features_in_ = x.shape[1]
            return x, y
        x, y = self._training_data(X, y)
        return place.features(x, "X"), y

    def decision_function(self, X):
        """Decision values: (N, K), or (N,) for two classes; NumPy arrays for any device."""
        check_is_fitted(self)
        X = to_host(X, "X")
        if _is_bfloat16(X):
            X = as_features(X, "X").to_float()
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        with backend.one_blas_thread():  # several give other bits with some kernels of OpenBLAS
            values = X @ self.coef_.T + self.intercept_
        return values[:, 0] if values.shape[1] == 1 else values

    def predict(self, X):
        """Class of each sample, (N,)."""
        values = self.decision_function(X)
        number = (values > 0).astype(np.intp) if values.ndim == 1 else values.argmax(axis=1)
        return self.classes_[number]
