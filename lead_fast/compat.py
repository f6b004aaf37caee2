"""The names that scripts of other projects import, so that changing the import is all it takes.

======================================  =========================================================
``from metrics import ...`` (SFDA,      `LogME`, `LogME_Score`, `SFDA_Score`, `PED_Score`,
PED, ETran), ``from LogME import ...``  `PARC_Score`, `NLEEP`, `PAC_Score`, `LDA_Score`,
                                        `Energy_Score`, `LEEP`, `NCE`, `LEAD_Score`
``from tllib.ranking import ...``       `h_score`, `regularized_h_score`, `log_maximum_evidence`,
                                        `log_expected_empirical_prediction`,
                                        `negative_conditional_entropy`, `transrate`
======================================  =========================================================

Arguments, their order and defaults, and what comes back are those of the originals (of LogME's own
where copies of it differ). Sums are float64, as theirs are. Arguments are never modified: the
originals of SFDA_Score and PAC_Score overwrite the features. Labels need not be 0 to K - 1; a class
number without samples, which the originals count as a class with undefined statistics, is no class
here. What cannot be used raises :class:`lead_fast.errors.InputError`, and scores that cannot
discriminate give a warning.

References: github.com/TencentARC/SFDA, github.com/lixiaotong97/PED, the ETran code,
github.com/thuml/LogME, github.com/thuml/Transfer-Learning-Library.
"""

import os
import time

import numpy as np

from .errors import InputError
from .features import as_features, real_array
from .labels import encode
from .metrics import get
from .metrics._base import MultiLabels
from .metrics._shared import Shared
from .options import real

__all__ = [
    "LEEP",
    "NCE",
    "NLEEP",
    "Energy_Score",
    "LDA_Score",
    "LEAD_Score",
    "LogME",
    "LogME_Score",
    "PAC_Score",
    "PARC_Score",
    "PED_Score",
    "SFDA_Score",
    "h_score",
    "log_expected_empirical_prediction",
    "log_maximum_evidence",
    "negative_conditional_entropy",
    "regularized_h_score",
    "transrate",
]


def _score(name, features, labels, **options):
    return get(name)(labels, dtype="float64", **options)(features, keep=False)


# ---------------------------------------------------------------------- SFDA, PED, ETran, LogME


class LogME:
    """LogME of classes or of real targets, with the fitted weights.

    Parameters
    ----------
    regression : bool
        Whether targets are real numbers (N,) or (N, C) and not class numbers (N,).

    Attributes
    ----------
    alphas, betas : list of float
        One per class or target, after :meth:`fit`.
    ms : ndarray (C, D)
        Posterior means of the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from lead_fast.compat import LogME
    >>> y = np.arange(60) % 3
    >>> x = np.random.default_rng(0).standard_normal((60, 8)) + 4 * np.eye(3, 8)[y]
    >>> model = LogME()
    >>> score = model.fit(x, y)
    >>> bool((model.predict(x) == y).mean() > 0.9)
    True
    """

    def __init__(self, regression=False):
        self.regression = regression
        self.reset()

    def reset(self):
        """Forget what was fitted."""
        self.num_dim, self.fitted = 0, False
        self.alphas, self.betas, self.ms = [], [], []
        self._classes = None

    def fit(self, f, y):
        """Fit to features (N, D) and targets; return the score, a float."""
        self.reset()
        evidence, alphas, betas, self.ms, self._classes = _evidence(
            f, y, self.regression, "fixed-point"
        )
        self.alphas, self.betas = alphas.tolist(), betas.tolist()
        self.num_dim, self.fitted = len(alphas), True
        return float(evidence.mean())

    def predict(self, f):
        """Predicted class numbers (N,), or values (N, C) of a regression, for features (N, D).

        As github.com/thuml/LogME has it; SFDA's copy gives the soft-max of the classes' values.
        """
        if not self.fitted:
            raise RuntimeError("not fitted, please call fit first")
        x, width = real_array(f, "features").astype(np.float64), self.ms.shape[1]
        if x.ndim != 2 or x.shape[1] != width:
            raise InputError(f"features: expected (N, {width}) as fitted, got shape {x.shape}")
        predicted = x @ self.ms.T
        return predicted if self.regression else self._classes[predicted.argmax(axis=1)]


