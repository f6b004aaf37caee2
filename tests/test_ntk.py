"""Kernels and rates per class, against Jacobians: the reference's and torch.func's."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import (
    EPS32,
    FACTOR,
    assert_close,
    bfloat16_bits,
    class_labels,
    one_line,
    plain_kernel,
    relu_features,
    threads,
    tolerance,
)

import lead_fast as lf
from lead_fast import reference
from lead_fast.ntk import _smallest, sample_rows

# Below this distance from a ReLU's kink float32 code may take the other side; see gate_margin.
SAFE_MARGIN = 20 * EPS32


def case(n_features, hidden, counts, *, seed=0, biased=True, dtype=np.float32):
    """Features, labels and a head, none of whose gates hangs on a rounding."""
    labels = class_labels(counts, seed)
    features = relu_features(labels, n_features, seed=seed, dtype=dtype)
    for attempt in range(50):
        head = lf.Head(n_features, len(counts), hidden=hidden, seed=seed + 1000 * attempt)
        if biased:
            rng = np.random.default_rng(seed)
            biases = [(0.3 * rng.normal(size=b.shape)).astype(np.float32) for b in head.biases]
            head = lf.Head.from_arrays(head.weights, biases)
        if reference.gate_margin(features, head) > SAFE_MARGIN:
            return features, labels, head
    raise AssertionError("no head keeps clear of the kinks; make the case smaller")


def kernel_limit(features, labels, head, exact, **sampling):
    """Tolerance of each class's kernel, from the plain float32 version."""
    return {
        name: tolerance(
            exact[name], plain_kernel(np.asarray(features)[rows], head.weights, head.biases)
        )
        for name, rows in reference.sample_rows(labels, **sampling).items()
    }


def check_kernels(features, labels, head, values=None, **sampling):
    """class_kernels and class_rates of `features`, whose float64 values are `values`."""
    values = np.asarray(features) if values is None else values
    exact = reference.class_kernels(values, labels, head, **sampling)
    limits = kernel_limit(values, labels, head, exact, **sampling)
    kernels = lf.class_kernels(features, labels, head, **sampling)
    assert list(kernels) == list(exact)
    for name, kernel in kernels.items():
        assert kernel.dtype == np.float64
        assert_close(kernel, exact[name], limits[name], f"kernel of class {name}")
        assert np.array_equal(kernel, kernel.T)
    rates = lf.class_rates(features, labels, head, **sampling)
    assert rates.dtype == np.float64
    exact_rates = reference.class_rates(values, labels, head, **sampling)
    for rate, expected, limit in zip(rates, exact_rates, limits.values(), strict=True):
        assert_close(rate, expected, limit, "rate")


# ------------------------------------------------------------------------ against the reference


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("hidden", [(), (33,), (31, 17), (16, 33, 9), (1, 1)])
def test_hidden_layers(hidden, biased):
    features, labels, head = case(13, hidden, (5, 9, 7), biased=biased)
    check_kernels(features, labels, head)


@pytest.mark.parametrize("n_features", [1, 2, 31, 33, 97, 1025])
def test_feature_widths(n_features):
    features, labels, head = case(n_features, (33, 12), (4, 6), seed=2)
    check_kernels(features, labels, head)


@pytest.mark.parametrize("counts", [(1, 1), (1, 31), (33, 2, 1), (97, 64, 65), (3,) * 33])
def test_unequal_classes(counts):
    features, labels, head = case(9, (17, 11), counts, seed=3)
    check_kernels(features, labels, head)


def test_the_default_head():
    features, labels, head = case(24, (1024, 2048), (3, 2), seed=1, biased=False)
    check_kernels(features, labels, head)


@pytest.mark.parametrize("n_samples", [1, 2, 5, 31, 64, 1000])
def test_n_samples(n_samples):
    features, labels, head = case(8, (12, 7), (33, 5, 64), seed=4)
    check_kernels(features, labels, head, n_samples=n_samples, seed=6)


