"""LEAD in float64 NumPy, written from the equations: the voice the fast code is tested against.

Everything here is plain and slow on purpose, and imports nothing from the rest of the package, so
that an error in the fast code cannot hide in a shared helper. Where the fast code contracts layer
by layer, this module builds the Jacobian; where the fast code takes a trace, this module takes the
mean of the spectrum; where the fast code walks dual coordinates, this module runs an interior-point
method on the dual quadratic program. Use it for small inputs: N K up to a thousand or two, heads of
a few hundred thousand parameters.

Equation numbers are those of "Exploring Logit Space Evolution for Model Selection" (CVPR 2024).
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.special import log_softmax, softmax

__all__ = [
    "Head",
    "LeadResult",
    "SVMSolution",
    "class_kernels",
    "class_rates",
    "dual",
    "dual_weights",
    "evolve",
    "evolve_samples",
    "evolved_score",
    "fold_numbers",
    "forward",
    "gate_margin",
    "head_weights",
    "initial_state",
    "jacobian",
    "lead",
    "losses",
    "normals",
    "philox4x32",
    "primal",
    "sample_rows",
    "scale_features",
    "scaling",
    "solve_svm",
    "spectrum",
]

_MASK = np.uint64(0xFFFFFFFF)

# The fourth counter word separates the streams drawn with one seed.
_STREAM_HEAD, _STREAM_SAMPLE, _STREAM_FOLD = 0, 1, 2


# --------------------------------------------------------------------------------------------------
# Random numbers
# --------------------------------------------------------------------------------------------------


def philox4x32(counter, key, rounds=10):
    """Philox4x32 counter-based generator.

    Parameters
    ----------
    counter : array_like of int, shape (..., 4)
        Counter words, each in [0, 2**32).
    key : array_like of int, shape (2,) or (..., 2)
        Key words, each in [0, 2**32).
    rounds : int, default 10

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2,
    3", SC 2011.
    """
    counter = np.asarray(counter, dtype=np.uint64)
    c0, c1, c2, c3 = (counter[..., i].copy() for i in range(4))
    key = np.asarray(key, dtype=np.uint64)
    k0, k1 = key[..., 0], key[..., 1]
    for _ in range(rounds):
        first = np.uint64(0xD2511F53) * c0
        second = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ k0,
            second & _MASK,
            (first >> np.uint64(32)) ^ c3 ^ k1,
            first & _MASK,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & _MASK
        k1 = (k1 + np.uint64(0xBB67AE85)) & _MASK
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _seed_key(seed):
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    return [seed & 0xFFFFFFFF, seed >> 32]


def normals(index, layer, seed=0):
    """Standard normal numbers of the head, by their place in a layer: Box-Muller on Philox words.

    Number i of layer l is lane i % 4 of the Philox block with counter (i // 4 low word, i // 4 high
    word, l, 0) under the key (seed low word, seed high word). A block of words w gives
    u1 = ((w >> 8) + 1/2) / 2**24 from words 0 and 2 and u2 = (w >> 8) / 2**24 from words 1 and 3,
    and with r = sqrt(-2 ln u1) the pair r cos(2 pi u2), r sin(2 pi u2).

    Parameters
    ----------
    index : array_like of int, shape (n,)
    layer : int
    seed : int in [0, 2**64)

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    index = np.asarray(index, dtype=np.uint64)
    block, lane = index // np.uint64(4), (index % np.uint64(4)).astype(np.int64)
    counter = np.empty((len(index), 4), dtype=np.uint64)
    counter[:, 0] = block & _MASK
    counter[:, 1] = block >> np.uint64(32)
    counter[:, 2] = layer
    counter[:, 3] = _STREAM_HEAD
    bits = (philox4x32(counter, _seed_key(seed)) >> 8).astype(np.float64)  # 24 bits of each word
    rows, pair = np.arange(len(index)), lane // 2 * 2
    radius = np.sqrt(-2.0 * np.log((bits[rows, pair] + 0.5) * 2.0**-24))
    angle = 2.0 * np.pi * bits[rows, pair + 1] * 2.0**-24
    return radius * np.where(lane % 2 == 0, np.cos(angle), np.sin(angle))


