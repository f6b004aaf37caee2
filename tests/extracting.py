"""A small network and images for the tests of extract; needs torch and Pillow."""

import torch

from lead_fast.extract import images, run, sources


class Net(torch.nn.Module):
    """Two convolutions, a pool, a classifier of 7 classes."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Conv2d(3, 4, 3)
        self.second = torch.nn.Conv2d(4, 6, 3)
        self.head = torch.nn.Linear(6, 7)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x))).relu()
        return self.head(x.mean((2, 3)))


def pairs(n=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(3, 16, 16, generator=generator), i % 3) for i in range(n)]


def small(image):
    """A transform that costs little."""
    return images.default_transform(image, 16)


small.fingerprint = "16 pixels"


def opened(monkeypatch, preprocessing="default", **modules):
    """Names of models get these modules, others a :class:`Net`; a list of what has been opened."""
    found = []

    def open_model(model, logits=False, name=None):
        found.append(model)
        what = model.partition(":")[2]
        module = modules.get(what, Net(len(found)))
        return sources.Source(name or what, module, preprocessing=preprocessing)

    monkeypatch.setattr(run, "open_model", open_model)
    return found
