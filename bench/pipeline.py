"""The LEAD score as one would write it from libraries: what the package is measured against.

scikit-learn's LinearSVC on a centred, unit-scaled copy of the features; `torch.func` per-sample
gradients of the head, class by class, for the kernels; `numpy.linalg.eigvalsh`; NumPy for the rest.
Nothing here uses lead_fast. Each stage is timed.
"""

import contextlib
import dataclasses
import time
import warnings

import numpy as np
import torch
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch.func import grad, vmap

TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
MULTI_CLASS = {"ovr": "ovr", "cs": "crammer_singer"}
TIME_UNIT = 1e-6


@contextlib.contextmanager
def timed(seconds, stage):
    """Store the wall-clock seconds of the block under the name of the stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


# ------------------------------------------------------------------------------------------- SVM


def unit_scaled(features):
    """(x - mean) / size, float32 (N, D), with a mean squared norm of 1; the mean and the size."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled = features - mean
    size = np.sqrt(np.einsum("ij,ij->", scaled, scaled, dtype=np.float64) / len(scaled))
    scaled /= np.float32(size)
    return scaled, mean, size


def decision_values(features, coef, intercept, block=4096):
    """W x + b in float64, (N, K), without a float64 copy of all features."""
    parts = [features[i : i + block] @ coef.T for i in range(0, len(features), block)]
    return np.concatenate(parts) + intercept


def primal(features, codes, coef, intercept, form, hinge=1, C=1.0):
    """Objective of an SVM: 1/2 |W|^2 + 1/2 |b|^2 + C sum of the losses, in float64.

    Parameters
    ----------
    features : ndarray (N, D)
    codes : ndarray (N,) of int
        Number of each sample's class.
    coef : ndarray (K, D)
    intercept : ndarray (K,)
    form : {"ww", "ovr", "cs"}
    hinge : {1, 2}
    C : float
    """
    values = decision_values(features, np.asarray(coef, np.float64), intercept)
    own = np.arange(len(codes)), codes
    if form == "ovr":
        sign = np.full_like(values, -1.0)
        sign[own] = 1.0
        margin = 1.0 - sign * values
    else:
        margin = 1.0 - (values[own][:, None] - values)
        margin[own] = 0.0
    loss = np.maximum(margin, 0.0) ** hinge
    total = loss.max(axis=1).sum() if form == "cs" else loss.sum()
    return 0.5 * (np.sum(np.square(coef)) + np.sum(np.square(intercept))) + C * total


@dataclasses.dataclass(frozen=True)
class InitialState:
    """Soft-max of the decision values (N, K), and how it was come by."""

    probability: np.ndarray
    seconds: dict
    tol: float  # of LinearSVC
    gap: float  # relative, against the bound


def initial_state(features, codes, form, bound, gap=1e-3):
    """Train LinearSVC to a relative duality gap; only the run that reaches it counts.

    What ``tol`` of LinearSVC means for the gap depends on the data, and ``n_iter_`` and the
    ConvergenceWarning say nothing for Crammer-Singer, which also ignores ``max_iter``. So ever
    smaller values are tried until (primal - bound) / primal <= gap, and the seconds are those of
    the last run alone.

    Parameters
    ----------
    features : ndarray (N, D) float32
    codes : ndarray (N,) of int
    form : {"ovr", "cs"}
    bound : float
        A lower bound of the objective, close to its minimum: a certified dual value.
    gap : float
    """
    seconds = {}
    with timed(seconds, "scale"):
        scaled, _, _ = unit_scaled(features)
    for tol in TOLERANCES:
        model = LinearSVC(
            loss="hinge", C=1.0, multi_class=MULTI_CLASS[form], tol=tol, max_iter=100_000,
            random_state=0,
        )  # fmt: skip
        with timed(seconds, "svm"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, codes)
        objective = primal(scaled, codes, model.coef_, model.intercept_, form)
        reached = (objective - bound) / objective
        if not reached >= -1e-6:
            raise ValueError(f"{form}: objective {objective} below its lower bound {bound}")
        if reached <= gap:
            break
    else:
        raise ValueError(f"{form}: gap {reached} at tol={tol}, wanted {gap}")
    with timed(seconds, "softmax"):
        probability = softmax(model.decision_function(scaled), axis=1)
    return InitialState(probability, seconds, tol, float(reached))


# ------------------------------------------------------------------------------------------- NTK


def _output_sum(layers, x):
    for weight, bias in layers[:-1]:
        x = torch.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return (x @ weight + bias).sum()


def class_kernels(features, rows, head):
    """Kernel (S, S) float32 of each class from per-sample gradients.

    Parameters
    ----------
    features : ndarray (N, D) float32
    rows : iterable of ndarray (S,)
        The samples of each class.
    head : object with ``weights`` and ``biases``
    """
    layers = [
        (torch.from_numpy(w), torch.from_numpy(b))
        for w, b in zip(head.weights, head.biases, strict=True)
    ]
    per_sample = vmap(grad(_output_sum), in_dims=(None, 0))
    kernels = []
    for chosen in rows:  # the gradients of all classes at once would not fit
        gradients = per_sample(layers, torch.from_numpy(features[chosen]))
        flat = [g.flatten(1) for layer in gradients for g in layer]
        kernels.append(sum(g @ g.T for g in flat).numpy())
    return kernels


def spectra(kernels):
    """Ascending eigenvalues of each kernel."""
    return [np.linalg.eigvalsh(kernel) for kernel in kernels]


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Eigenvalues of each class's kernel, their means (K,), and the seconds of each stage."""

    spectra: list
    rates: np.ndarray
    seconds: dict


def kernel_rates(features, rows, head):
    """Kernels, their eigenvalues, and the mean eigenvalue of each class."""
    seconds = {}
    with timed(seconds, "kernels"):
        kernels = class_kernels(features, rows, head)
    with timed(seconds, "spectra"):
        values = spectra(kernels)
        rates = np.array([v.mean() for v in values], np.float64)
    return Kernels(values, rates, seconds)


# ----------------------------------------------------------------------------------------- score


def evolve(initial, codes, rates, time=1.0):
    """Evolved state (N, K): LEAD, Eq. 7."""
    decay = np.exp(-rates[codes] * TIME_UNIT * time)[:, None]
    return (1.0 - decay) * np.eye(initial.shape[1])[codes] + decay * initial


def score(initial, codes, rates, time=1.0):
    """Mean log-probability of the labels after evolution."""
    evolved = evolve(initial, codes, rates, time)
    return float(np.log(evolved[np.arange(len(codes)), codes]).mean())


@dataclasses.dataclass(frozen=True)
class PipelineResult:
    """Score, and seconds of each stage with their total."""

    score: float
    seconds: dict


def finish(state, kernels, codes):
    """The score from the two halves, which a caller may use for more than one score."""
    seconds = {**state.seconds, **kernels.seconds}
    with timed(seconds, "score"):
        found = score(state.probability, codes, kernels.rates)
    return PipelineResult(found, {**seconds, "total": sum(seconds.values())})