def head_weights(n_features, n_classes, hidden=(1024, 2048), seed=0):
    """He-normal weights of the head: `normals`, row-major in each layer, times sqrt(2 / fan_in).

    Parameters
    ----------
    n_features, n_classes : int
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear head.
    seed : int in [0, 2**64)

    Returns
    -------
    list of ndarray of float64
        One (fan_in, fan_out) matrix per layer.
    """
    widths = [n_features, *hidden, n_classes]
    return [
        np.sqrt(2.0 / rows) * normals(np.arange(rows * columns), layer, seed).reshape(rows, columns)
        for layer, (rows, columns) in enumerate(itertools.pairwise(widths))
    ]


class Head:
    """The random MLP of section 3 of the paper, with float64 weights and zero biases.

    Parameters
    ----------
    n_features, n_classes, hidden, seed
        As in `head_weights`.

    Attributes
    ----------
    weights : list of ndarray of float64, shape (fan_in, fan_out)
    biases : list of ndarray of float64, shape (fan_out,)
    """

    def __init__(self, n_features, n_classes, hidden=(1024, 2048), seed=0):
        self.weights = head_weights(n_features, n_classes, hidden, seed)
        self.biases = [np.zeros(w.shape[1]) for w in self.weights]


def _order_keys(count, class_index, seed, stream):
    """One 64-bit key for each of the `count` rows of a class."""
    counter = np.zeros((count, 4), dtype=np.uint64)
    counter[:, 0] = np.arange(count)
    counter[:, 2] = class_index
    counter[:, 3] = stream
    words = philox4x32(counter, _seed_key(seed)).astype(np.uint64)
    return (words[:, 1] << np.uint64(32)) | words[:, 0]


def sample_rows(labels, n_samples=64, seed=0):
    """The rows of each class that enter its kernel.

    Every row of a class with at most `n_samples` rows, else the `n_samples` rows with the smallest
    random key; the key of row number j of class number c is the low 64 bits of the Philox block
    (j, 0, c, 1).

    Parameters
    ----------
    labels : array_like, shape (N,)
    n_samples : int, at least 1
    seed : int in [0, 2**64)

    Returns
    -------
    dict
        {class: ndarray of int64, ascending row numbers}, in the order of `numpy.unique(labels)`.
    """
    labels = np.asarray(labels)
    chosen = {}
    for index, name in enumerate(np.unique(labels).tolist()):
        rows = np.flatnonzero(labels == name)
        if len(rows) > n_samples:
            order = np.argsort(_order_keys(len(rows), index, seed, _STREAM_SAMPLE), kind="stable")
            rows = np.sort(rows[order[:n_samples]])
        chosen[name] = rows.astype(np.int64)
    return chosen


def fold_numbers(labels, n_folds, seed=0):
    """Stratified fold of every sample.

    The rows of class number c, in the order of their Philox keys (j, 0, c, 2), go to the folds
    c, c + 1, ... modulo `n_folds`, so that small classes do not all fall into the first folds.

    Parameters
    ----------
    labels : array_like, shape (N,)
    n_folds : int, at least 2
    seed : int in [0, 2**64)

    Returns
    -------
    ndarray of int64, shape (N,), values in [0, n_folds)
    """
    labels = np.asarray(labels)
    folds = np.empty(len(labels), dtype=np.int64)
    for index, name in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == name)
        order = np.argsort(_order_keys(len(rows), index, seed, _STREAM_FOLD), kind="stable")
        folds[rows[order]] = (np.arange(len(rows)) + index) % n_folds
    return folds


# --------------------------------------------------------------------------------------------------
# Kernel, rate and spectrum per class
# --------------------------------------------------------------------------------------------------


