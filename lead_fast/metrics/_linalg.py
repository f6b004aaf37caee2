"""Dense linear algebra on the arrays of one namespace, NumPy or CuPy.

What a metric needs beyond products: sums of outer products, a Cholesky factor, an eigensystem, and
the tridiagonal form that answers questions about a spectrum for half the price of eigenvectors.
"""

import importlib
from contextlib import nullcontext

import numpy as np

_BATCHED = 64  # columns of a stack that batched factorisations take at a time


def namespace(array):
    """NumPy for its arrays, CuPy for its own."""
    return np if isinstance(array, np.ndarray) else importlib.import_module("cupy")


def to_numpy(array):
    """The array in the host's memory."""
    return array if isinstance(array, np.ndarray) else array.get()


def add_to_diagonal(a, value):
    """Add a number, or one for each place, to the diagonal of `a`, in place."""
    place = namespace(a).arange(len(a))
    a[place, place] += value


def lower_factor(a):
    """Lower factor L of ``a = L L^T``, clean, or None; by the namespace's own function."""
    xp = namespace(a)
    try:
        with _checked(xp):
            factor = xp.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return None
    return factor if bool(xp.isfinite(factor.diagonal()).all()) else None


def _checked(xp):
    """A context in which factorisations that fail say so; CuPy does not ask by itself."""
    return nullcontext() if xp is np else importlib.import_module("cupyx").errstate(linalg="raise")


def inverse_factors(stack):
    """Inverse Cholesky factors (M, D, D) of a stack, and half the log-determinants (M,); or None.

    For matrices that are small and many, with products of whole stacks: a GPU's batched
    factorisations and inverses are slow beyond a few dozen columns.

    Parameters
    ----------
    stack : array (M, D, D) float64, symmetric
        Overwritten.
    """
    xp, (count, d, _) = namespace(stack), stack.shape
    inverse, half = xp.zeros_like(stack), xp.zeros(count)
    for start in range(0, d, _BATCHED):
        stop = min(start + _BATCHED, d)
        here, done, rest = slice(start, stop), slice(start), slice(stop, d)
        column = stack[:, start:, here]
        if start:
            column -= stack[:, start:, done] @ xp.swapaxes(stack[:, here, done], 1, 2)
        try:
            with _checked(xp):
                corner = xp.linalg.cholesky(stack[:, here, here])
        except np.linalg.LinAlgError:
            return None
        half += xp.log(xp.diagonal(corner, axis1=1, axis2=2)).sum(axis=1)
        corner = xp.tril(xp.linalg.inv(corner))
        inverse[:, here, here] = corner
        if start:
            above = stack[:, here, done] @ inverse[:, done, done]
            inverse[:, here, done] = -(corner @ above)
        if stop < d:
            stack[:, rest, here] = stack[:, rest, here] @ xp.swapaxes(corner, 1, 2)
    return (inverse, half) if bool(xp.isfinite(half).all()) else None


def triangular(xp):
    """The solver for triangular matrices of a namespace."""
    home = "scipy.linalg" if xp is np else "cupyx.scipy.linalg"
    return importlib.import_module(home).solve_triangular


def outer_sum(block, out=None, work=None):
    """Add ``block.T @ block`` to ``out`` in float64, only on and above the diagonal on the CPU.

    Parameters
    ----------
    block : array (B, D), float32 or float64, rows contiguous
    out : array (D, D) float64, optional
        Fortran order on the CPU. Only its upper triangle counts, see :func:`mirror`.
    work : array (D, D) float32, optional
        Fortran order; room for a float32 product.
    """
    xp = namespace(block)
    if xp is not np:
        product = block.T @ block
        if out is None:
            return product.astype(xp.float64)
        out += product
        return out
    from scipy.linalg import blas

    if block.dtype == np.float64:
        if out is None:
            return outer(block)
        return blas.dsyrk(1.0, block.T, beta=1.0, c=out, overwrite_c=True)
    product = outer(block, work)
    if out is None:
        return product.astype(np.float64, order="F")
    # Blocks are added in float64, so the error does not grow with their number.
    return np.add(out, product, out=out)


def outer(block, out=None):
    """``block.T @ block`` in the block's own type, only on and above the diagonal on the CPU.

    `out`, in Fortran order and of the same type, is overwritten on the CPU where it is given; below
    its diagonal it stays as it is.
    """
    xp = namespace(block)
    if xp is not np:
        return block.T @ block
    from scipy.linalg import blas

    syrk = blas.dsyrk if block.dtype == np.float64 else blas.ssyrk
    # A C-contiguous (B, D) is a Fortran-contiguous (D, B): its own transpose, without a copy.
    if out is None:
        return syrk(1.0, block.T)
    return syrk(1.0, block.T, beta=0.0, c=out, overwrite_c=True)


