"""Batched symmetric eigenproblems."""

import numpy as np

from . import backend
from .errors import InputError, InputTypeError
from .features import real_array


def _check(name, kernel):
    kernel = real_array(kernel, f"kernels: that of class {name!r}")
    kernel = np.ascontiguousarray(kernel, dtype=np.float64)
    if 0 in kernel.shape:
        raise InputError(f"kernels: that of class {name!r} is empty, shape {kernel.shape}")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise InputError(f"kernels: that of class {name!r} is not square, shape {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise InputError(f"kernels: NaN or infinity in that of class {name!r}")
    size = np.abs(kernel).max(initial=0.0)
    if np.abs(kernel - kernel.T).max(initial=0.0) > 1e-5 * size:
        raise InputError(f"kernels: that of class {name!r} is not symmetric")
    return kernel


def spectrum(kernels, vectors=False):
    """Eigenvalues of symmetric matrices, many at once.

    Parameters
    ----------
    kernels : dict
        ``{class: (S, S)}`` symmetric, sizes may differ; as :func:`class_kernels` returns.
    vectors : bool
        Also return eigenvectors.

    Returns
    -------
    dict
        ``{class: (S,) float64}`` ascending; with ``vectors`` ``{class: (values, V)}``, V (S, S)
        with the eigenvectors in its columns.

    Raises
    ------
    InputError
        A matrix that is not square, finite and symmetric, or for which LAPACK did not converge,
        named by its class.

    Notes
    -----
    LAPACK's ``dsyevd``, one matrix per thread: about 4/3 S^3 operations for values, 9 S^3 with
    vectors. Only the lower triangle is read.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> lead_fast.spectrum({"a": np.array([[2.0, 1.0], [1.0, 2.0]])})
    {'a': array([1., 3.])}
    """
    if not hasattr(kernels, "items"):
        raise InputTypeError("kernels: expected a dictionary {class: matrix}")
    names = list(kernels)
    matrices = [_check(name, kernels[name]) for name in names]
    with backend.one_blas_thread():
        failed, values, bases = backend.cpu().eigh_batched(
            matrices, bool(vectors), backend.threads()
        )
    if failed >= 0:
        raise InputError(f"kernels: no convergence for class {names[failed]!r}")
    results = zip(values, bases, strict=True) if vectors else values
    return dict(zip(names, results, strict=True))