def forward(features, head):
    """Activations and pre-activations of every layer.

    Parameters
    ----------
    features : array_like, shape (N, D)
    head : object with `weights` and `biases`

    Returns
    -------
    activations : list of ndarray of float64
        [x, a_1, ..., a_{L-1}], the input of each layer, shape (N, fan_in).
    signals : list of ndarray of float64
        Pre-activations z_1 ... z_L of each layer, shape (N, fan_out); the last one holds the
        logits.
    """
    activation = np.asarray(features, dtype=np.float64)
    activations, signals = [], []
    for weight, bias in zip(head.weights, head.biases, strict=True):
        activations.append(activation)
        signals.append(activation @ np.asarray(weight, np.float64) + np.asarray(bias, np.float64))
        activation = np.maximum(signals[-1], 0.0)
    return activations, signals


def gate_margin(features, head):
    """How far a rounding is from flipping a ReLU: the smallest |z| / (|a| |w|) of any hidden unit.

    A unit whose input is all zero does not count: no rounding moves it. Returns inf for a linear
    head. Comparisons with float32 code are meaningful while this stays well above 1e-7.
    """
    activations, signals = forward(features, head)
    margin = np.inf
    for activation, signal, weight in zip(
        activations[:-1], signals[:-1], head.weights[:-1], strict=True
    ):
        size = np.linalg.norm(activation, axis=1)[:, None] * np.linalg.norm(weight, axis=0)[None, :]
        moving = size > 0
        if moving.any():
            margin = min(margin, float(np.min(np.abs(signal[moving]) / size[moving])))
    return margin


def jacobian(features, head):
    """Gradient of g(x) = sum_j F_j(x) over all parameters of the head, one sample after the other.

    The pseudo-NTK of Mohamadi, Bae and Sutherland (ICML 2023) takes the sum over the K outputs in
    place of the K x K block per pair of samples. Plain back-propagation: s_L = ones(K),
    dW_l = a_{l-1} s_l^T, db_l = s_l, s_{l-1} = (W_l s_l) * [z_{l-1} > 0].

    Parameters
    ----------
    features : array_like, shape (N, D)
    head : object with `weights` and `biases`

    Returns
    -------
    ndarray of float64, shape (N, P)
        P parameters: weight and bias of layer 1, of layer 2, and so on.
    """
    rows = []
    for sample in np.asarray(features, dtype=np.float64):
        activations, signals = forward(sample[None, :], head)
        back = np.ones(signals[-1].shape[1])
        parts = []
        for layer in reversed(range(len(head.weights))):
            parts.append(back)
            parts.append(np.outer(activations[layer][0], back).ravel())
            if layer:
                gate = (signals[layer - 1][0] > 0).astype(np.float64)
                back = (np.asarray(head.weights[layer], np.float64) @ back) * gate
        rows.append(np.concatenate(parts[::-1]))
    return np.array(rows)


def class_kernels(features, labels, head, n_samples=64, seed=0):
    """Kernel of every class: Phi_c[u, v] = <grad g(x_u), grad g(x_v)> over its sampled rows.

    Parameters
    ----------
    features : array_like, shape (N, D)
    labels : array_like, shape (N,)
    head : object with `weights` and `biases`
    n_samples : int
    seed : int
        Of the choice of rows, see `sample_rows`.

    Returns
    -------
    dict
        {class: ndarray of float64, shape (S, S)}.
    """
    features = np.asarray(features)
    kernels = {}
    for name, rows in sample_rows(labels, n_samples, seed).items():
        gradients = jacobian(features[rows], head)
        kernels[name] = gradients @ gradients.T
    return kernels


def spectrum(kernels):
    """Eigenvalues of every kernel, ascending, from LAPACK.

    Parameters
    ----------
    kernels : dict
        {class: symmetric ndarray, shape (S, S)}.

    Returns
    -------
    dict
        {class: ndarray of float64, shape (S,)}.
    """
    return {
        name: np.linalg.eigvalsh(np.asarray(kernel, np.float64)) for name, kernel in kernels.items()
    }


