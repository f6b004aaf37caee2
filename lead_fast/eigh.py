"""Batched symmetric eigenproblems."""

import numpy as np

from . import backend
from .device import DeviceArray, on_gpu, resolve, split, to_host
from .errors import InputError, InputTypeError
from .features import real_array


def _check_shape(name, shape):
    if 0 in shape:
        raise InputError(f"kernels: that of class {name!r} is empty, shape {shape}")
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"kernels: that of class {name!r} is not square, shape {shape}")


def _check(name, kernel):
    kernel = real_array(to_host(kernel, "kernels"), f"kernels: that of class {name!r}")
    kernel = np.ascontiguousarray(kernel, dtype=np.float64)
    _check_shape(name, kernel.shape)
    if not np.isfinite(kernel).all():
        raise InputError(f"kernels: NaN or infinity in that of class {name!r}")
    size = np.abs(kernel).max(initial=0.0)
    if np.abs(kernel - kernel.T).max(initial=0.0) > 1e-5 * size:
        raise InputError(f"kernels: that of class {name!r} is not symmetric")
    return kernel


def spectrum(kernels, vectors=False, device=None):
    """Eigenvalues of symmetric matrices, many at once.

    Parameters
    ----------
    kernels : dict or array-like (M, S, S)
        ``{class: (S, S)}`` symmetric, sizes may differ; as :func:`class_kernels` returns. Or one
        array of matrices of one size.
    vectors : bool
        Also return eigenvectors.
    device : {None, "cpu", "cuda", "cuda:N"}
        By default where the first matrix is.

    Returns
    -------
    dict
        ``{class: (S,) float64}`` ascending; with ``vectors`` ``{class: (values, V)}``, V (S, S)
        with the eigenvectors in its columns. From a GPU arrays on it, of the library that the
        matrices came from, or of CuPy. Of an array (M, S, S): (M, S), with ``vectors`` also
        (M, S, S).

    Raises
    ------
    InputError
        A matrix that is not square, finite and symmetric, or for which LAPACK did not converge,
        named by its class.

    Notes
    -----
    LAPACK's ``dsyevd``, one matrix per thread: about 4/3 S^3 operations for values, 9 S^3 with
    vectors. Only one triangle is read. On a GPU eigenvalues alone of matrices of up to 128 rows
    (108 where a block has 99 KiB of shared memory) are found by a kernel of the package, a block
    per matrix; all else by cuSOLVER's batched solver, sizes grouped.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> lead_fast.spectrum({"a": np.array([[2.0, 1.0], [1.0, 2.0]])})
    {'a': array([1., 3.])}
    """
    if not hasattr(kernels, "items"):
        return _spectrum_of_stack(kernels, bool(vectors), device)
    names = list(kernels)
    place = resolve(device, *kernels.values())
    if place is not None:
        return _spectrum_on(place, names, [kernels[name] for name in names], bool(vectors))
    matrices = [_check(name, kernels[name]) for name in names]
    with backend.one_blas_thread():
        failed, values, bases = backend.cpu().eigh_batched(
            matrices, bool(vectors), backend.threads()
        )
    if failed >= 0:
        raise InputError(f"kernels: no convergence for class {names[failed]!r}")
    results = zip(values, bases, strict=True) if vectors else values
    return dict(zip(names, results, strict=True))


_FAULTS = (  # bits of csrc/cuda/eigh.h
    (1, "NaN or infinity in that of class {!r}"),
    (2, "that of class {!r} is not symmetric"),
    (4, "no convergence for class {!r}"),
)


def _matrix_on(place, name, kernel):
    """A matrix on the GPU, contiguous, float32 or float64."""
    if not on_gpu(kernel):
        kernel = real_array(kernel, f"kernels: that of class {name!r}").astype(np.float64)
    array = place.bring(kernel, "kernels")
    _check_shape(name, array.shape)
    library, dtype = array.library, array.dtype
    if dtype.startswith("complex"):
        raise InputTypeError(f"kernels: that of class {name!r}: dtype {dtype} is not a real number")
    found = array.array if dtype in ("float32", "float64") else library.cast(array.array, "float64")
    return DeviceArray(library.contiguous(found), library)


