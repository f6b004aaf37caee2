"""Drop-in names: values, signatures, what they return, and that they leave their input alone."""

import inspect

import golden
import numpy as np
import pytest
from helpers import class_labels, relu_features

import lead_fast as lf
from lead_fast import compat
from lead_fast.errors import InputError, InputTypeError, ScoreWarning

pytestmark = pytest.mark.filterwarnings("ignore::lead_fast.errors.ScoreWarning")


GOLDEN = {
    "logme": lambda x, y: compat.LogME(regression=False).fit(x, y),
    "sfda": compat.SFDA_Score,
    "parc_pca32": compat.PARC_Score,
    "etran_lda": compat.LDA_Score,
    "etran_energy_bot0.5": lambda x, y: compat.Energy_Score(x, 0.5, "bot"),
    "hscore": compat.h_score,
    "hscore_regularized": compat.regularized_h_score,
    "transrate": compat.transrate,
    "leep": lambda x, y: compat.log_expected_empirical_prediction(
        golden.source_probabilities(x), y
    ),
    "nce": lambda x, y: compat.negative_conditional_entropy(
        golden.source_probabilities(x).argmax(axis=1), y
    ),
    "pactran_gauss_l1_s100": lambda x, y: (
        -dict(compat.PAC_Score(x, y, 1.0)[0][:4])["pac_gauss_1.0"]
    ),
    "pactran_xent_l1": lambda x, y: -dict(compat.PAC_Score(x, y, 1.0)[0][:4])["pac_opt_1.0"],
}


@pytest.mark.parametrize("key", GOLDEN)
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden(model, key):
    if key not in golden.GOLDEN[model]:
        pytest.skip("the public code gave no value here")
    features, labels = golden.load(model)
    x, y = features.astype(np.float64), labels.astype(np.int64)
    before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False  # the originals write to their arguments
    score = GOLDEN[key](x, y)
    golden.assert_golden(score, model, key, "float64")
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    assert isinstance(score, float)


@pytest.mark.parametrize("key, kind", [("ped_sfda", "SFDA"), ("ped_logme", "LOGME")])
@pytest.mark.parametrize("model", golden.MODELS)
def test_golden_ped(model, key, kind):
    path = golden.SHARED / "zoo" / "mnist" / f"{model.split('/')[1]}.npz"
    if not path.exists():
        pytest.skip("needs the model's features on the reference data set")
    features, labels = golden.load(model)
    with np.load(path) as file:
        general = file["features"].astype(np.float64)
    score = compat.PED_Score(
        features.astype(np.float64), labels.astype(np.int64), general_X=general, exit_ratio=0.5,
        time_step=0.1, type=kind, nsigma=0.6, constant=1,
    )  # fmt: skip
    golden.assert_golden(score, model, key, "float64")


SIGNATURES = {
    "LogME_Score": ["X", "y"],
    "SFDA_Score": ["X", "y"],
    "PARC_Score": ["X", "y", "ratio"],
    "NLEEP": ["X", "y", "component_ratio"],
    "LDA_Score": ["X", "y"],
    "Energy_Score": ["logits", "percent", "tail"],
    "PAC_Score": ["features_np_all", "label_np_all", "lda_factor"],
    "PED_Score": [
        "X", "y", "general_X", "exit_ratio", "time_step", "eps", "type", "component_ratio",
        "nsigma", "constant",
    ],
    "LEEP": ["X", "y", "model_name"],
    "h_score": ["features", "labels"],
    "regularized_h_score": ["features", "labels"],
    "log_maximum_evidence": ["features", "targets", "regression", "return_weights"],
    "log_expected_empirical_prediction": ["predictions", "labels"],
    "negative_conditional_entropy": ["source_labels", "target_labels"],
    "transrate": ["features", "labels", "eps"],
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    found = list(inspect.signature(getattr(compat, name)).parameters)
    assert found[: len(SIGNATURES[name])] == SIGNATURES[name]
    assert name in compat.__all__


def test_defaults():
    defaults = {
        name: {k: p.default for k, p in inspect.signature(getattr(compat, name)).parameters.items()}
        for name in ("PED_Score", "NLEEP", "PARC_Score", "transrate")
    }
    assert defaults["PED_Score"]["nsigma"] == 2.0
    assert defaults["PED_Score"]["type"] == "SFDA"
    assert defaults["NLEEP"]["component_ratio"] == 5
    assert defaults["PARC_Score"]["ratio"] == 2
    assert defaults["transrate"]["eps"] == 1e-4


def test_logme_of_classes_predicts_them(rng):
    labels = np.array([2, 5, 9])[class_labels([30, 40, 50])]
    x = rng.standard_normal((120, 6)) + 5 * np.eye(3, 6)[np.searchsorted([2, 5, 9], labels)]
    model = compat.LogME()
    with pytest.raises(RuntimeError, match="not fitted"):
        model.predict(x)
    score = model.fit(x, labels)
    assert abs(score - lf.score(x, labels, "logme", dtype="float64")) <= 1e-12
    assert (model.predict(x) == labels).mean() > 0.95
    assert model.ms.shape == (3, 6)
    assert len(model.alphas) == len(model.betas) == 3
    other = model.fit(x[:, :3], labels)
    assert model.ms.shape == (3, 3)
    assert other == compat.LogME().fit(x[:, :3], labels)


@pytest.mark.parametrize("shape", [(80, 7), (20, 31)])
def test_logme_regression(rng, shape):
    x = rng.standard_normal(shape)
    truth = rng.standard_normal((shape[1], 2))
    y = x @ truth + 0.1 * rng.standard_normal((shape[0], 2))
    model = compat.LogME(regression=True)
    score = model.fit(x, y)
    # The evidence at the alpha and beta that were found, from its dense definition.
    n, d = shape
    evidences = []
    for target, alpha, beta in zip(y.T, model.alphas, model.betas, strict=True):
        covariance = np.eye(n) / beta + x @ x.T / alpha
        quadratic = target @ np.linalg.solve(covariance, target)
        evidence = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + quadratic) / n
        # The public code leaves out D - N factors of the determinant for N < D.
        evidences.append(evidence + 0.5 * max(d - n, 0) * np.log(alpha) / n)
    # The iteration stops at a relative change of 1e-3 and the evidence is flat at its maximum,
    # which it evaluates at the coefficients of the step before.
    assert abs(score - np.mean(evidences)) <= 2e-2 * abs(np.mean(evidences))
    assert model.predict(x).shape == y.shape
    residual = np.abs(model.predict(x) - y).mean()
    assert residual <= (0.12 if n > d else 0.5)
    single = compat.LogME(regression=True).fit(x, y[:, 0])
    assert abs(single - compat.LogME(regression=True).fit(x, y[:, :1])) == 0
    if n > d:
        # Ridge coefficients for a small penalty are near those of least squares.
        assert np.abs(model.ms.T - np.linalg.lstsq(x, y, rcond=None)[0]).max() <= 0.02


