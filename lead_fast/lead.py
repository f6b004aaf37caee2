"""LEAD: the transferability score of one backbone's features."""

import dataclasses
import time as clock

import numpy as np

from . import backend, svm
from ._caller import warn_caller
from .device import check_findings, resolve, to_host
from .errors import DeviceError, InputError, SaturationWarning, ScoreWarning
from .features import as_features
from .head import Head, check_hidden, layers
from .labels import encode
from .ntk import choose_rows, expected_rates, rates_of_rows, rates_on_device
from .options import choice, integer, real
from .options import seed as check_seed
from .svm import SvmOptions

SATURATED = 1e-12
TIME_UNIT = 1e-6  # the paper's unit of training time: eta * t = 1e-6 * time
CURVE = tuple(10.0 ** (k / 4) for k in range(-12, 13))  # times of LeadResult.curve
_FOLD_STREAM = 2  # see csrc/philox.h
_KEPT_HEADS = 4  # of as many widths: to draw one takes far less than the SVM, to keep it megabytes

# What was measured to rank better than the paper's setting, see bench/RANKING.md.
PRESETS = {"held-out": {"cross_fit": 3, "time": 0.0}}
_DEFAULTS = {"cross_fit": None, "time": 1.0}


@dataclasses.dataclass(frozen=True)
class LeadResult:
    """What :func:`lead` found.

    Attributes
    ----------
    score : float
        Mean log-probability of the labels after evolution; at most 0, higher is better.
    rates : ndarray (K,) float64
        Mean eigenvalue of each class's kernel.
    classes : ndarray (K,)
        The classes, in the order of ``rates``.
    svm : SvmReport
        ``primal``, ``dual``, ``gap``, ``passes``, ``converged``; over all folds of ``cross_fit``.
    seconds : dict
        Wall-clock seconds of each stage, and their ``"total"``.
    draws : tuple of float
        The score by each draw of head and samples, in the order of their seeds; ``score`` is their
        mean, ``rates`` the mean of their rates.
    initial : float
        The score before evolution: the mean log-probability of the labels at time 0.
    curve : tuple of (float, float)
        ``(time, score)`` along the evolution, of the mean rates; only where it was asked for.
    """

    score: float
    rates: np.ndarray
    classes: np.ndarray
    svm: svm.SvmReport
    seconds: dict
    draws: tuple = ()
    initial: float = float("nan")
    curve: tuple = ()

    def __float__(self):
        return self.score


class Stopwatch:
    """Adds up the seconds of named stages."""

    def __init__(self):
        self.seconds = {}
        self._start = self._last = clock.perf_counter()

    def lap(self, stage):
        """Book the time since the last lap on ``stage``."""
        now = clock.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def total(self):
        """Seconds of each stage, and since the start as ``"total"``."""
        return {**self.seconds, "total": clock.perf_counter() - self._start}