def _solve_on(place, addresses, dtype, sizes, names, vectors, own):
    """Flat values and vectors (in rows), :class:`DeviceArray` or None; sizes ascend."""
    values = place.empty((int(sizes.sum()),))
    basis = place.empty((int((sizes**2).sum()),)) if vectors else None
    flags = backend.cuda().eigh_batched(
        addresses, dtype, sizes, own, values.memory(), None if basis is None else basis.memory(),
        *place.where(),
    )  # fmt: skip
    for name, flag in zip(names, flags.tolist(), strict=True):
        for bit, text in _FAULTS:
            if flag & bit:
                raise InputError(f"kernels: {text.format(name)}")
    return values, basis


def _spectrum_on(place, names, kernels, vectors, own=True):
    """:func:`spectrum` on a GPU; ``own=False`` leaves all to cuSOLVER."""
    if not names:
        return {}
    matrices = [_matrix_on(place, *pair) for pair in zip(names, kernels, strict=True)]
    if len({m.dtype for m in matrices}) > 1:
        matrices = [DeviceArray(m.library.cast(m.array, "float64"), m.library) for m in matrices]
    sizes = np.array([m.shape[0] for m in matrices], dtype=np.int64)
    order = np.argsort(sizes, kind="stable")
    sizes = sizes[order]
    addresses = np.array([matrices[i].memory()[0] for i in order], dtype=np.uint64)
    values, basis = _solve_on(
        place, addresses, matrices[0].dtype, sizes, [names[i] for i in order], vectors, own
    )
    results = split(values.array, sizes.tolist(), square=False)
    if vectors:
        bases = split(basis.array, sizes.tolist(), square=True)
        results = [(w, v.T) for w, v in zip(results, bases, strict=True)]
    placed = dict(zip(order.tolist(), results, strict=True))
    return {name: placed[i] for i, name in enumerate(names)}


def _stack_on(place, stack, vectors, own=True):
    """The same for an array (M, S, S)."""
    library = stack.library
    if stack.dtype not in ("float32", "float64"):
        stack = DeviceArray(library.cast(stack.array, "float64"), library)
    stack = DeviceArray(library.contiguous(stack.array), library)
    count, n, _ = stack.shape
    if count == 0:
        empty = place.empty((0, n)).array
        return (empty, place.empty((0, n, n)).array) if vectors else empty
    step = n * n * (4 if stack.dtype == "float32" else 8)
    addresses = stack.memory()[0] + step * np.arange(count, dtype=np.uint64)
    sizes = np.full(count, n, dtype=np.int64)
    values, basis = _solve_on(place, addresses, stack.dtype, sizes, range(count), vectors, own)
    values = values.array.reshape(count, n)
    return (values, basis.array.reshape(count, n, n).swapaxes(1, 2)) if vectors else values


def _spectrum_of_stack(stack, vectors, device):
    place = resolve(device, stack)
    if place is not None:
        if not on_gpu(stack):
            stack = real_array(stack, "kernels").astype(np.float64)
        stack = place.bring(stack, "kernels")
        if stack.dtype.startswith("complex"):
            raise InputTypeError(f"kernels: dtype {stack.dtype} is not a real number")
    else:
        stack = real_array(to_host(stack, "kernels"), "kernels")
    if len(stack.shape) != 3:
        raise InputTypeError(
            f"kernels: expected a dictionary {{class: matrix}} or an array (M, S, S), "
            f"not shape {stack.shape}"
        )
    _check_shape("0", stack.shape[1:])
    if place is not None:
        return _stack_on(place, stack, vectors)
    found = list(spectrum(dict(enumerate(stack)), vectors).values())
    n = stack.shape[1]
    if vectors:
        values, bases = ([pair[i] for pair in found] for i in (0, 1))
        return np.array(values).reshape(-1, n), np.array(bases).reshape(-1, n, n)
    return np.array(found).reshape(-1, n)