def test_logme_coefficients_of_wide_features(rng):
    x = rng.standard_normal((12, 40))
    y = rng.standard_normal((12, 1))
    model = compat.LogME(regression=True)
    model.fit(x, y)
    padded = compat.LogME(regression=True)
    padded.fit(np.hstack([x, np.zeros((12, 3))]), y)
    assert np.abs(padded.ms[:, 40:]).max() == 0
    fitted = x @ model.ms.T
    direction = x.T @ np.linalg.lstsq(x.T, model.ms.T, rcond=None)[0]
    assert np.abs(direction - model.ms.T).max() <= 1e-9  # in the row space
    assert np.corrcoef(fitted[:, 0], y[:, 0])[0, 1] > 0.5


def test_log_maximum_evidence(rng):
    labels = class_labels([30, 30, 40])
    x = relu_features(labels, 9, dtype=np.float64)
    score, weights = compat.log_maximum_evidence(x, labels, return_weights=True)
    assert weights.shape == (3, 9)
    assert compat.log_maximum_evidence(x, labels) == score
    assert compat.log_maximum_evidence(x, labels, return_distribution=True)[0] == score
    # Both algorithms maximise the same evidence.
    assert abs(score - lf.score(x, labels, "logme", dtype="float64")) <= 1e-2
    values = np.eye(3)[labels]
    again = compat.log_maximum_evidence(x, values, regression=True)
    assert abs(again - score) <= 1e-10


def test_pac_score(rng):
    labels = class_labels([50, 60])
    x = rng.standard_normal((110, 8)) + labels[:, None]
    entries, theta = compat.PAC_Score(x, labels, 0.1)
    assert [name for name, _ in entries] == ["pac_gauss_0.1", "time", "pac_opt_0.1", "time"] * 2
    w, b = theta.reshape(9, 2)[:8], theta.reshape(9, 2)[8]
    centred = x - x.mean(axis=0)
    logits = centred @ w + b
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (p - np.eye(2)[labels]) / 110
    # The gradient is zero at the optimum.
    assert np.abs(centred.T @ error + w / (0.1 * 110)).max() <= 1e-6
    loss = -np.log(p[np.arange(110), labels]).mean() + 0.5 * (w**2).sum() / (0.1 * 110)
    assert abs(dict(entries)["pac_opt_0.1"] - loss) <= 1e-8
    with pytest.raises(InputError, match="lda_factor"):
        compat.PAC_Score(x, labels, 2.0)


def test_pac_score_of_wide_features(rng):
    labels = class_labels([10, 12])
    x = rng.standard_normal((22, 40))
    _, theta = compat.PAC_Score(x, labels, 1.0)
    w, b = theta.reshape(41, 2)[:40], theta.reshape(41, 2)[40]
    centred = x - x.mean(axis=0)
    logits = centred @ w + b
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (p - np.eye(2)[labels]) / 22
    assert np.abs(centred.T @ error + w / 22).max() <= 1e-6


