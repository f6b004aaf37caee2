"""Variances of the features within each class, in one read of them."""

import numpy as np

from .. import backend


def class_variances(shared):
    """Class means and biased variances, two arrays (K, D) float64.

    Computed in float64 by the native code, each class about a point near its own mean.
    """

    def compute():
        means = np.zeros((shared.k, shared.d))
        variances = np.zeros((shared.k, shared.d))
        for number, rows in enumerate(shared.labels.rows_by_class()):
            found = backend.cpu().column_statistics(
                shared.features.data, shared.features.dtype, rows, backend.threads()
            )
            means[number], variances[number] = found["mean"], found["variance"]
        return means, variances

    return shared.once("class variances", compute)