def plus_outer(a, rows):
    """``a + rows.T @ rows``, a new array in Fortran order, for symmetric `a` and a few rows."""
    if namespace(rows) is not np:
        return a + rows.T @ rows
    from scipy.linalg import blas

    out = np.array(a, order="F")
    return mirror(blas.dsyrk(1.0, np.ascontiguousarray(rows).T, beta=1.0, c=out, overwrite_c=True))


def mirror(upper):
    """Copy the upper triangle of a square array onto the lower one, in place; return it."""
    n = len(upper)
    step = 256
    for start in range(0, n, step):
        stop = min(start + step, n)
        square = upper[start:stop, start:stop]
        corner = namespace(upper).triu(square)
        square[...] = corner + namespace(upper).triu(square, 1).T
        upper[stop:, start:stop] = upper[start:stop, stop:].T
    return upper


def cholesky_upper(a):
    """Upper factor U of ``a = U^T U``, or None if rounding has made `a` indefinite.

    Parameters
    ----------
    a : array (D, D) float32 or float64
        Only its upper triangle is read on the CPU; full on a GPU. Overwritten on the CPU if in
        Fortran order.

    Returns
    -------
    array (D, D) or None
        Anything below the diagonal.
    """
    xp = namespace(a)
    if xp is not np:
        factor = lower_factor(a)
        return None if factor is None else factor.T
    from scipy.linalg import lapack

    potrf = lapack.spotrf if a.dtype == np.float32 else lapack.dpotrf
    factor, info = potrf(a, lower=0, clean=0, overwrite_a=1)
    return factor if info == 0 else None


def cholesky(a, overwrite=False):
    """Lower factor L of ``a = L L^T`` (garbage above the diagonal), or None if there is none.

    Parameters
    ----------
    a : array (D, D) float32 or float64, symmetric, full storage
    overwrite : bool
        Whether `a` may be overwritten.
    """
    xp = namespace(a)
    if xp is not np:
        return lower_factor(a)
    from scipy.linalg import lapack

    potrf = lapack.spotrf if a.dtype == np.float32 else lapack.dpotrf
    # Symmetric: the transpose of a C-ordered array is the same matrix in Fortran order.
    factor, info = potrf(
        a if a.flags.f_contiguous else a.T, lower=1, clean=0, overwrite_a=int(overwrite)
    )
    return factor if info == 0 else None


def solve_lower(factor, b):
    """``L^-1 b`` for the lower triangle of `factor`."""
    return triangular(namespace(factor))(factor, b, lower=True, check_finite=False)


def solve_transposed(factor, b):
    """``U^-T b`` for the upper triangle U of `factor`."""
    return triangular(namespace(factor))(factor, b, trans="T", lower=False, check_finite=False)


# A factor is used where every pivot keeps this share of its diagonal entry. Rounding, 1e-7 of the
# entry in float32 and 1e-16 in float64, is then small beside it and beside what it adds to those
# after it: at a share p they err by rounding / p, which has to stay below p itself.
SAFE_PIVOT = 3e-3
SAFE_PIVOT_WIDE = 1e-11


def log_determinant(a, narrow):
    """Logarithm of the determinant of a positive definite array, or None if that is too uncertain.

    Parameters
    ----------
    a : array (D, D) float32 or float64
        Only its upper triangle is read; overwritten in Fortran order, see :func:`cholesky_upper`.
    narrow : bool
        Whether it comes from products in float32.

    Returns
    -------
    float or None
        None if `a` is indefinite or a pivot is not safe.
    """
    diagonal = a.diagonal().astype(np.float64)
    factor = cholesky_upper(a)
    if factor is None:
        return None
    pivots = factor.diagonal().astype(np.float64) ** 2
    safe = SAFE_PIVOT if narrow else SAFE_PIVOT_WIDE
    if not bool((pivots > safe * diagonal).all()):
        return None
    return float(namespace(pivots).log(pivots).sum())


def plus_outer_narrow(upper, rows):
    """``upper + rows.T @ rows`` in float32, Fortran order, on and above the diagonal."""
    out = upper.astype(np.float32, order="F")
    narrow = rows.astype(np.float32)
    if namespace(rows) is not np:
        out += narrow.T @ narrow
        return out
    from scipy.linalg import blas

    return blas.ssyrk(1.0, narrow.T, beta=1.0, c=out, overwrite_c=True)


