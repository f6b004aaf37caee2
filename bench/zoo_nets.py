"""How the small networks of make_zoo.py are pre-trained, and how they are fine-tuned.

Everything runs on one thread, so that several of them share a machine, and follows from its seeds:
the same versions on the same machine give the same zoo.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from zoo_backbones import backbone
from zoo_images import SIZE

from lead_fast import extract

LEARNING_RATES = (1e-3, 4e-3)
BATCH = 32


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


def features(architecture, state, task):
    """Features (N, D) of the frozen backbone on a task, and those of its hidden layers (N, D')."""
    body, _ = backbone(architecture)
    body.load_state_dict(state)
    pairs = list(zip(_tensor(task.train), task.train_labels.tolist(), strict=True))
    found = extract(body, pairs, join=True, device="cpu", batch_size=500, progress=False)
    return outputs(body, task.train), found.features[""]