class Lead:
    """LEAD for one set of labels: what depends on them alone is done once.

    The options are those of :func:`lead`. The heads of the last few widths D are kept.
    """

    upper_bound = 0.0

    def __init__(
        self, labels, *, time=1.0, n_samples=64, hidden=(1024, 2048), svm="ww", hinge=1, C=1.0,
        scale="unit", cross_fit=None, tol=1e-3, max_passes=1000, seed=0, repeats=1, head=None,
        preset=None, device=None,
    ):  # fmt: skip
        time, cross_fit = _preset(preset, time=time, cross_fit=cross_fit)
        self.device = backend.check_device(device)
        self._device = device if device is None else self.device
        self.labels = encode(labels)
        self.time = real("time", time, finite=False)
        self.hidden = check_hidden(hidden)
        self.seed = check_seed(seed)
        self.svm = SvmOptions(svm, hinge, C, scale, tol, max_passes, self.seed)
        repeats = integer("repeats", repeats, 1, 1000)
        self.seeds = [(self.seed + draw) % 2**64 for draw in range(repeats)]
        n_samples = integer("n_samples", n_samples, 1)
        self.rows = [choose_rows(self.labels, n_samples, seed) for seed in self.seeds]
        self.folds = None if cross_fit is None else self._folds(cross_fit)
        self.head = choice("head", head, ("expected",)) if isinstance(head, str) else head
        self._heads = {}

    def __call__(self, features, keep=True):
        """Score features (N, D): a float. ``keep`` holds on to the head for the next call."""
        return self.evaluate(features, keep_head=keep).score

    def evaluate(self, features, keep_head=False, curve=False):
        """Score features (N, D): :class:`LeadResult`, with its ``curve`` if that is set."""
        place = resolve(self._device, features)
        if place is None:
            x = as_features(to_host(features, "features"))
            return self._evaluate(x, None, keep_head, curve)
        from .svm_arrays.adapt import memory_errors

        with memory_errors():
            return self._evaluate(place.features(features), place, keep_head, curve)

    def _evaluate(self, x, place, keep_head, curve):
        watch = Stopwatch()
        n, d = x.shape
        encode(self.labels, n=n)
        expected = isinstance(self.head, str)
        if expected and place is not None:
            raise DeviceError(
                'head: "expected" runs on the CPU only in this version; move the features there'
            )
        first = None if expected else self._layers(d, self.seeds[0], keep_head, place)
        watch.lap("head")
        mapping = svm.column_map(x, self.svm.scale)  # refuses NaN before anything is computed
        watch.lap("statistics")
        rates = [self._rates(x, self.rows[0], first, place)]
        del first  # the SVM may need the memory of a head that is not kept
        for seed, rows in zip(self.seeds[1:], self.rows[1:], strict=True):
            layers = None if expected else self._layers(d, seed, False, place)
            rates.append(self._rates(x, rows, layers, place))
            del layers
        watch.lap("rates")
        if n < d:
            warn_caller(
                f"fewer samples ({n}) than features ({d}): the SVM can fit any labels, "
                "so the score may not discriminate; use more samples or cross_fit",
                ScoreWarning,
            )
        log_probability, report = self._initial(x, mapping)
        watch.lap("svm")
        p = self._on(place, np.exp(log_probability))
        times = TIME_UNIT * np.array([self.time, 0.0, *(CURVE if curve else ())])
        draws = tuple(float(self._evolved(place, p, one, times[:1])[0]) for one in rates)
        mean = rates[0] if len(rates) == 1 else np.mean(rates, axis=0)
        _, initial, *course = self._evolved(place, p, mean, times)
        score = draws[0] if len(draws) == 1 else float(np.mean(draws))
        watch.lap("evolution")
        if score > -SATURATED:
            warn_caller(
                f"the score is saturated ({score:.2g}, the most is 0): with rates this large every "
                "label is learnt; use a smaller time",
                SaturationWarning,
            )
        return LeadResult(
            score, mean, self.labels.classes, report, watch.total(), draws, float(initial),
            tuple(zip(CURVE, map(float, course), strict=True)) if curve else (),
        )  # fmt: skip

    def _rates(self, x, rows, layers, place):
        """One rate per class (K,), of the samples `rows` and a head, or of the expected head."""
        if layers is None:
            return expected_rates(x, rows, self.labels.n_classes, self.hidden)
        if place is None:
            return rates_of_rows(x, rows, *layers)
        return rates_on_device(place, x, rows, layers)

    def _on(self, place, probability):
        """The column of probabilities, on the GPU if the work is there."""
        return probability if place is None else place.upload(probability[:, None])

    def _evolved(self, place, probability, rates, times):
        if place is None:
            return backend.cpu().evolved_score_label(
                probability,
                self.labels.codes,
                rates,
                times,
                backend.threads(len(times) * probability.nbytes),
            )
        scores, found = backend.cuda().evolved_score(
            False, True, probability.memory(), self.labels.codes_on(place), rates, times,
            *place.where(),
        )  # fmt: skip
        check_findings(found, "initial", self.labels.n)
        return scores

    def _layers(self, d, seed, keep, place):
        k = self.labels.n_classes
        if self.head is None:
            device = None if place is None else f"cuda:{place.device}"
            key = (d, self.hidden, k, seed, device)
            head = self._heads.pop(key, None)
            keep = keep or head is not None
            if keep:  # there is room for it before it is drawn
                for oldest in list(self._heads)[: 1 - _KEPT_HEADS]:
                    self._heads.pop(oldest, None)
            if head is None:
                head = Head(d, k, self.hidden, seed, device)
            if keep:
                self._heads[key] = head
            return layers(head, d, place)
        weights, biases = layers(self.head, d, place)
        if weights[-1].shape[1] != k:
            raise InputError(f"head: {weights[-1].shape[1]} outputs for {k} classes")
        return weights, biases

    def _initial(self, x, mapping):
        """The log p_i[y_i] of the initial logits, (N,), and the report of the SVM."""
        k = self.labels.n_classes
        codes = self.labels.codes
        if self.folds is None:
            *_, report, log_probability = svm.fit(
                x, codes, k, self.svm, mapping, log_probability=True
            )
            return log_probability, report
        log_probability = np.empty(self.labels.n)
        reports = []
        for fold in range(self.folds.max() + 1):
            inside = np.flatnonzero(self.folds != fold)
            outside = np.flatnonzero(self.folds == fold)
            mapping = svm.column_map(x, self.svm.scale, inside)
            weights, bias, report, _ = svm.fit(x, codes[inside], k, self.svm, mapping, inside)
            log_probability[outside] = svm.label_log_probability(
                x, codes[outside], k, mapping, weights, bias, outside
            )
            reports.append(report)
        primal, dual = sum(r.primal for r in reports), sum(r.dual for r in reports)
        report = svm.SvmReport(
            primal, dual, svm.relative_gap(primal, dual),
            sum(r.passes for r in reports), all(r.converged for r in reports),
        )  # fmt: skip
        return log_probability, report

    def _folds(self, count):
        """Fold of each sample (N,): each class dealt out evenly, in an order from the seed."""
        count = integer("cross_fit", count, 2, self.labels.n)
        folds = np.empty(self.labels.n, np.int64)
        for number, rows in enumerate(self.labels.rows_by_class()):
            keys = backend.cpu().sample_keys(self.seed, number, _FOLD_STREAM, len(rows))
            place = np.empty(len(rows), np.int64)
            place[np.argsort(keys, kind="stable")] = np.arange(len(rows))
            folds[rows] = (place + number) % count
        return folds


