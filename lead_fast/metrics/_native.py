"""The kernels of csrc/cuda that metrics use, on arrays of CuPy.

What they work with comes from :func:`lead_fast.svm_arrays.native.kernels`.
"""

import numpy as np


def softmax_pass(kernels, features, codes, weight, weights, bias):
    """What :class:`._softmax_pass.Pass` returns, for centred features (N, W).

    Parameters
    ----------
    kernels : Kernels
    features : array (N, W) float32 or float64, C-contiguous
    codes : array (N,) int64
    weight : array (N,) float64
        What the curvature of each sample counts.
    weights : array (K, W) float64
    bias : array (K,) float64
    """
    xp, memory = kernels.xp, kernels.memory
    weights, bias = xp.ascontiguousarray(weights), xp.ascontiguousarray(bias)
    gradient, sums = xp.empty(weights.shape), xp.empty(2 + len(bias))
    kernels.module.softmax_pass(
        memory(features), memory(codes), memory(weight), memory(weights), memory(bias),
        memory(gradient), memory(sums), *kernels.where,
    )  # fmt: skip
    return sums[:2], gradient, sums[2:]


def first_centres(kernels, z, norms, count, first, draws):
    """Numbers (M,) int64 of samples that are far apart, see :func:`._mixture_arrays.clusters`.

    Parameters
    ----------
    kernels : Kernels
    z : array (N, C) float32 or float64
    norms : array (N,)
        Squared lengths, of the type of z.
    count : int
        M.
    first : int
        The first sample.
    draws : array (M - 1, 8) float64
        From 0 to below 1.
    """
    memory, chosen = kernels.memory, kernels.xp.empty(count, np.int64)
    kernels.module.kmeans_first(
        memory(z), memory(norms), first, memory(draws), memory(chosen), *kernels.where
    )
    return chosen


def rounds(kernels, z, centres, labels, count):
    """As :func:`._mixture_arrays._rounds`; labels are overwritten."""
    xp, memory = kernels.xp, kernels.memory
    tried = xp.empty((count + 1, *centres.shape), z.dtype)
    tried[0] = centres
    ends = kernels.module.kmeans_rounds(memory(z), memory(tried), memory(labels), *kernels.where)
    return tried, labels, ends