def class_rates(features, labels, head, n_samples=64, seed=0):
    """Rate of every class: lambda_c, the mean eigenvalue of Phi_c, from the whole spectrum.

    Parameters
    ----------
    features, labels, head, n_samples, seed
        As in `class_kernels`.

    Returns
    -------
    ndarray of float64, shape (K,)
        In the order of `numpy.unique(labels)`.
    """
    values = spectrum(class_kernels(features, labels, head, n_samples, seed))
    return np.array([v.mean() for v in values.values()])


# --------------------------------------------------------------------------------------------------
# Closed-form evolution
# --------------------------------------------------------------------------------------------------


def _targets(labels, classes):
    names = np.unique(np.asarray(labels)) if classes is None else np.asarray(classes)
    index = {name: k for k, name in enumerate(names.tolist())}
    return np.array([index[name] for name in np.asarray(labels).tolist()], dtype=np.int64), len(
        names
    )


def evolve(initial, labels, rates, time=1.0, unit=1e-6, classes=None):
    """Logits of every sample at a time, Eq. (7).

    E = (1 - exp(-unit lambda_c time)) y + exp(-unit lambda_c time) p for a sample of class c,
    one-hot y.

    Parameters
    ----------
    initial : array_like, shape (N, K)
    labels : array_like, shape (N,)
    rates : array_like, shape (K,)
    time : float, at least 0
    unit : float
        The paper's unit of time.
    classes : sequence of K labels, optional
        Label of each column; by default the sorted labels.

    Returns
    -------
    ndarray of float64, shape (N, K)
    """
    initial = np.asarray(initial).astype(np.float64)
    index, n_classes = _targets(labels, classes)
    truth = np.eye(n_classes)[index]
    exponent = (-unit * np.asarray(rates, np.float64)[index] * time)[:, None]
    # expm1: for slow rates 1 - exp(-x) would keep few digits of x.
    return -np.expm1(exponent) * truth + np.exp(exponent) * initial


def evolved_score(
    initial, labels, rates, times, unit=1e-6, cross_entropy="distribution", classes=None
):
    """Score at each time: minus the mean cross-entropy of the evolved state against the labels.

    "distribution" is mean_i log E[i, y_i]; "logits" is mean_i log softmax(E[i])[y_i].

    Parameters
    ----------
    initial, labels, rates, unit, classes
        As in `evolve`.
    times : array_like, shape (T,)
    cross_entropy : {"distribution", "logits"}

    Returns
    -------
    ndarray of float64, shape (T,)
    """
    index, _ = _targets(labels, classes)
    scores = []
    for time in np.asarray(times, dtype=np.float64):
        evolved = evolve(initial, labels, rates, time, unit, classes)
        with np.errstate(divide="ignore"):
            logs = {"distribution": np.log, "logits": lambda e: log_softmax(e, axis=1)}[
                cross_entropy
            ](evolved)
        scores.append(np.mean(logs[np.arange(len(index)), index]))
    return np.array(scores)


def evolve_samples(initial, target, kernel, time=1.0, unit=1e-6):
    """Logits of the sampled rows of one class at a time, Eq. (6).

    F = Y + exp(-unit Phi time) (F0 - Y), by the matrix exponential.

    Parameters
    ----------
    initial : array_like, shape (S, K)
    target : int or sequence of S int
        Column of the true class.
    kernel : array_like, shape (S, S)
    time : float
    unit : float

    Returns
    -------
    ndarray of float64, shape (S, K)
    """
    initial = np.asarray(initial).astype(np.float64)
    truth = np.zeros_like(initial)
    truth[np.arange(len(initial)), target] = 1.0
    return truth + scipy.linalg.expm(-unit * time * np.asarray(kernel, np.float64)) @ (
        initial - truth
    )


