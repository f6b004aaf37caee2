"""The SVM on a GPU as a classifier by itself, and a torch model's features scored there.

python examples/gpu_svm.py          # on the CPU where there is no GPU
"""

import numpy as np

import lead_fast as lf


def main():
    """Train, predict and score made-up data."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    images = rng.standard_normal((4000, 256), dtype=np.float32)
    images += 0.4 * rng.standard_normal((10, 256), dtype=np.float32)[labels]
    train, test = slice(0, 3000), slice(3000, None)
    try:
        device = lf.Head(1, 2, (1,), device="cuda").device
    except lf.errors.DeviceError as error:
        print("on the CPU:", error)
        device = "cpu"

    # A scikit-learn classifier: fit, predict, score; works in a Pipeline or GridSearchCV.
    model = lf.MultiClassSVM(svm="ww", scale="unit", device=device)
    model.fit(images[train], labels[train])
    print(
        f"Weston-Watkins on {device}: accuracy {model.score(images[test], labels[test]):.3f}, "
        f"gap {model.gap_:.1e} after {model.n_iter_:.0f} passes"
    )

    # Features that a model leaves on its device are scored there.
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Linear(256, 128), torch.nn.ReLU()).to(device)
    with torch.no_grad():
        features = backbone(torch.from_numpy(images).to(device))
    result = lf.lead(features, labels)
    print(f"LEAD of features on {features.device}: {result.score:.4f}")


if __name__ == "__main__":
    main()