def lead(
    features, labels, *, time=1.0, n_samples=64, hidden=(1024, 2048), svm="ww", hinge=1, C=1.0,
    scale="unit", cross_fit=None, tol=1e-3, max_passes=1000, seed=0, repeats=1, head=None,
    preset=None, device=None,
):  # fmt: skip
    r"""Score one frozen backbone by the closed-form evolution of its logits.

    A multi-class SVM, trained and evaluated on the features, gives initial logits p (soft-max of
    its decision values). The pseudo neural tangent kernel of a random head gives each class c
    a rate :math:`\lambda_c`, its mean eigenvalue. The score is

    .. math:: \frac{1}{N} \sum_i \log E_i[y_i], \quad
              E_i = (1 - e^{-\lambda_c \eta t}) \mathrm{onehot}(y_i) + e^{-\lambda_c \eta t} p_i,
              \quad c = y_i, \; \eta t = 10^{-6} \, time

    Parameters
    ----------
    features : array-like (N, D)
        float16, bfloat16, float32 or float64; see :func:`lead_fast.features.as_features`.
    labels : array-like (N,)
        Integers or strings, at least two classes.
    time : float
        Training time in the paper's unit, at least 0.
    n_samples : int
        Samples per class for the kernel, S.
    hidden : sequence of int
        Widths of the head's hidden layers.
    svm : {"ww", "ovr", "cs"}
        Weston-Watkins (the paper's), one-vs-rest, Crammer-Singer.
    hinge : {1, 2}
        The power of the hinge.
    C : float
        Cost of the loss, positive.
    scale : {"unit", "standard", "none"}
        What the SVM, and it alone, sees: features centred and divided by one number so that their
        mean squared norm is 1; each column standardised; features as they are.
    cross_fit : int, optional
        Number of stratified folds; each sample's initial logits then come from an SVM that has not
        seen it.
    tol : float
        Relative duality gap at which the SVM stops.
    max_passes : int
        Limit on the SVM's effective passes over the data.
    seed : int
        Of the head, the choice of samples, and the folds.
    repeats : int
        Draws of head and samples, of the seeds ``seed, seed + 1, ...``; the score is their mean.
        They share one SVM, so that each further draw costs its head and its rates only.
    head : Head or "expected", optional
        Used instead of a random one; any object with ``weights`` and ``biases``. "expected" takes
        each rate's mean over all random heads, which has a closed form (see Notes; on the CPU).
    preset : {"held-out"}, optional
        Options under one name, beside which they must keep their defaults. "held-out" is
        ``cross_fit=3, time=0``: the mean log-probability of held-out labels, without evolution. It
        is not the paper's method; it ranked better than that on 20 tasks, at about twice the
        cost (``bench/RANKING.md``). The metric ``"lead+"`` has more of the kind.
    device : {None, "cpu", "cuda", "cuda:N"}
        Where to compute; by default where the features are. A GPU's SVM is solved by another method
        to the same gap, and needs CuPy.

    Returns
    -------
    LeadResult

    Raises
    ------
    InputError, InputTypeError, DeviceError
        Input that cannot be used; one line says what, where, and what to do.

    Warns
    -----
    ConvergenceWarning
        The SVM reached ``max_passes`` before ``tol``.
    ScoreWarning
        Fewer samples than features; a score that is saturated.

    Notes
    -----
    The kernel sees the features as they are, and its rates grow with their squared norm: as in the
    paper, features of very large norm score high whatever they say. Compare features of one kind.

    Over He-normal heads with zero biases the kernel's diagonal has the mean
    :math:`K \sum_l (1 + |x|^2 H_{l-1} / D)`, with :math:`H_0 = D` and the hidden widths after it: a
    head's rates depend on the features, but for the draw, through their norms alone.

    Time: some 15 passes over pairs of sample and class for the SVM, 4 N D K operations each at
    most; 2 S K (D H1 + 2 H1 H2) for the rates. Memory beyond the features: 5 N K bytes for dual
    variables, the head, and small buffers. The same input and seed give the same bits for any
    number of threads.

    References
    ----------
    "Exploring Logit Space Evolution for Model Selection", CVPR 2024 (LEAD), Eq. 7.

    Examples
    --------
    >>> import lead_fast, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 3
    >>> x = rng.standard_normal((60, 8)) + 4 * np.eye(3, 8)[y]
    >>> result = lead_fast.lead(x, y)
    >>> -0.6 < result.score < 0
    True
    """
    return Lead(
        labels, time=time, n_samples=n_samples, hidden=hidden, svm=svm, hinge=hinge, C=C,
        scale=scale, cross_fit=cross_fit, tol=tol, max_passes=max_passes, seed=seed,
        repeats=repeats, head=head, preset=preset, device=device,
    ).evaluate(features)  # fmt: skip


def _preset(name, **given):
    """The options that a preset sets, in the order given."""
    if name is None:
        return given.values()
    values = PRESETS[choice("preset", name, tuple(PRESETS))]
    for option, value in given.items():
        if value is not _DEFAULTS[option] and value not in (_DEFAULTS[option], values[option]):
            raise InputError(
                f"{option}: the preset {name!r} sets it to {values[option]}; leave one of them out"
            )
    return [values[option] for option in given]