def test_leep_from_a_last_layer(rng, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    labels = class_labels([20, 25])
    x = rng.standard_normal((45, 6)).astype(np.float32)
    weight, bias = rng.standard_normal((10, 6)), rng.standard_normal(10)
    score = compat.LEEP(x, labels, head=(weight, bias))
    logits = x.astype(np.float64) @ weight.T + bias
    assert score == lf.score(x, labels, "leep", source=logits, log=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="resnet50-19c8e357"):
        compat.LEEP(x, labels)
    folder = tmp_path / "models" / "group1" / "checkpoints"
    folder.mkdir(parents=True)
    tensors = {"fc.weight": torch.tensor(weight), "fc.bias": torch.tensor(bias)}
    torch.save(tensors, folder / "resnet50-19c8e357.pth")
    assert compat.LEEP(x, labels, model_name="resnet50") == score
    with pytest.raises(InputError, match="vgg"):
        compat.LEEP(x, labels, model_name="vgg")
    with pytest.raises(InputError, match="do not fit"):
        compat.LEEP(x[:, :5], labels, head=(weight, bias))


def test_energy_score(rng):
    logits = rng.standard_normal((1000, 12))
    energies = np.sort(np.log(np.exp(logits).sum(axis=1)))
    assert abs(compat.Energy_Score(logits, 0.5, "bot") - energies[:5].mean()) <= 1e-12
    assert abs(compat.Energy_Score(logits, 10, "bot") - energies[:100].mean()) <= 1e-12
    assert abs(compat.Energy_Score(logits, 10, "top") - energies[-100:].mean()) <= 1e-12


def test_the_rest(rng):
    labels = class_labels([40, 40])
    x = rng.standard_normal((80, 5)) + 2 * labels[:, None]
    assert compat.LEAD_Score(x, labels) == lf.lead(x, labels).score
    assert compat.LogME_Score(x, labels) == compat.LogME().fit(x, labels)
    assert compat.NCE(labels, labels) == 0.0
    assert 0.5 < compat.NLEEP(x, labels, component_ratio=1) <= 1.0
    for kind in ("SFDA", "LOGME", "NLEEP"):
        assert np.isfinite(compat.PED_Score(x, labels, type=kind, nsigma=0.6))
    with pytest.raises(InputError, match="GBC"):
        compat.PED_Score(x, labels, type="GBC")
    with pytest.raises(InputError, match="eps"):
        compat.PED_Score(x, labels, eps=1e-2)


def test_evidence_without_a_maximum_is_refused(rng):
    labels = np.arange(60) % 3
    for call in (
        lambda: compat.log_maximum_evidence(np.eye(3)[labels], labels),
        lambda: compat.log_maximum_evidence(np.zeros((60, 4)), labels),
        lambda: compat.LogME(regression=True).fit(np.zeros((60, 4)), rng.standard_normal(60)),
    ):
        with pytest.raises(InputError, match="logme: the features"):
            call()


def test_what_cannot_be_used_is_refused(rng):
    labels = np.arange(60) % 3
    x = rng.standard_normal((60, 8))
    source = rng.dirichlet(np.ones(5), 60)
    empty = source.copy()
    empty[4] = 0.0
    for predictions, word in ((empty, "row 4 sums to 0"), (3 * source, "row 0 sums to 3")):
        with pytest.raises(InputError, match=word):
            compat.log_expected_empirical_prediction(predictions, labels)
    for percent in (200, 0, -5):
        with pytest.raises(InputError, match="percent"):
            compat.Energy_Score(x, percent, "bot")
    with pytest.raises(InputTypeError, match="ratio"):
        compat.PARC_Score(x, labels, ratio="2")
    with pytest.raises(InputError, match=r"ratio: 0\.1 of 8 features"):
        compat.PARC_Score(x, labels, ratio=0.1)
    assert compat.PARC_Score(x, labels, ratio=0.5) != compat.PARC_Score(x, labels)
    with pytest.raises(InputTypeError, match="component_ratio"):
        compat.NLEEP(x, labels, "5")


def test_a_failed_fit_leaves_nothing_fitted(rng):
    x, labels = rng.standard_normal((60, 8)), np.arange(60) % 3
    model = compat.LogME()
    model.fit(x, labels)
    with pytest.raises(InputError, match=r"\(N, 8\) as fitted, got shape \(60, 3\)"):
        model.predict(x[:, :3])
    with pytest.raises(InputError):
        model.fit(0 * x, labels)
    with pytest.raises(RuntimeError, match="not fitted"):
        model.predict(x)


def test_fewer_samples_than_features_warn(rng):
    x, labels = rng.standard_normal((20, 40)), np.arange(20) % 3
    for call in (compat.LogME().fit, compat.log_maximum_evidence, compat.LogME_Score):
        with pytest.warns(ScoreWarning, match="fewer samples"):
            call(x, labels)