def test_one_class():
    """Enough for a kernel, if not for a score."""
    features, labels, head = case(9, (11,), (33,), seed=1)
    check_kernels(features, labels, head)


def test_many_more_classes_than_a_block():
    features, labels, head = case(6, (7,), (2,) * 301, seed=5)
    check_kernels(features, labels, head)


def test_zero_row_leaves_the_output_bias_alone():
    """With zero biases and a zero sample only the K output biases have a gradient: Phi = K."""
    head = lf.Head(5, 3, hidden=(8, 6), seed=1)
    features = np.zeros((4, 5), np.float32)
    kernels = lf.class_kernels(features, [0, 0, 1, 2], head)
    assert all(np.array_equal(k, np.full(k.shape, 3.0)) for k in kernels.values())
    assert np.array_equal(lf.class_rates(features, [0, 0, 1, 2], head), np.full(3, 3.0))


def test_linear_head_in_closed_form(rng):
    """No hidden layer: g has gradient (x, ..., x, 1, ..., 1), so Phi = K (x.x' + 1)."""
    features = rng.normal(size=(6, 4)).astype(np.float32)
    wide = features.astype(np.float64)
    kernels = lf.class_kernels(features, np.repeat([0, 1], 3), lf.Head(4, 5, hidden=()))
    for c, part in enumerate((wide[:3], wide[3:])):
        expected = 5 * (part @ part.T + 1)
        assert_close(kernels[c], expected, FACTOR * 4 * EPS32 * np.max(np.abs(expected)))


def test_scales_of_float32_features():
    """Layer sums of very small and very large features."""
    for scale in (1e-12, 1e12):
        features, labels, head = case(13, (20, 9), (5, 6), biased=False)
        features = features * np.float32(scale)
        check_kernels(features, labels, head)


# --------------------------------------------------------------------------- against torch.func


@pytest.mark.parametrize("hidden", [(), (12,), (9, 14), (8, 7, 6)])
def test_against_torch_func(hidden):
    torch = pytest.importorskip("torch")
    features, labels, head = case(11, hidden, (6, 9, 4), seed=7)
    parameters = [torch.tensor(a, dtype=torch.float64) for a in [*head.weights, *head.biases]]

    def total_output(parameters, x):
        layers = len(parameters) // 2
        for layer in range(layers):
            x = x @ parameters[layer] + parameters[layers + layer]
            x = torch.relu(x) if layer < layers - 1 else x
        return x.sum()

    per_sample = torch.func.vmap(torch.func.grad(total_output), in_dims=(None, 0))
    kernels = lf.class_kernels(features, labels, head)
    for name, kernel in kernels.items():
        rows = features[labels == name]
        gradients = per_sample(parameters, torch.tensor(rows, dtype=torch.float64))
        flat = torch.cat([g.flatten(1) for g in gradients], dim=1).numpy()
        exact = flat @ flat.T
        limit = tolerance(exact, plain_kernel(rows, head.weights, head.biases))
        assert_close(kernel, exact, limit, f"class {name}")


# ---------------------------------------------------------------------------------- trace path


@pytest.mark.parametrize("n_samples", [3, 64])
def test_rates_are_the_mean_of_the_spectrum(n_samples):
    features, labels, head = case(40, (65, 33), (70, 2, 64, 1), seed=8)
    kernels = lf.class_kernels(features, labels, head, n_samples=n_samples, seed=2)
    rates = lf.class_rates(features, labels, head, n_samples=n_samples, seed=2)
    exact = reference.class_kernels(features, labels, head, n_samples=n_samples, seed=2)
    limits = kernel_limit(features, labels, head, exact, n_samples=n_samples, seed=2)
    for rate, (name, values) in zip(rates, lf.spectrum(kernels).items(), strict=True):
        assert_close(rate, values.mean(), 2 * limits[name], f"class {name}")