def add_outer(a, vector):
    """Add ``vector vector^T`` to the upper triangle of `a`, in place on the CPU; return it."""
    if namespace(a) is not np:
        a += vector[:, None] * vector
        return a
    from scipy.linalg import blas

    syr = blas.ssyr if a.dtype == np.float32 else blas.dsyr
    return syr(1.0, vector.astype(a.dtype), a=a, overwrite_a=True)


def eigh(a):
    """Eigenvalues (ascending) and eigenvectors (columns) of a symmetric array, full storage."""
    xp = namespace(a)
    if xp is not np:
        return xp.linalg.eigh(a)
    from scipy.linalg import eigh

    return eigh(a, check_finite=False, driver="evd")


class Tridiagonal:
    """``a = Q T Q^T`` with T tridiagonal: all that ridge problems need, and some eigenvectors.

    Parameters
    ----------
    a : array (D, D) float32 or float64, symmetric, full storage
        Overwritten where it is in Fortran order.

    Attributes
    ----------
    eigenvalues : ndarray (D,) float64, ascending

    Notes
    -----
    On the CPU 4/3 D^3 operations, against about 4 D^3 and more for all eigenvectors; 2 D^2 for each
    that is asked for. On a GPU the eigensystem itself (T is then diagonal), as CuPy has no
    tridiagonal reduction.
    """

    def __init__(self, a):
        self._xp = namespace(a)
        if self._xp is not np:
            values, self._q = self._xp.linalg.eigh(a)
            self._d, self._e = to_numpy(values), None
            self.eigenvalues = self._d
            return
        from scipy.linalg import lapack

        n = len(a)
        if n == 1:
            self._d, self._e, self._q = a[0].astype(np.float64), np.zeros(0), None
            self.eigenvalues = self._d
            return
        single = a.dtype == np.float32
        reduce, size = (
            (lapack.ssytrd, lapack.ssytrd_lwork) if single else (lapack.dsytrd, lapack.dsytrd_lwork)
        )
        work = int(size(n, lower=1)[0])
        packed, d, e, self._tau, info = reduce(a, lower=1, lwork=max(work, 64 * n), overwrite_a=1)
        assert info == 0, info
        self._d, self._e = d.astype(np.float64), e.astype(np.float64)
        # The reflectors of a lower reduction leave the first row alone.
        self._q = np.asfortranarray(packed[1:, :-1])
        values, info = lapack.dsterf(self._d, self._e)
        if info != 0:
            raise np.linalg.LinAlgError("the eigenvalues of a tridiagonal matrix did not converge")
        self.eigenvalues = values

    def leading_vectors(self, count):
        """Eigenvectors of the `count` largest eigenvalues, (D, count), the largest first."""
        if self._xp is not np:
            return self._q[:, ::-1][:, :count]
        if len(self._d) == 1:
            return np.ones((1, 1))
        from scipy.linalg import eigh_tridiagonal

        n = len(self._d)
        last = {"select": "i", "select_range": (n - count, n - 1), "check_finite": False}
        try:
            _, vectors = eigh_tridiagonal(self._d, self._e, lapack_driver="stemr", **last)
        except np.linalg.LinAlgError:  # it gives up on some matrices
            _, vectors = eigh_tridiagonal(self._d, self._e, lapack_driver="stebz", **last)
        return self.rotate(vectors[:, ::-1], back=True)

    def rotate(self, b, back=False):
        """``Q^T b``, or ``Q b``, for b (D, K)."""
        if self._xp is not np:
            b = self._xp.asarray(b)
            return self._q @ b if back else self._q.T @ b
        from scipy.linalg import lapack

        if self._q is None:
            return np.array(b, dtype=np.float64, order="F")
        out = np.array(b, dtype=self._q.dtype, order="F")
        multiply = lapack.sormqr if out.dtype == np.float32 else lapack.dormqr
        out[1:], _, info = multiply(
            "L", "N" if back else "T", self._q, self._tau, out[1:], lwork=64 * max(out.shape)
        )
        assert info == 0, info
        return out

    def solve(self, shift, b):
        """``(T + shift)^-1 b`` for one ndarray b (D,) and shift > 0, T positive semidefinite."""
        if self._e is None:
            return b / (self._d + shift)
        from scipy.linalg import lapack

        if len(self._d) == 1:
            return b / (self._d + shift)
        _, _, x, info = lapack.dptsv(self._d + shift, self._e, b)
        if info != 0:  # rounding has made T + shift indefinite: the general solver
            *_, x, info = lapack.dgtsv(self._e, self._d + shift, self._e, b)
        return x
