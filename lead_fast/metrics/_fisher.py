"""Regularised Fisher discriminant analysis, as SFDA, ETran and PED use it.

The public codes solve a generalised eigenproblem S_b v = e S_w v and keep every eigenvector. These
satisfy V V^T = S_w^-1 whatever S_b is, so the discriminant needs one Cholesky factor of S_w only.
"""

import numpy as np

from ..errors import InputError
from ._linalg import add_to_diagonal, cholesky, namespace, solve_lower, triangular

# A feature of which the others explain all but this fraction of the variance, to which float32
# products are good, makes the solution as uncertain as they are.
PIVOT = 1e-4


def shrinkage_of(within):
    """The public codes' ``max(exp(-5 s), 1e-10)``, s the largest eigenvalue after 3 power steps.

    Parameters
    ----------
    within : array (D, D) float64
        Mean within-class scatter.
    """
    right = within.sum(axis=1)
    right = right / _norm(right)  # the products of small features would underflow
    for _ in range(3):
        left = within @ right
        left /= _norm(left)
        right = within @ left
        right /= _norm(right)
    largest = float(right @ (within @ left))
    return max(float(np.exp(-5.0 * largest)), 1e-10)


def _norm(vector):
    largest = float(abs(vector).max())
    norm = largest * float(((vector / largest) ** 2).sum() ** 0.5) if largest > 0.0 else 0.0
    if not norm > 0.0:
        raise InputError(
            "the features do not vary within any class; give at least two different samples of one"
        )
    return norm


def discriminant(within, means, shrinkage):
    """Weights (D, K) of the linear scores, ``S^-1 M^T``, and the smallest pivot of S.

    Parameters
    ----------
    within : array (D, D) float64
        Mean within-class scatter.
    means : array (K, D) float64
        Class means about any one point.
    shrinkage : float
        S is ``(1 - shrinkage) within + shrinkage tr(within) / D I``.

    Returns
    -------
    weights : array (D, K) float64, or None where S is not positive definite
    pivot : float
        Smallest fraction of a feature's variance that the features before it leave unexplained.
    """
    xp = namespace(within)
    d = len(within)
    level = shrinkage * float(xp.trace(within)) / d
    matrix = (1.0 - shrinkage) * within
    add_to_diagonal(matrix, level)
    scale = xp.diagonal(matrix).copy()
    if not float(scale.min()) > 0.0:
        return None, 0.0
    factor = cholesky(matrix, overwrite=True)
    if factor is None:
        return None, 0.0
    pivot = float((xp.diagonal(factor) ** 2 / scale).min())
    return solve_upper(factor, solve_lower(factor, means.T)), pivot


def solve_upper(factor, b):
    """``L^-T b`` for the lower triangle of ``factor``."""
    return triangular(namespace(factor))(factor, b, lower=True, trans=1, check_finite=False)


def first_analysis(shared):
    """Weights (D, K), shrinkage and the :class:`Shared` that was exact enough for them.

    In float32 the products are good to some 1e-7 of each feature's variance; where S_w is so near
    to singular that this shows, float64 takes over.
    """

    def compute():
        source, refined = shared, False
        while True:
            within = source.within / source.n
            shrinkage = shrinkage_of(within)
            centred = source.class_means - source.mean
            weights, pivot = discriminant(within, centred, shrinkage)
            if source.dtype == np.float64:
                if weights is None:
                    raise InputError(
                        "the within-class scatter is not positive definite; "
                        "drop constant and duplicate features"
                    )
                return weights, shrinkage, refined
            if weights is not None and pivot > PIVOT:
                return weights, shrinkage, refined
            source, refined = shared.refined, True

    # Not the Shared itself, which would keep itself and the features.
    weights, shrinkage, refined = shared.once("fisher", compute)
    return weights, shrinkage, shared.refined if refined else shared


def scores(weights, means, counts):
    """Constant term (K,) of the linear scores: ``log prior - m.w / 2``."""
    xp = namespace(weights)
    return xp.log(counts / counts.sum()) - 0.5 * xp.einsum("kd,dk->k", means, weights)


def softmax(values):
    """Softmax over the last axis, in place; returns its argument."""
    values -= values.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        namespace(values).exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values
