"""Variances of the features within each class, in one read of them."""


def class_variances(shared):
    """Class means and biased variances, two arrays (K, D) float64.

    Computed in float64 by the native code, each class about a point near its own mean.
    """
    return shared.class_means, shared.class_variances
