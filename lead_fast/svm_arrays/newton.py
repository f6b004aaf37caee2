"""Newton's direction by conjugate gradients, for all classes at once, and the step along it."""

import numpy as np


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
    """Step lengths at which a convex function's slope has fallen to ``enough`` of its start.

    ``slope(t)`` for t (1, G), one of each group, ``at_zero`` its value at 0, negative; ndarrays.
    Starts with 1, goes on by the secant inside a bracket.
    """
    start = np.asarray(at_zero)
    low, low_slope = np.zeros_like(start), start
    high, high_slope = np.full_like(start, np.inf), np.full_like(start, np.inf)
    t = np.where(start < 0, 1.0, 0.0)
    for _ in range(tries):
        now = slope(t)
        done = (abs(now) <= enough * abs(start)) | (start >= 0)
        if done.all():
            break
        rising = now > 0
        high, high_slope = np.where(rising, t, high), np.where(rising, now, high_slope)
        low, low_slope = np.where(rising, low, t), np.where(rising, low_slope, now)
        bounded = np.isfinite(high)
        top = np.where(bounded, high, 2 * t)
        rise = np.where(bounded, high_slope, 0) - np.where(bounded, low_slope, -1)
        share = np.where(bounded, -low_slope / np.where(rise > 0, rise, 1), 1)
        guess = low + (top - low) * np.where(bounded, np.clip(share, 0.05, 0.95), 1)
        t = np.where(done, t, guess)
    return t