# ------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("counts", [(1, 2), (33, 5, 64), (65, 1000, 1)])
@pytest.mark.parametrize("n_samples", [1, 5, 64])
@pytest.mark.parametrize("seed", [0, 2**40 + 3])
def test_sampled_rows_are_the_documented_ones(counts, n_samples, seed):
    labels = class_labels(counts, seed=1)
    rows = sample_rows(labels, n_samples, seed)
    exact = reference.sample_rows(labels, n_samples, seed)
    assert list(rows) == list(exact)
    for name in exact:
        assert rows[name].dtype == np.int64
        assert np.array_equal(rows[name], exact[name])


@pytest.mark.parametrize("span", [3, 50, 2**40])
def test_smallest_keys_as_by_a_stable_sort(rng, span):
    for count in (1, 7, 64):
        keys = rng.integers(0, span, 300).astype(np.uint64)
        expected = np.sort(np.argsort(keys, kind="stable")[:count])
        assert np.array_equal(_smallest(keys, count), expected)


def test_sampling_takes_every_row_of_a_small_class_and_distinct_rows_of_a_large_one():
    labels = class_labels((10, 300), seed=0)
    rows = sample_rows(labels, 64)
    assert np.array_equal(rows[0], np.flatnonzero(labels == 0))
    assert len(np.unique(rows[1])) == 64 and np.all(labels[rows[1]] == 1)


def test_sampling_is_uniform():
    labels = np.repeat([0, 1], [50, 3])
    hits = np.zeros(50)
    for seed in range(600):
        hits[sample_rows(labels, 10, seed)[0]] += 1
    spread = np.sqrt(600 * 0.2 * 0.8)  # of a binomial count with mean 120
    assert np.max(np.abs(hits - 120)) <= 5 * spread


def test_names_of_classes_do_not_matter():
    features, labels, head = case(9, (11,), (30, 20, 40), seed=9)
    names = np.array(["a", "b", "zebra"])
    plain = lf.class_kernels(features, labels, head, n_samples=8)
    for renamed in (names[labels], labels - 7, labels.astype(np.uint8), names[labels].tolist()):
        kernels = lf.class_kernels(features, renamed, head, n_samples=8)
        assert list(kernels) == np.unique(renamed).tolist()
        for left, right in zip(plain.values(), kernels.values(), strict=True):
            assert left.tobytes() == right.tobytes()


# ------------------------------------------------------------------------ inputs of every kind