def _evidence(features, targets, regression, method, epsilon=1e-5):
    from .metrics.logme import Ridge, class_targets, maximum_evidence, warn_if_wide

    if regression:
        values = real_array(targets, "targets").astype(np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or not np.isfinite(values).all():
            raise InputError(f"targets: expected finite numbers (N, C), got shape {values.shape}")
        labels, classes = MultiLabels(values), None
    else:
        labels = encode(targets)
        classes = labels.classes
    shared = Shared(features, labels, np.float64)
    warn_if_wide(shared)
    if regression:
        ridge = Ridge(shared, (shared.class_sums.T, (values**2).sum(axis=0), lambda: values))
    else:
        ridge = Ridge(shared, class_targets(shared))
    evidence, alphas, betas, penalties = maximum_evidence(ridge, method, epsilon)
    return evidence, alphas, betas, ridge.coefficients(penalties, shared), classes


def LogME_Score(X, y):
    """LogME of features (N, D) and class numbers (N,)."""
    return _score("logme", X, y)


def SFDA_Score(X, y):
    """SFDA of features (N, D) and class numbers (N,)."""
    return _score("sfda", X, y)


def PARC_Score(X, y, ratio=2):
    """PARC after PCA to 32 dimensions, or to a share `ratio` of D for a ratio of at most 1."""
    if real("ratio", ratio, positive=True) > 1:
        return _score("parc", X, y)
    width = as_features(X).shape[1]
    if int(width * ratio) < 2:
        raise InputError(f"ratio: {ratio} of {width} features is less than 2 components")
    return _score("parc", X, y, n_components=int(width * ratio))


def NLEEP(X, y, component_ratio=5):
    """NLEEP with that many Gaussian components per class."""
    return _score("nleep", X, y, n_per_class=int(real("component_ratio", component_ratio)))


def PED_Score(
    X, y, general_X=None, exit_ratio=0.5, time_step=0.1, eps=1e-3, type="SFDA",
    component_ratio=0.0, nsigma=2.0, constant=1.0,
):  # fmt: skip
    """PED, then SFDA, LOGME or NLEEP on the moved features.

    `general_X` holds the same model's features on a general data set, for rescaling; the features
    themselves where it is None, which the original refuses. `eps` and `component_ratio` must be
    left as they are: the original ignores the second.
    """
    if eps != 1e-3:
        raise InputError(f"eps: only 1e-3 is implemented, got {eps!r}")
    options = dict(
        step=time_step, n_sigma=nsigma, exit_ratio=exit_ratio, constant=constant,
        reference=general_X,
    )  # fmt: skip
    if type in ("SFDA", "LOGME"):
        return _score("ped", X, y, over=type.lower(), **options)
    if type != "NLEEP":
        raise InputError(f"type: {type!r} does not exist; choose one of: SFDA, LOGME, NLEEP")
    ped = get("ped")(y, dtype="float64", **options)
    shared = ped.share(X)
    shift, _ = ped.displacement(shared, general_X)
    return NLEEP(shared.x + shift[shared.codes], y)


def PAC_Score(features_np_all, label_np_all, lda_factor):
    """PACTran: what is minimised, so that lower is better here.

    Returns
    -------
    entries : list of (str, float)
        For two values of s2: ``pac_gauss_FACTOR``, ``time``, ``pac_opt_FACTOR``, ``time``.
    theta : ndarray ((D + 1) * K,)
        Weights and biases at the optimum, which is exact here: the original stops after 10 steps
        from a random start, so its numbers lie above.
    """
    scales = {10.0: (1000.0, 100.0), 1.0: (100.0, 10.0), 0.1: (10.0, 1.0)}
    if lda_factor not in scales:
        raise InputError(f"lda_factor: must be 10, 1 or 0.1, got {lda_factor!r}")
    from .metrics._softmax import coefficients

    started = time.perf_counter()
    make = get("pactran")
    optimum = make(label_np_all, lambda_factor=lda_factor, flatness=False, dtype="float64")
    shared = optimum.share(features_np_all)
    loss = -optimum(None, shared=shared)
    solved = time.perf_counter() - started
    entries = []
    for scale in scales[lda_factor]:
        metric = make(optimum.labels, lambda_factor=lda_factor, s2_factor=scale, dtype="float64")
        entries += [
            (f"pac_gauss_{lda_factor:.1f}", -metric(None, shared=shared)),
            ("time", time.perf_counter() - started),
            (f"pac_opt_{lda_factor:.1f}", loss),
            ("time", solved),
        ]
    weights, biases = coefficients(shared, 1.0 / (lda_factor * shared.n), optimum.fitted(shared))
    return entries, np.concatenate([weights, biases[None]]).ravel()


def LDA_Score(X, y):
    """The discriminant part of ETran: mean posterior of the labels."""
    etran = get("etran")(y, dtype="float64")
    return etran.parts(etran.share(X))[1]


def Energy_Score(logits, percent, tail):
    """The energy part of ETran: mean logsumexp of one tail of the rows.

    `percent` of them counts, the lowest for ``tail="bot"`` and else the highest; at least one.
    """
    from .metrics.etran import check_percent, mean_energy

    percent = check_percent(percent)
    rows = real_array(logits, "logits")
    shared = Shared(rows, encode(np.zeros(len(rows), np.int64), fewest=1), np.float64)
    return mean_energy(shared, percent, "bottom" if tail == "bot" else "top")


# Where the original has the last layers of its models, and what they are called in there.
_CHECKPOINTS = {
    "densenet121": ("classifier", "densenet121-a639ec97.pth"),
    "densenet169": ("classifier", "densenet169-b2777c0a.pth"),
    "densenet201": ("classifier", "densenet201-c1103571.pth"),
    "resnet34": ("fc", "resnet34-333f7ec4.pth"),
    "resnet50": ("fc", "resnet50-19c8e357.pth"),
    "resnet101": ("fc", "resnet101-5d3b4d8f.pth"),
    "resnet152": ("fc", "resnet152-b121ed2d.pth"),
    "mnasnet1_0": ("classifier.1", "mnasnet1.0_top1_73.512-f206786ef8.pth"),
    "mobilenet_v2": ("classifier.1", "mobilenet_v2-b0353104.pth"),
    "googlenet": ("fc", "googlenet-1378be20.pth"),
    "inception_v3": ("fc", "inception_v3_google-1a9a5a14.pth"),
}
_CHECKPOINT_FOLDER = "./models/group1/checkpoints"


def LEEP(X, y, model_name="resnet50", *, head=None):
    """LEEP without the logarithm, from features (N, D) and the model's own last layer.

    As in the original, the layer is read from ``./models/group1/checkpoints``, with PyTorch, and
    tensors only; or it is given as ``head=(weight (S, D), bias (S,))``.
    """
    weight, bias = _last_layer(model_name) if head is None else head
    weight = real_array(weight, "head").astype(np.float64)
    bias = real_array(bias, "head").astype(np.float64)
    x = real_array(X, "features").astype(np.float64)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or x.shape[1:] != weight.shape[1:]:
        raise InputError(
            f"head: weight {weight.shape} and bias {bias.shape} do not fit features {x.shape}"
        )
    logits = x @ weight.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return _expected_prediction(logits, y, log=False)


def _last_layer(model_name):
    if model_name not in _CHECKPOINTS:
        raise InputError(
            f"model_name: {model_name!r} is not among {', '.join(_CHECKPOINTS)}; "
            "give head=(weight, bias)"
        )
    layer, file = _CHECKPOINTS[model_name]
    path = os.path.join(_CHECKPOINT_FOLDER, file)
    if not os.path.isfile(path):
        raise InputError(f"{path}: not there; put the checkpoint there or give head=(weight, bias)")
    try:
        import torch
    except ImportError as error:
        raise InputError("LEEP: reading a checkpoint needs torch; give head=") from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]


