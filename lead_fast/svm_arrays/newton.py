"""Newton's direction by conjugate gradients, for all classes at once, and the step along it."""

import numpy as np

from .. import backend


def direction(xp, z, gradient, curvature, group, ratio, most, check_every=1, precondition=None):
    """Solve (I - d/dv of g^T Z) p = -gradient to ``ratio`` of the residual it starts with.

    Parameters
    ----------
    xp : module
    z : object
        Rows that the curvature does not leave out, with ``times`` and ``transposed_times``.
    gradient : (K, D + 1) array
    curvature : callable
        (n, K) decision values of a direction -> (n, K) coefficients, negative semi-definite.
    group : callable
        (K,) sums of each class -> (K, 1), or (1, 1) where classes are coupled.
    ratio : float
    most : int
        Limit on steps.
    check_every : int
        Steps between two looks at the residual, each of which waits for the device.
    precondition : callable, optional
        Of a residual (K, D + 1), symmetric and positive definite.

    Returns
    -------
    p : (K, D + 1) array
    steps : int
    """

    def dot(a, b):
        return group((a * b).sum(axis=1, dtype=np.float64))

    def divide(a, b):
        return xp.where(b > 0, a / xp.where(b > 0, b, 1), 0).astype(gradient.dtype)

    p = xp.zeros_like(gradient)
    r = -gradient
    s = r if precondition is None else precondition(r)
    d = s.copy()
    rs = dot(r, s)
    goal = ratio * ratio * float(dot(r, r).sum())
    for steps in range(1, most + 1):
        hd = d - z.transposed_times(curvature(z.times(d))).astype(d.dtype)
        alpha = divide(rs, dot(d, hd))
        p += alpha * d
        r -= alpha * hd
        s = r if precondition is None else precondition(r)
        before, rs = rs, dot(r, s)
        if steps % check_every == 0 and not float(dot(r, r).sum()) > goal:
            break
        d *= divide(rs, before)
        d += s
    return p, steps


def line_search(slope, at_zero, tries=8, enough=0.1):
    """Step lengths at which convex functions' slopes have fallen to ``enough`` of their start.

    Starts with 1, goes on by the secant inside a bracket; see csrc/line_search.h.

    Parameters
    ----------
    slope : callable
        (G,) step lengths, one of each function -> (G,) slopes; ndarrays of float64.
    at_zero : (G,) ndarray
        Slopes at 0; where one is not negative, the length is 0.
    tries : int
        Most calls of ``slope``.
    enough : float

    Returns
    -------
    (G,) ndarray
    """
    return backend.cpu().line_search(slope, at_zero, tries, enough)
