"""The multi-class SVM on arrays of NumPy or CuPy: what GPUs run."""

from .rows import column_statistics
from .solve import Fit, svm_fit_arrays

__all__ = ["Fit", "column_statistics", "svm_fit_arrays"]
