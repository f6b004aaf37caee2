"""Small backbones for make_zoo.py, how they are pre-trained, and how they are fine-tuned.

Everything runs on one thread, so that several of them share a machine, and follows from its seeds:
the same versions on the same machine give the same zoo.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from zoo_images import SIZE

LEARNING_RATES = (1e-3, 4e-3)
BATCH = 32


def _convolution(inside, outside, width=3):
    return [nn.Conv2d(inside, outside, width, padding=width // 2, bias=False),
            nn.BatchNorm2d(outside), nn.ReLU()]  # fmt: skip


class _Block(nn.Module):
    """Two convolutions beside a shortcut; halves the image."""

    def __init__(self, inside, outside):
        super().__init__()
        self.smaller = nn.AvgPool2d(2)
        self.body = nn.Sequential(*_convolution(inside, outside), *_convolution(outside, outside))
        self.past = nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x):
        x = self.smaller(x)
        return self.body(x) + self.past(x)


def backbone(name):
    """A network from (N, 1, 16, 16) to features (N, D), and D; weights from torch's generator."""
    mean = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    half = nn.MaxPool2d(2)
    if name == "cnn_s":
        layers = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), half,
                  nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), half,
                  nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), *mean]  # fmt: skip
        return nn.Sequential(*layers), 48
    if name == "cnn_m":
        layers = [*_convolution(1, 16), half, *_convolution(16, 32), half, *_convolution(32, 64),
                  *_convolution(64, 64), *mean]  # fmt: skip
        return nn.Sequential(*layers), 64
    if name == "res":
        layers = [*_convolution(1, 16), _Block(16, 32), _Block(32, 64), _Block(64, 96), *mean]
        return nn.Sequential(*layers), 96
    if name == "wide":
        layers = [nn.Conv2d(1, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4),
                  nn.Conv2d(48, 128, 3, padding=1), nn.ReLU(), *mean]  # fmt: skip
        return nn.Sequential(*layers), 128
    if name == "mlp":
        layers = [nn.Flatten(), nn.Linear(SIZE * SIZE, 256), nn.ReLU(), nn.Linear(256, 128),
                  nn.ReLU()]  # fmt: skip
        return nn.Sequential(*layers), 128
    raise ValueError(f"no architecture {name!r}")


def _tensor(images):
    return torch.from_numpy(np.ascontiguousarray(images))


def _train(network, images, targets, loss, rate, epochs, seed):
    """Adam with a cosine schedule; `network`, in training mode, is changed."""
    count = len(images)
    steps = epochs * -(-count // BATCH)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(BATCH):
            if len(rows) == 1:
                continue  # a batch norm has no variance of one image
            optimiser.zero_grad()
            loss(network(images[rows]), targets[rows]).backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def outputs(network, images):
    """What a network says of images in evaluation mode, as float32 on the host."""
    network.eval()
    return torch.cat([network(part) for part in _tensor(images).split(500)]).numpy()


def pretrain(architecture, source, objective, epochs, seed):
    """State of a backbone.

    Parameters
    ----------
    architecture : str
    source : Images or None
    objective : {"sup", "rot", "ae", "rand"}
        Classes, which of four quarter turns, the image itself (auto-encoder), or no training.
    epochs, seed : int
    """
    torch.manual_seed(seed)
    body, width = backbone(architecture)
    if objective == "rand":
        return body.state_dict()
    images, targets = _tensor(source.train), torch.from_numpy(source.train_labels)
    loss, outside = functional.cross_entropy, source.n_classes
    if objective == "rot":
        turns = torch.arange(len(images)) % 4
        images = torch.stack(
            [
                torch.rot90(image, int(turn), (1, 2))
                for image, turn in zip(images, turns, strict=True)
            ]
        )
        targets, outside = turns, 4
    elif objective == "ae":
        targets, loss, outside = images.flatten(1), functional.mse_loss, SIZE * SIZE
    network = nn.Sequential(body, nn.Linear(width, outside))
    _train(network, images, targets, loss, 2e-3, epochs, seed)
    return body.state_dict()


def finetune(architecture, state, task, rate, epochs, seed):
    """Test accuracy in percent, and logits (N, K) of the training images, of all weights tuned."""
    torch.manual_seed(seed)
    body, width = backbone(architecture)
    body.load_state_dict(state)
    network = nn.Sequential(body, nn.Linear(width, task.n_classes))
    labels = torch.from_numpy(task.train_labels)
    _train(network, _tensor(task.train), labels, functional.cross_entropy, rate, epochs, seed)
    right = outputs(network, task.test).argmax(axis=1) == task.test_labels
    return 100.0 * float(right.mean()), outputs(network, task.train)


def features(architecture, state, images):
    """Features (N, D) of the frozen backbone."""
    body, _ = backbone(architecture)
    body.load_state_dict(state)
    return outputs(body, images)
