"""Every kernel on small awkward sizes, for compute-sanitizer; fails if a result is wrong.

compute-sanitizer --tool memcheck python bench/sanitize.py
"""

import sys

import numpy as np

import lead_fast as lf
from lead_fast import device
from lead_fast.eigh import _spectrum_on
from lead_fast.ntk import kernels_and_rates


def library():
    """CuPy's way onto the GPU, which starts faster than torch's under the tool."""
    try:
        import cupy

        return cupy.asarray, cupy.asnumpy
    except ImportError:
        import torch

        return (lambda a: torch.from_numpy(a).cuda()), (lambda a: a.cpu().numpy())


def main():
    put, get = library()
    rng = np.random.default_rng(0)
    for counts, width, hidden in (
        ((1, 1), 1, ()), ((3, 70), 33, (17,)), ((65, 2), 97, (31, 66)), ((5,) * 9, 8, (4, 12, 5)),
    ):  # fmt: skip
        labels = np.repeat(np.arange(len(counts)), counts)
        features = rng.normal(size=(len(labels), width)).astype(np.float32)
        for dtype in (np.float32, np.float16):
            here = lf.Head(width, len(counts), hidden, 1)
            there = lf.Head(width, len(counts), hidden, 1, device="cuda")
            exact = lf.class_rates(features.astype(dtype), labels, here, n_samples=1000)
            given = put(features.astype(dtype))
            kernels, rates = kernels_and_rates(given, labels, there, n_samples=1000)
            np.testing.assert_allclose(rates, exact, rtol=1e-5)
            np.testing.assert_allclose(
                [np.trace(get(k)) / len(get(k)) for k in kernels.values()], exact, rtol=1e-5
            )
            alone = lf.class_rates(given, labels, there, n_samples=1000)
            np.testing.assert_array_equal(alone, rates)

    matrices = {}
    for n in (1, 2, 31, 33, 64, 97, 128):
        factor = rng.normal(size=(n, n))
        matrices[n] = factor @ factor.T
    stack = {n: put(m) for n, m in matrices.items()}
    place = device.resolve(None, *stack.values())
    for own, vectors in ((True, False), (False, False), (False, True)):
        found = _spectrum_on(place, list(stack), list(stack.values()), vectors, own)
        for n, values in found.items():
            values = get(values[0] if vectors else values)
            expected = np.linalg.eigvalsh(matrices[n])
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * n * expected[-1])

    for n_classes in (2, 5, 16, 31, 33, 128, 250, 256, 500, 1000, 1023, 1025):
        labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 37)])
        rates = rng.uniform(1e5, 1e6, n_classes)
        for dtype in (np.float32, np.float16, np.float64):
            initial = rng.uniform(0.1, 0.9, (len(labels), n_classes)).astype(dtype)
            given = put(initial)
            for mode in ("distribution", "logits"):
                arguments = labels, rates, np.linspace(0, 2, 3)
                exact = lf.evolved_score(initial, *arguments, cross_entropy=mode)
                found = lf.evolved_score(given, *arguments, cross_entropy=mode)
                np.testing.assert_allclose(found, exact, rtol=1e-6)
            exact = lf.evolve(initial, labels, rates)
            np.testing.assert_allclose(get(lf.evolve(given, labels, rates)), exact, atol=1e-12)
    print("every kernel: results agree with the CPU")


if __name__ == "__main__":
    sys.exit(main())
