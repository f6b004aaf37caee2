"""PACTran: a PAC-Bayesian bound on the loss of a linear classifier."""

import numpy as np

from .._caller import warn_caller
from ..errors import ConvergenceWarning
from ..options import flag, integer, real
from ..options import seed as check_seed
from ._base import Metric, warn
from ._softmax import fit
from ._softmax_pass import descend

_TOL = {"float32": 1e-6, "float64": 1e-18}
_LOG_OF_ONE = 1e-10  # of the public code: log(label + 1e-10)


class PACTran(Metric):
    r"""Minus the PAC-Bayesian bound with a Gaussian posterior around softmax regression.

    .. math:: \min_{W, b} \frac{1}{N} \sum_i -\log p_i[y_i] + \frac{\|W\|^2}{2 \lambda N}
              + \frac{K D}{2 \lambda N} s^2 \log\left(\frac{\lambda N}{K D} \mathrm{tr} H\right)

    with features centred, :math:`s^2` = ``s2_factor / D`` and H the diagonal of the second
    derivatives of N times the loss, by the biases too, plus :math:`1 / (\lambda N)` for each of the
    K D weights (so in the public code, which scales the two parts differently and leaves the
    biases out of K D).

    Parameters
    ----------
    labels : array-like (N,)
    lambda_factor : float
        :math:`\lambda`.
    s2_factor : float or None
        The prior's variance times D; the public code takes 100 and 10 times lambda, and ranks by
        the first, which is the default here.
    flatness : bool
        False leaves the last term away: minus the regularised cross-entropy.
    max_passes : int
        Limit on the evaluations of loss and gradient.
    steps : int, optional
        Stop after so many steps of L-BFGS from a random start, as the public code does after 10 or
        100; by default the optimum.
    seed : int
        Of that start; the public code takes none.
    dtype : {"float32", "float64"}
    device : {None, "cpu", "cuda", "cuda:N"}

    Warns
    -----
    ConvergenceWarning
        ``max_passes`` was reached, or rounding hides how to go on while there is more to gain than
        it hides of the loss. Not with ``steps``, which is no attempt to converge.
    ScoreWarning
        Fewer samples than features: any labels can be fitted, and only the weights' norm tells.

    Notes
    -----
    The public code stops L-BFGS after 10 or 100 iterations from a random start, and its score
    depends on both (``steps``). By default this one converges, until the next step promises a gain
    of less than 1e-6 of the loss (1e-18 in float64): L-BFGS on the preconditioner
    ``X^T X / (K N) + 1 / (lambda N)``.

    Time: N D^2 (shared) and D^3 / 3 for the preconditioner, then some 20 to 60 passes of 4 N D K
    and 2 D^2 K; with ``steps`` as many passes and some more. Memory: two D x D, three on a GPU, and
    13 to 43 K x D in float64. At most 0. A class of one sample and a constant feature are nothing
    special.

    References
    ----------
    Ding, Chen, Levinboim, Changpinyo, Soricut, "PACTran: PAC-Bayesian Metrics for Estimating the
    Transferability of Pretrained Models to Classification Tasks", ECCV 2022, Eq. 8.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8))
    >>> far = lead_fast.score(x + 4 * np.eye(3, 8)[y], y, "pactran")
    >>> lead_fast.score(x, y, "pactran") < far
    True
    """

    name = "pactran"

    def __init__(
        self, labels, *, lambda_factor=1.0, s2_factor=None, flatness=True, max_passes=2000,
        steps=None, seed=0, dtype="float32", device=None,
    ):  # fmt: skip
        super().__init__(labels, device, dtype)
        self.lambda_factor = real("lambda_factor", lambda_factor, positive=True)
        self.s2_factor = (
            100.0 * self.lambda_factor
            if s2_factor is None
            else real("s2_factor", s2_factor, positive=True)
        )
        self.flatness = flag("flatness", flatness)
        self.max_passes = integer("max_passes", max_passes, 1)
        self.steps = None if steps is None else integer("steps", steps, 1)
        self.seed = check_seed(seed)

    def evaluate(self, shared):
        """The score from one model's features."""
        n, d = shared.n, shared.d
        if n < d:
            warn(
                f"fewer samples ({n}) than features ({d}): a linear classifier can fit any labels, "
                "so the score may not discriminate"
            )
        strength = self.lambda_factor * n
        if self.steps is not None:
            key = "descent", self.lambda_factor, self.steps, self.seed
            _, loss, curvature, _ = shared.once(
                key, lambda: descend(shared, 1.0 / strength, self.steps, self.seed)
            )
            return self._bound(loss, curvature, shared)
        found = self.fitted(shared)
        if not found.converged:
            warn_caller(
                f"pactran: {found.passes} passes left a gain of {found.gain:.2g} in a loss of "
                f"{found.loss:.6g}; "
                + (
                    "raise max_passes"
                    if found.passes >= self.max_passes
                    else "no step lowers it any further; rescale the features"
                ),
                ConvergenceWarning,
            )
        return self._bound(found.loss, found.curvature, shared)

    def _bound(self, loss, curvature, shared):
        """The score from the mean loss and the sum of the curvatures."""
        n, d, k = shared.n, shared.d, shared.k
        strength, loss = self.lambda_factor * n, loss + _LOG_OF_ONE
        if not self.flatness:
            return -loss
        curvature = (curvature + d * k / strength) * strength / (k * d)
        s2 = self.s2_factor / d
        return -(loss + 0.5 * k * d / strength * s2 * np.log(curvature + 1e-10))

    def fitted(self, shared):
        """The softmax regression of one model's features, computed once."""
        penalty = 1.0 / (self.lambda_factor * shared.n)
        return shared.once(
            ("softmax regression", self.lambda_factor, self.max_passes),
            lambda: fit(shared, penalty, _TOL[self.dtype.name], self.max_passes),
        )
