"""Features that look like the pooled output of a backbone, for benchmarks and examples.

Non-negative (a ReLU, then pooling), 70 % zeros, a decaying spectrum, class structure of rank 256,
and overlapping classes: a linear classifier gets about 0.8 of held-out samples right.
"""

import numpy as np


def backbone_features(n, d, n_classes, *, rank=256, zeros=0.7, separation=None, seed=0):
    """Draw labelled features.

    Parameters
    ----------
    n, d, n_classes : int
        Samples, feature width, classes.
    rank : int
        Rank of the latent space in which the classes differ.
    zeros : float
        Fraction of the features that the ReLU sets to zero.
    separation : float, optional
        Distance of the class means in units of the latent noise; by default one that gives about
        0.8 held-out accuracy for 10 and for 100 classes.
    seed : int
        The same seed gives the same features.

    Returns
    -------
    features : (n, d) float32
    labels : (n,) int64
    """
    rng = np.random.default_rng(seed)
    if separation is None:
        separation = 4.7 if n_classes <= 10 else 7.2
    labels = rng.integers(0, n_classes, n)
    spectrum = np.arange(1, rank + 1) ** -0.5
    means = rng.standard_normal((n_classes, rank), dtype=np.float32)
    means *= separation / np.sqrt(2 * rank)
    mixing = rng.standard_normal((rank, d), dtype=np.float32) * spectrum[:, None].astype(np.float32)
    mixing /= np.sqrt((spectrum**2).sum())
    shift = rng.normal(0.0, 0.3, d).astype(np.float32)
    features = np.empty((n, d), np.float32)
    threshold = None
    for start in range(0, n, 4096):
        rows = slice(start, min(n, start + 4096))
        latent = rng.standard_normal((rows.stop - start, rank), dtype=np.float32)
        latent += means[labels[rows]]
        block = latent @ mixing
        block += shift
        block += 0.1 * rng.standard_normal(block.shape, dtype=np.float32)
        if threshold is None:
            threshold = np.quantile(block, zeros)
        np.maximum(block - threshold, 0.0, out=features[rows])
    return features, labels
