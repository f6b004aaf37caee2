"""Which neighbours of a ranking can be told apart, given several draws of each score."""

import math

import numpy as np


def group(scores, draws, level=0.95):
    """Group the models of a ranking that the draws do not tell apart.

    Going down the ranking, a model joins the group of the one before it unless its mean differs
    from that of the group's best by more than chance: Student's interval, at the given level, of
    the mean difference between draws of the same seed. Such pairs share samples (and between models
    of one width also the head), so that what they have in common cancels.

    Parameters
    ----------
    scores : sequence of float or None
        Best first; None where there is none.
    draws : sequence of sequences of float
        The score by each seed, in the same order of seeds; fewer than 2 for a score without chance.
    level : float
        Between 0 and 1.

    Returns
    -------
    list of int or None
        Numbers from 1 on, not decreasing; None where there is no score.

    Notes
    -----
    The interval is for one comparison: among many models some neighbours are parted by chance. A
    small group says that other seeds would rank its members after the others, not that fine-tuning
    would.

    Examples
    --------
    >>> group([3.0, 2.0, 1.9], [[3.1, 2.9], [2.4, 1.6], [1.8, 2.0]])
    [1, 1, 1]
    >>> group([3.0, 2.0, 1.9], [[3.0, 3.0], [2.05, 1.95], [1.8, 2.0]])
    [1, 2, 2]
    """
    found, number, best = [], 0, None
    for score, drawn in zip(scores, draws, strict=True):
        if score is None:
            found.append(None)
            continue
        if best is None or _differ(best, (score, drawn), level):
            number, best = number + 1, (score, drawn)
        found.append(number)
    return found


def _differ(one, other, level):
    import scipy.stats  # half a second, which a ranking without draws does not need

    (first, a), (second, b) = one, other
    if len(a) < 2 and len(b) < 2:
        return first != second
    # A score without chance is the same by every seed.
    count = max(len(a), len(b))
    a, b = (np.broadcast_to(np.asarray(d or [s]), count) for s, d in ((first, a), (second, b)))
    difference = a - b
    error = difference.std(ddof=1) / math.sqrt(count)
    return abs(difference.mean()) > scipy.stats.t.ppf(0.5 + level / 2, count - 1) * error