# --------------------------------------------------------------------------------------------------
# Multi-class SVM
# --------------------------------------------------------------------------------------------------


def scaling(features, scale="unit"):
    """Centre and divisor that the SVM sees the features through.

    Parameters
    ----------
    features : array_like, shape (N, D)
    scale : {"unit", "standard", "none"}
        "unit": column means, and one scalar that makes the mean squared norm 1. "standard": column
        means and standard deviations. "none": zero and one. A divisor of zero counts as one.

    Returns
    -------
    centre : ndarray of float64, shape (D,)
    divisor : ndarray of float64, shape (D,)
    """
    features = np.asarray(features).astype(np.float64)
    if scale == "none":
        return np.zeros(features.shape[1]), np.ones(features.shape[1])
    centre = features.mean(axis=0)
    centred = features - centre
    if scale == "unit":
        divisor = np.full(features.shape[1], np.sqrt(np.mean(np.sum(centred**2, axis=1))))
    elif scale == "standard":
        divisor = np.sqrt(np.mean(centred**2, axis=0))
        # A constant column leaves only the rounding of its own mean.
        divisor[divisor <= 1e-12 * np.abs(features).max(axis=0, initial=0.0)] = 0.0
    else:
        raise ValueError(f"scale must be 'unit', 'standard' or 'none', got {scale!r}")
    return centre, np.where(divisor > 0, divisor, 1.0)


def scale_features(features, scale="unit"):
    """The features as the SVM sees them, float64; see `scaling`."""
    centre, divisor = scaling(features, scale)
    return (np.asarray(features).astype(np.float64) - centre) / divisor


