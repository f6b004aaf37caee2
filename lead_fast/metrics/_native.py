"""The kernels of csrc/cuda that metrics use, on arrays of CuPy.

What they work with comes from :func:`lead_fast.svm_arrays.native.kernels`.
"""


def softmax_pass(kernels, features, codes, weight, weights, bias):
    """What :class:`._softmax_pass.Pass` returns, for centred features (N, W).

    Parameters
    ----------
    kernels : Kernels
    features : array (N, W) float32 or float64, rows contiguous
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
