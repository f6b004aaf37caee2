"""LEAD with the options that ranked best on tasks they were not chosen on."""

from ..lead import Lead


class LeadPlus(Lead):
    r"""Mean log-probability of labels that LEAD's SVM has not seen, on standardised features.

    .. math:: \frac{1}{N} \sum_i \log p_i[y_i]

    with p the soft-max of the decision values of an SVM trained on the other folds. It is
    :func:`lead_fast.lead` with ``cross_fit=3, time=0, scale="standard", C=0.1``: the initial state
    of LEAD, held out, without evolution. It is not the paper's method, which is ``"lead"``.

    Parameters
    ----------
    labels : array-like (N,)
    cross_fit, C, scale, svm, hinge, tol, max_passes, seed, device
        As for :func:`lead_fast.lead`.

    Warns
    -----
    ConvergenceWarning, ScoreWarning, SaturationWarning
        As :func:`lead_fast.lead`.

    Notes
    -----
    At most 0. Over eight tasks of two zoos of small networks its mean weighted tau is 0.52, that of
    PARC 0.52, of ``"lead"`` 0.07, and on no task it is below 0.2; but with 16 models the interval
    of a tau is 0.6 to 0.9 wide. Whichever task is left out, the others choose these options among
    LEAD's. ``bench/RANKING.md`` has all of it, and what did not help.

    Each column is divided by its standard deviation, so that scaling the features, all or single
    ones, changes nothing.

    Time: three SVMs on two thirds of the samples each, about twice that of ``"lead"``. Memory: that
    of ``"lead"``.

    References
    ----------
    "Exploring Logit Space Evolution for Model Selection", CVPR 2024 (LEAD).

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "lead+")
    >>> lead_fast.score(x, y, "lead+") < far < 0
    True
    """

    def __init__(
        self, labels, *, cross_fit=3, C=0.1, scale="standard", svm="ww", hinge=1, tol=1e-3,
        max_passes=1000, seed=0, device=None,
    ):  # fmt: skip
        super().__init__(
            labels, time=0.0, cross_fit=cross_fit, C=C, scale=scale, svm=svm, hinge=hinge, tol=tol,
            max_passes=max_passes, seed=seed, device=device,
        )  # fmt: skip