@pytest.fixture(scope="module")
def small():
    return case(33, (20, 15), (12, 9, 1), seed=10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    features, labels, head = case(33, (20, 15), (12, 9, 1), seed=10, dtype=dtype)
    check_kernels(features, labels, head)


def test_bfloat16(small):
    features, labels, head = small
    bits, values = bfloat16_bits(features)
    check_kernels(lf.features.Features(bits, "bfloat16"), labels, head, values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_tensors(small, dtype):
    torch = pytest.importorskip("torch")
    features, labels, head = small
    tensor = torch.tensor(features).to(getattr(torch, dtype))
    values = tensor.double().numpy()
    check_kernels(tensor, labels, head, values)
    check_kernels(tensor.T.contiguous().T, labels, head, values)
    kernels = lf.class_kernels(tensor, torch.tensor(labels), head)
    for name, kernel in lf.class_kernels(tensor, labels, head).items():
        assert kernel.tobytes() == kernels[name].tobytes()


def test_tensor_that_needs_a_gradient(small):
    torch = pytest.importorskip("torch")
    features, labels, head = small
    tensor = torch.tensor(features, requires_grad=True)
    check_kernels(tensor, labels, head, features)


def every_other_row(features):
    wide = np.full((2 * len(features), features.shape[1]), np.nan, features.dtype)
    wide[::2] = features
    return wide[::2]


def every_third_column(features):
    wide = np.full((len(features), 3 * features.shape[1]), np.nan, features.dtype)
    wide[:, ::3] = features
    return wide[:, ::3]


def unaligned(features):
    buffer = np.zeros(features.nbytes + 1, np.uint8)
    view = buffer[1:].view(features.dtype).reshape(features.shape)
    view[...] = features
    return view


def read_only(features):
    copy = features.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "rows apart": every_other_row,
    "columns apart": every_third_column,
    "rows reversed": lambda f: f[::-1].copy()[::-1],
    "columns reversed": lambda f: f[:, ::-1].copy()[:, ::-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "big-endian": lambda f: f.astype(f.dtype.newbyteorder(">")),
    "list": lambda f: f.tolist(),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(small, layout, dtype):
    features, labels, head = small
    features = features.astype(np.float16).astype(dtype)
    check_kernels(LAYOUTS[layout](features), labels, head, features)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_memory_map(small, tmp_path, mode):
    features, labels, head = small
    np.save(tmp_path / "features.npy", features)
    check_kernels(np.load(tmp_path / "features.npy", mmap_mode=mode), labels, head, features)


def test_array_protocol_and_dlpack(small):
    features, labels, head = small

    class OnlyArray:
        def __array__(self, dtype=None, copy=None):
            return np.array(features, dtype=dtype)

    class OnlyDLPack:
        def __dlpack__(self, **keywords):
            return features.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return features.__dlpack_device__()

    for wrapped in (OnlyArray(), OnlyDLPack()):
        check_kernels(wrapped, labels, head, features)


def test_integer_features(small):
    _, labels, head = small
    features = np.random.default_rng(0).integers(0, 4, size=(len(labels), 33))
    check_kernels(features, labels, head, features.astype(np.float64))


def test_input_is_left_alone(small):
    features, labels, head = small
    weights = [w.copy() for w in head.weights]
    given, names = np.asfortranarray(features), labels.copy()
    lf.class_kernels(given, names, head, n_samples=4)
    lf.class_rates(given, names, head, n_samples=4)
    assert np.array_equal(given, features) and np.array_equal(names, labels)
    assert all(np.array_equal(a, b) for a, b in zip(weights, head.weights, strict=True))


def test_any_object_with_weights_and_biases(small):
    features, labels, head = small
    weights = [np.asfortranarray(w, np.float64) for w in head.weights]
    other = SimpleNamespace(weights=tuple(weights), biases=[b.astype(float) for b in head.biases])
    check_kernels(features, labels, other)


# ------------------------------------------------------------------------------- reproducibility


def test_same_bits_for_any_number_of_threads():
    labels = class_labels((70, 64, 33, 1, 5), seed=0)
    features = relu_features(labels, 129)
    head = lf.Head(129, 5, hidden=(130, 65))
    kept = []
    for count in (1, 2, 3):
        with threads(count):
            rates = lf.class_rates(features, labels, head)
            kernels = lf.class_kernels(features, labels, head)
        kept.append([rates.tobytes(), *(k.tobytes() for k in kernels.values())])
    assert kept[0] == kept[1] == kept[2]


def test_a_class_does_not_depend_on_the_others():
    """Within rounding: the same rows in another batch."""
    features, labels, head = case(15, (22, 13), (9, 14, 30), seed=11)
    together = lf.class_kernels(features, labels, head)
    for name, kernel in together.items():
        rows = features[labels == name]
        alone = lf.class_kernels(np.concatenate([rows, rows]), np.repeat([0, 1], len(rows)), head)
        exact = reference.class_kernels(rows, np.zeros(len(rows)), head)[0.0]
        limit = tolerance(exact, plain_kernel(rows, head.weights, head.biases))
        for other in alone.values():
            assert_close(kernel, other, 2 * limit)


# ----------------------------------------------------------------------------------- large, bad


def test_rows_past_two_to_the_31_numbers(tmp_path):
    """Row numbers times the width leave 32 bits; the file is sparse and takes no room."""
    n_features = 2048
    n_rows = 2**31 // n_features + 40
    path = tmp_path / "features.dat"
    features = np.memmap(path, np.float16, "w+", shape=(n_rows, n_features))
    labels = np.zeros(n_rows, np.int8)
    labels[-20:] = 1
    tail = relu_features(np.ones(20, int), n_features, dtype=np.float16)
    features[-20:] = tail
    head = lf.Head(n_features, 2, hidden=(9,), seed=1)
    rates = lf.class_rates(features, labels, head)
    assert rates[0] == 2.0  # zero rows: K
    exact = np.diag(reference.class_kernels(tail, np.ones(20), head)[1.0])
    limit = tolerance(exact, np.diag(plain_kernel(tail, head.weights, head.biases)))
    assert_close(rates[1], exact.mean(), limit)


def with_bad_value(value, rows=(3, 7)):
    features = np.ones((10, 4), np.float32)
    for row in rows:
        features[row, 2] = value
    return features


GOOD = np.ones((10, 4), np.float32)
TWO = np.repeat([0, 1], 5)
HEAD = SimpleNamespace(weights=[np.ones((4, 2), np.float32)], biases=[np.zeros(2, np.float32)])

BAD = {
    "nan": (with_bad_value(np.nan), TWO, HEAD, {}, ["2", "row 3"]),
    "inf": (with_bad_value(np.inf, [9]), TWO, HEAD, {}, ["1", "row 9"]),
    "minus inf": (with_bad_value(-np.inf, [0]), TWO, HEAD, {}, ["1", "row 0"]),
    "label length": (GOOD, TWO[:-1], HEAD, {}, ["9", "10"]),
    "labels 2-D": (GOOD, TWO[:, None], HEAD, {}, ["label"]),
    "no rows": (GOOD[:0], TWO[:0], HEAD, {}, ["empty"]),
    "no columns": (GOOD[:, :0], TWO, HEAD, {}, ["empty"]),
    "1-D": (GOOD[:, 0], TWO, HEAD, {}, ["features", "dimensions"]),
    "3-D": (GOOD[:, :, None], TWO, HEAD, {}, ["features", "dimensions"]),
    "no samples": (GOOD, TWO, HEAD, {"n_samples": 0}, ["n_samples"]),
    "minus one sample": (GOOD, TWO, HEAD, {"n_samples": -1}, ["n_samples"]),
    "seed": (GOOD, TWO, HEAD, {"seed": -1}, ["seed"]),
    "head of another width": (
        GOOD,
        TWO,
        SimpleNamespace(weights=[np.ones((5, 2))], biases=[np.zeros(2)]),
        {},
        ["4", "5"],
    ),
    "head that does not chain": (
        GOOD,
        TWO,
        SimpleNamespace(weights=[np.ones((4, 3)), np.ones((2, 2))], biases=[np.zeros(3)] * 2),
        {},
        ["head"],
    ),
    "head with a NaN": (
        GOOD,
        TWO,
        SimpleNamespace(weights=[np.full((4, 2), np.nan)], biases=[np.zeros(2)]),
        {},
        ["head"],
    ),
}

BAD_TYPES = {
    "complex": (GOOD.astype(np.complex64), TWO, HEAD, {}, ["complex"]),
    "object": (GOOD.astype(object), TWO, HEAD, {}, ["object"]),
    "strings": (GOOD.astype(str), TWO, HEAD, {}, ["features"]),
    "half a sample": (GOOD, TWO, HEAD, {"n_samples": 0.5}, ["n_samples"]),
    "no head": (GOOD, TWO, object(), {}, ["weights"]),
    "not an array": ("features.npy", TWO, HEAD, {}, ["features"]),
}


@pytest.mark.parametrize("call", [lf.class_kernels, lf.class_rates], ids=["kernels", "rates"])
@pytest.mark.parametrize("name", [*BAD, *BAD_TYPES])
def test_bad_input(name, call):
    kind = lf.errors.InputError if name in BAD else lf.errors.InputTypeError
    features, labels, head, options, words = {**BAD, **BAD_TYPES}[name]
    with pytest.raises(kind) as caught:
        call(features, labels, head, **options)
    message = one_line(caught.value).lower()
    for word in words:
        assert word in message, message