def NCE(source_label, target_label):
    """Negative conditional entropy of the target labels given the source labels, both (N,)."""
    return negative_conditional_entropy(source_label, target_label)


def LEAD_Score(X, y, **options):
    """LEAD of features (N, D) and class numbers (N,), see :func:`lead_fast.lead`."""
    from .lead import lead

    return lead(X, y, **options).score


# --------------------------------------------------------------------- Transfer-Learning-Library


def h_score(features, labels):
    """H-score of features (N, F) and class numbers (N,)."""
    return _score("hscore", features, labels)


def regularized_h_score(features, labels):
    """H-score with the Ledoit-Wolf covariance."""
    return _score("hscore_regularized", features, labels)


def log_maximum_evidence(
    features, targets, regression=False, return_weights=False, return_distribution=False
):
    """LogME by the ICML paper's algorithm, without the public LogME's small constants.

    Returns
    -------
    float, or (float, ndarray (C, F))
        With ``return_weights`` (``return_distribution`` in later versions of the original), the
        weights as well.
    """
    evidence, _, _, weights, _ = _evidence(features, targets, regression, "icml", 0.0)
    score = float(evidence.mean())
    return (score, weights) if return_weights or return_distribution else score


def log_expected_empirical_prediction(predictions, labels):
    """LEEP of the source classifier's probabilities (N, C_s), whose rows sum to 1 within 1e-2."""
    return _expected_prediction(real_array(predictions, "predictions"), labels, log=True)


def _expected_prediction(theta, labels, log):
    from .metrics.leep import expected_prediction, sum_to_one

    if theta.ndim != 2 or not np.isfinite(theta).all() or (theta < 0).any():
        raise InputError(
            f"predictions: expected probabilities (N, C_s), got shape {theta.shape}, "
            "negative numbers or NaN"
        )
    good = sum_to_one(theta)
    if not good.all():
        odd = int(good.argmin())
        total = theta[odd].sum(dtype=np.float64)
        raise InputError(f"predictions: expected probabilities, but row {odd} sums to {total:.6g}")
    flat = labels.reshape(-1) if hasattr(labels, "reshape") else labels
    return expected_prediction(theta.astype(np.float64), encode(flat, n=len(theta)), log)


def negative_conditional_entropy(source_labels, target_labels):
    """Negative conditional entropy of the target labels given the source labels, both (N,)."""
    from .metrics import nce

    target = encode(target_labels)
    return nce.negative_conditional_entropy(encode(source_labels, n=target.n, fewest=1), target)


def transrate(features, labels, eps=1e-4):
    """TransRate at distortion `eps`."""
    return _score("transrate", features, labels, eps=eps)
