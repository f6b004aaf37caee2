"""The architectures of make_zoo.py's models: small networks from (N, 1, 16, 16) to features (N, D).

The first five are those of three zoos. The next eight are the fourth's, of families that users know
(VGG, MobileNet, DenseNet, thin and deep residual networks, AlexNet, MLP-Mixer), and the last eight
the fifth's (SqueezeNet, Inception, ResNeXt, Network in Network, ConvNeXt, ViT, LeNet, a deep MLP).
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo_blocks import (
    Added,
    Attention,
    Beside,
    Block,
    Grown,
    Places,
    Swapped,
    Tokens,
    convolution,
    mean,
)
from zoo_images import SIZE


def _cnn_s():
    half = nn.MaxPool2d(2)
    return [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), half,
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), half,
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), *mean()], 48  # fmt: skip


def _cnn_m():
    half = nn.MaxPool2d(2)
    return [*convolution(1, 16), half, *convolution(16, 32), half, *convolution(32, 64),
            *convolution(64, 64), *mean()], 64  # fmt: skip


def _res():
    return [*convolution(1, 16), Block(16, 32), Block(32, 64), Block(64, 96), *mean()], 96


def _wide():
    return [nn.Conv2d(1, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(48, 128, 3, padding=1), nn.ReLU(), *mean()], 128  # fmt: skip


def _mlp():
    return [nn.Flatten(), nn.Linear(SIZE * SIZE, 256), nn.ReLU(), nn.Linear(256, 128),
            nn.ReLU()], 128  # fmt: skip


def _plain():
    half = nn.MaxPool2d(2)
    return [*convolution(1, 16), half, *convolution(16, 48), *mean()], 48


def _vgg():
    layers, inside = [], 1
    for outside in (16, 32, 64):
        layers += [*convolution(inside, outside), *convolution(outside, outside)]
        layers += [nn.MaxPool2d(2)] if outside < 64 else mean()
        inside = outside
    return layers, 64


def _mobile():
    layers, inside = convolution(1, 16), 16
    for outside, stride in ((32, 2), (64, 2), (64, 1), (96, 1)):
        layers += [*convolution(inside, inside, 3, stride, groups=inside),
                   *convolution(inside, outside, 1)]  # fmt: skip
        inside = outside
    return [*layers, *mean()], 96


def _dense():
    layers, inside = convolution(1, 16), 16
    for last in (False, True):
        for _ in range(3):
            layers.append(Grown(inside, 16))
            inside += 16
        layers += [] if last else [*convolution(inside, 32, 1), nn.AvgPool2d(2)]
        inside = inside if last else 32
    return [*layers, *mean()], inside


def _thin():
    return [*convolution(1, 8), Block(8, 16), Block(16, 32), Block(32, 64), *mean()], 64


def _deep():
    layers, inside = convolution(1, 16), 16
    for outside in (24, 48, 80):
        layers += [Block(inside, outside)]
        layers += [Added(*convolution(outside, outside), *convolution(outside, outside))]
        inside = outside
    return [*layers, *mean()], 80


def _alex():
    half = nn.MaxPool2d(2)
    return [nn.Conv2d(1, 24, 5, padding=2), nn.ReLU(), half,
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), half, nn.Flatten(),
            nn.Linear(48 * (SIZE // 4) ** 2, 256), nn.ReLU(),
            nn.Linear(256, 128), nn.ReLU()], 128  # fmt: skip


def _mixer():
    count, width = (SIZE // 4) ** 2, 64
    layers = [nn.Conv2d(1, width, 4, 4), Tokens(split=True)]
    for _ in range(3):
        tokens = Swapped(nn.Linear(count, 32), nn.GELU(), nn.Linear(32, count))
        layers += [Added(nn.LayerNorm(width), tokens)]
        layers += [Added(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(),
                          nn.Linear(128, width))]  # fmt: skip
    return [*layers, nn.LayerNorm(width), Tokens(split=False)], width


def _fire(inside, squeezed, outside):
    wide = Beside(*(nn.Sequential(*convolution(squeezed, outside // 2, w)) for w in (1, 3)))
    return nn.Sequential(*convolution(inside, squeezed, 1), wide)


def _squeeze():
    half = nn.MaxPool2d(2)
    return [*convolution(1, 24), half, _fire(24, 8, 32), _fire(32, 12, 48), half,
            _fire(48, 16, 64), _fire(64, 16, 80), *mean()], 80  # fmt: skip


def _inception():
    def mixed(inside, each):
        return Beside(
            nn.Sequential(*convolution(inside, each, 1)),
            nn.Sequential(*convolution(inside, each, 1), *convolution(each, each)),
            nn.Sequential(*convolution(inside, each, 1), *convolution(each, each, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), *convolution(inside, each, 1)),
        )

    half = nn.MaxPool2d(2)
    return [*convolution(1, 16), half, mixed(16, 10), mixed(40, 14), half, mixed(56, 20),
            mixed(80, 24), *mean()], 96  # fmt: skip


def _grouped():
    layers, inside = convolution(1, 32), 32
    for outside in (48, 64, 96):
        layers += convolution(inside, outside, 3, 2)
        layers += [Added(*convolution(outside, outside, 1),
                         *convolution(outside, outside, 3, 1, groups=8),
                         *convolution(outside, outside, 1))]  # fmt: skip
        inside = outside
    return [*layers, *mean()], 96


def _nin():
    half = nn.MaxPool2d(2)
    layers, inside = [], 1
    for outside in (24, 48, 72):
        layers += [*convolution(inside, outside), *convolution(outside, outside, 1)]
        layers += [half] if outside < 72 else mean()
        inside = outside
    return layers, 72


def _next():
    layers = [nn.Conv2d(1, 40, 4, 4)]
    for _ in range(4):
        layers += [Added(nn.Conv2d(40, 40, 3, padding=1, groups=40), nn.GroupNorm(1, 40),
                         nn.Conv2d(40, 120, 1), nn.GELU(), nn.Conv2d(120, 40, 1))]  # fmt: skip
    return [*layers, nn.GroupNorm(1, 40), *mean()], 40


def _vit():
    width = 48
    layers = [nn.Conv2d(1, width, 4, 4), Tokens(split=True), Places((SIZE // 4) ** 2, width)]
    for _ in range(3):
        layers += [Added(nn.LayerNorm(width), Attention(width, 4))]
        layers += [Added(nn.LayerNorm(width), nn.Linear(width, 96), nn.GELU(),
                         nn.Linear(96, width))]  # fmt: skip
    return [*layers, nn.LayerNorm(width), Tokens(split=False)], width


def _lenet():
    half = nn.AvgPool2d(2)
    return [nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), half, nn.Conv2d(8, 20, 5, padding=2),
            nn.Tanh(), half, nn.Flatten(), nn.Linear(20 * (SIZE // 4) ** 2, 120), nn.Tanh(),
            nn.Linear(120, 84), nn.Tanh()], 84  # fmt: skip


def _deepmlp():
    layers, inside = [nn.Flatten()], SIZE * SIZE
    for outside in (256, 192, 144, 112):
        layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.ReLU()]
        inside = outside
    return layers, 112


_MADE = {
    "cnn_s": _cnn_s, "cnn_m": _cnn_m, "res": _res, "wide": _wide, "mlp": _mlp, "plain": _plain,
    "vgg": _vgg, "mobile": _mobile, "dense": _dense, "thin": _thin, "deep": _deep, "alex": _alex,
    "mixer": _mixer, "squeeze": _squeeze, "inception": _inception, "grouped": _grouped,
    "nin": _nin, "next": _next, "vit": _vit, "lenet": _lenet, "deepmlp": _deepmlp,
}  # fmt: skip


def backbone(name):
    """A network from (N, 1, 16, 16) to features (N, D), and D; weights from torch's generator."""
    if name not in _MADE:
        raise ValueError(f"no architecture {name!r}")
    layers, width = _MADE[name]()
    return nn.Sequential(*layers), width


def size(name):
    """Weights of a network, and its floating-point operations per image, both integers."""
    body = backbone(name)[0].eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        body(torch.zeros(1, 1, SIZE, SIZE))
    return sum(one.numel() for one in body.parameters()), counter.get_total_flops()