def losses(decision, y, svm="ww", hinge=1):
    """Loss of every sample.

    - "ww" (Weston-Watkins): sum over k != y of max(0, 1 - (f_y - f_k))^p
    - "ovr" (one-vs-rest): sum over k of max(0, 1 - s_k f_k)^p, s = +1 for k = y, else -1
    - "cs" (Crammer-Singer): max(0, max over k != y of 1 - (f_y - f_k))^p

    Parameters
    ----------
    decision : array_like, shape (N, K)
    y : array_like of int, shape (N,)
        Column of the true class.
    svm : {"ww", "ovr", "cs"}
    hinge : {1, 2}
        The power p.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    decision = np.asarray(decision, dtype=np.float64)
    rows = np.arange(len(decision))
    others = np.ones(decision.shape, dtype=bool)
    others[rows, y] = False
    if svm == "ovr":
        return np.sum(np.maximum(0.0, 1.0 - np.where(others, -decision, decision)) ** hinge, axis=1)
    slack = np.where(others, np.maximum(0.0, 1.0 - (decision[rows, y][:, None] - decision)), 0.0)
    if svm == "ww":
        return np.sum(slack**hinge, axis=1)
    if svm == "cs":
        return np.max(slack, axis=1) ** hinge
    raise ValueError(f"svm must be 'ww', 'ovr' or 'cs', got {svm!r}")


def primal(W, b, X, y, svm="ww", hinge=1, C=1.0):
    """Primal objective 1/2 |W|^2 + 1/2 |b|^2 + C sum_i loss_i with f = W x + b.

    Parameters
    ----------
    W : array_like, shape (K, D)
    b : array_like, shape (K,)
    X : array_like, shape (N, D)
    y : array_like of int, shape (N,)
    svm, hinge
        As in `losses`.
    C : float, positive

    Returns
    -------
    float
    """
    W, b = np.asarray(W, np.float64), np.asarray(b, np.float64)
    decision = np.asarray(X).astype(np.float64) @ W.T + b
    return float(
        0.5 * np.sum(W**2) + 0.5 * np.sum(b**2) + C * np.sum(losses(decision, y, svm, hinge))
    )


def _directions(y, n_classes, svm):
    """What one unit of alpha[i, k] adds to each row of W, in multiples of x_i; shape (N, K, K)."""
    eye = np.eye(n_classes)
    if svm == "ovr":
        return np.array([np.diag(2.0 * eye[c] - 1.0) for c in y])
    return np.array([eye[c][None, :] - eye for c in y])  # alpha[i, y] has no effect


def dual_weights(alpha, X, y, svm="ww"):
    """W and b that belong to dual variables.

    W_k = sum_i c_ik x_i and b_k = sum_i c_ik. For "ww" and "cs" c_ik = -alpha_ik for k != y_i and
    c_i,y = sum over k != y of alpha_ik; for "ovr" c_ik = s_ik alpha_ik.

    Parameters
    ----------
    alpha : array_like, shape (N, K)
        For "ww" and "cs" the column of the true class is ignored.
    X : array_like, shape (N, D)
    y : array_like of int, shape (N,)
    svm : {"ww", "ovr", "cs"}

    Returns
    -------
    W : ndarray of float64, shape (K, D)
    b : ndarray of float64, shape (K,)
    """
    alpha = np.asarray(alpha, dtype=np.float64)
    coefficients = np.einsum("ik,ikl->il", alpha, _directions(y, alpha.shape[1], svm))
    return coefficients.T @ np.asarray(X).astype(np.float64), coefficients.sum(axis=0)


def dual(alpha, X, y, svm="ww", hinge=1, C=1.0):
    """Dual objective of given dual variables; no larger than any primal objective.

    sum alpha - 1/2 |W|^2 - 1/2 |b|^2 with W, b from `dual_weights`, subject to alpha >= 0 and, for
    hinge 1, alpha <= C ("ww", "ovr") or sum_k alpha_ik <= C ("cs"). For hinge 2 the upper bounds
    are replaced by the term - sum alpha^2 / (4 C) ("ww", "ovr") or
    - sum_i (sum_k alpha_ik)^2 / (4 C) ("cs").

    Parameters
    ----------
    alpha, X, y, svm
        As in `dual_weights`.
    hinge : {1, 2}
    C : float, positive

    Returns
    -------
    float
        -inf where `alpha` is not feasible.
    """
    alpha = np.array(alpha, dtype=np.float64)
    if svm != "ovr":
        alpha[np.arange(len(alpha)), y] = 0.0
    bounded = alpha.sum(axis=1) if svm == "cs" else alpha
    if alpha.min(initial=0.0) < 0 or (hinge == 1 and bounded.max(initial=0.0) > C):
        return -np.inf
    W, b = dual_weights(alpha, X, y, svm)
    value = alpha.sum() - 0.5 * np.sum(W**2) - 0.5 * np.sum(b**2)
    if hinge == 2:
        value -= np.sum(bounded**2) / (4.0 * C)
    return float(value)


@dataclass
class SVMSolution:
    """Optimum of a multi-class SVM: weights, dual variables and both objectives.

    Attributes
    ----------
    W : ndarray, shape (K, D)
    b : ndarray, shape (K,)
    alpha : ndarray, shape (N, K)
    primal, dual : float
        The true optimum lies between them.
    gap : float
        (primal - dual) / primal.
    """

    W: np.ndarray
    b: np.ndarray
    alpha: np.ndarray
    primal: float
    dual: float
    gap: float


def _step(values, change):
    """Largest step in [0, 1] that keeps values + step * change non-negative."""
    falling = change < 0
    return min(1.0, float(np.min(-values[falling] / change[falling], initial=np.inf)))


def _interior_point(Q, G, h, x, max_steps=100):
    """Minimise 1/2 x'Qx - sum(x) over Gx <= h by Mehrotra's predictor-corrector method.

    Starts from a strictly feasible x. Returns the last iterate before rounding stops the progress;
    the caller certifies it with the duality gap.
    """
    s = h - G @ x
    z = np.ones(len(h))
    ridge = 1e-12 * np.eye(len(Q))  # the diagonal of Q is at most one
    best, best_mu = x, np.inf
    for _ in range(max_steps):
        stationarity = Q @ x - 1.0 + G.T @ z
        mu = float(s @ z) / len(h)
        if not (mu < best_mu or np.abs(stationarity).max() > 1e-9):
            break
        best, best_mu = x, mu
        if mu < 1e-15:
            break
        # The ridge keeps duplicate samples from making the system singular. It bends the path of
        # the iterates, not its end.
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
            try:
                factor = scipy.linalg.lu_factor(Q + (G.T * (z / s)) @ G + ridge)
            except scipy.linalg.LinAlgWarning:
                break

        def direction(complementarity, factor=factor, stationarity=stationarity, s=s, z=z):
            # s keeps Gx + s = h; the other two rows of the Newton system are eliminated.
            dx = scipy.linalg.lu_solve(factor, -stationarity - G.T @ (complementarity / s))
            ds = -G @ dx
            return dx, ds, (complementarity - z * ds) / s

        _, ds, dz = direction(-s * z)
        step = min(_step(s, ds), _step(z, dz))
        target = float((s + step * ds) @ (z + step * dz)) / len(h)
        dx, ds, dz = direction((target / mu) ** 3 * mu - s * z - ds * dz)
        # One length for both: the problem is quadratic, so x enters the stationarity of z too.
        step = 0.995 * min(_step(s, ds), _step(z, dz))
        x, z = x + step * dx, z + step * dz
        s = s + step * ds
    return best


def solve_svm(X, y, n_classes, svm="ww", hinge=1, C=1.0):
    """Optimum of a small multi-class SVM by an interior-point method on the dual.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Already scaled.
    y : array_like of int, shape (N,)
        Values in [0, n_classes); classes without samples are allowed.
    n_classes : int
    svm, hinge, C
        As in `primal`.

    Returns
    -------
    SVMSolution
        Its gap certifies it: about 1e-12 for scaled features, up to 1e-7 where the dual optimum is
        degenerate or the features are dominated by a common offset.

    Notes
    -----
    Time O((N K)^3) and memory O((N K)^2) for "ww" and "cs", K times O(N^3) for "ovr".
    """
    X = np.asarray(X).astype(np.float64)
    y = np.asarray(y)
    n = len(X)
    gram = X @ X.T + 1.0  # the bias is a regularised weight of a feature that is always one
    directions = _directions(y, n_classes, svm)
    if svm == "ovr":
        problems = [[(i, k) for i in range(n)] for k in range(n_classes)]
    else:
        problems = [[(i, k) for i in range(n) for k in range(n_classes) if k != y[i]]]
    alpha = np.zeros((n, n_classes))
    for variables in problems:
        rows, columns = np.array(variables).T
        reach = directions[rows, columns]
        Q = gram[np.ix_(rows, rows)] * (reach @ reach.T)
        same = (rows[:, None] == rows[None, :]).astype(np.float64)
        eye = np.eye(len(rows))
        if hinge == 2:
            Q = Q + (same if svm == "cs" else eye) / (2.0 * C)
            G, h = -eye, np.zeros(len(rows))
        else:
            upper = (
                (np.arange(n)[:, None] == rows[None, :]).astype(np.float64) if svm == "cs" else eye
            )
            G, h = (
                np.vstack([-eye, upper]),
                np.concatenate([np.zeros(len(rows)), np.full(len(upper), C)]),
            )
        size = np.max(np.diag(Q))  # solved for size * alpha, which depends on C |x|^2 alone
        start = np.full(len(rows), 0.5 * C * size / n_classes)
        x = _interior_point(Q / size, G, h * size, start) / size
        alpha[rows, columns] = np.clip(x, 0.0, C if hinge == 1 else None)
    if svm == "cs" and hinge == 1:
        # Rounding may leave a row sum one ulp above C, where the dual objective is -inf.
        alpha *= np.minimum(
            1.0, C / np.maximum(alpha.sum(axis=1, keepdims=True), 1e-300) * (1.0 - 1e-15)
        )
    W, b = dual_weights(alpha, X, y, svm)
    upper_bound, lower_bound = primal(W, b, X, y, svm, hinge, C), dual(alpha, X, y, svm, hinge, C)
    return SVMSolution(
        W, b, alpha, upper_bound, lower_bound, (upper_bound - lower_bound) / upper_bound
    )


# --------------------------------------------------------------------------------------------------
# The score
# --------------------------------------------------------------------------------------------------


def initial_state(features, labels, svm="ww", hinge=1, C=1.0, scale="unit", cross_fit=None, seed=0):
    """Initial distribution p of every sample: the softmax of the SVM's decision values.

    Parameters
    ----------
    features : array_like, shape (N, D)
    labels : array_like, shape (N,)
    svm, hinge, C
        As in `primal`.
    scale : {"unit", "standard", "none"}
        As in `scaling`; fitted on the rows the SVM is trained on.
    cross_fit : int, optional
        Number of stratified folds; each sample is then judged by the SVM of the other folds. All K
        classes keep their row of W in every fold, also where the training rows hold none of a
        class.
    seed : int
        Of the folds.

    Returns
    -------
    initial : ndarray of float64, shape (N, K)
        Rows sum to 1.
    solutions : list of SVMSolution
        One, or one per fold.
    """
    features = np.asarray(features).astype(np.float64)
    y, n_classes = _targets(labels, None)
    if cross_fit is None:
        parts = [(np.ones(len(y), bool), np.ones(len(y), bool))]
    else:
        folds = fold_numbers(labels, cross_fit, seed)
        parts = [(folds != fold, folds == fold) for fold in range(cross_fit)]
    decision = np.empty((len(y), n_classes))
    solutions = []
    for train, judged in parts:
        centre, divisor = scaling(features[train], scale)
        solution = solve_svm(
            (features[train] - centre) / divisor, y[train], n_classes, svm, hinge, C
        )
        decision[judged] = (features[judged] - centre) / divisor @ solution.W.T + solution.b
        solutions.append(solution)
    return softmax(decision, axis=1), solutions


@dataclass
class LeadResult:
    """Score of `lead` with its parts.

    Attributes
    ----------
    score : float
    rates : ndarray of float64, shape (K,)
    classes : ndarray, shape (K,)
    initial : ndarray of float64, shape (N, K)
    solutions : list of SVMSolution
    """

    score: float
    rates: np.ndarray
    classes: np.ndarray
    initial: np.ndarray
    solutions: list


def lead(
    features,
    labels,
    *,
    time=1.0,
    n_samples=64,
    hidden=(1024, 2048),
    svm="ww",
    hinge=1,
    C=1.0,
    scale="unit",
    cross_fit=None,
    seed=0,
    head=None,
):
    """The whole score: mean log E[i, y_i] of Eq. (7).

    From the SVM at its optimum, kernels from Jacobians and rates from whole spectra.

    Parameters
    ----------
    features : array_like, shape (N, D)
    labels : array_like, shape (N,)
    time : float, at least 0
        In units of 1e-6, as in the paper.
    n_samples, hidden, seed, head
        As in `sample_rows`, `head_weights` and `class_kernels`.
    svm, hinge, C, scale, cross_fit
        As in `initial_state`.

    Returns
    -------
    LeadResult
    """
    classes = np.unique(np.asarray(labels))
    if head is None:
        head = Head(np.shape(features)[1], len(classes), hidden, seed)
    initial, solutions = initial_state(features, labels, svm, hinge, C, scale, cross_fit, seed)
    rates = class_rates(features, labels, head, n_samples, seed)
    score = evolved_score(initial, labels, rates, [time])[0]
    return LeadResult(float(score), rates, classes, initial, solutions)
