"""The architectures of make_zoo.py's models: small networks from (N, 1, 16, 16) to features (N, D).

The first five are those of three zoos; the other eight are the fourth's, of families that users
know (VGG, MobileNet, DenseNet, thin and deep residual networks, AlexNet, MLP-Mixer).
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo_images import SIZE


def _convolution(inside, outside, width=3, stride=1, groups=1):
    return [nn.Conv2d(inside, outside, width, stride, width // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outside), nn.ReLU()]  # fmt: skip


def _mean():
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


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


class _Added(nn.Module):
    """x + body(x)."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return x + self.body(x)


class _Grown(nn.Module):
    """x and new channels beside it."""

    def __init__(self, inside, new):
        super().__init__()
        self.body = nn.Sequential(*_convolution(inside, new))

    def forward(self, x):
        return torch.cat([x, self.body(x)], dim=1)


class _Swapped(nn.Module):
    """A body that mixes the second axis instead of the last."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return self.body(x.transpose(1, 2)).transpose(1, 2)


class _Tokens(nn.Module):
    """The mean over tokens, or with ``split`` an image's positions as tokens (N, T, D)."""

    def __init__(self, split):
        super().__init__()
        self.split = split

    def forward(self, x):
        return x.flatten(2).transpose(1, 2) if self.split else x.mean(dim=1)


def _cnn_s():
    half = nn.MaxPool2d(2)
    return [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), half,
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), half,
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), *_mean()], 48  # fmt: skip


def _cnn_m():
    half = nn.MaxPool2d(2)
    return [*_convolution(1, 16), half, *_convolution(16, 32), half, *_convolution(32, 64),
            *_convolution(64, 64), *_mean()], 64  # fmt: skip


def _res():
    return [*_convolution(1, 16), _Block(16, 32), _Block(32, 64), _Block(64, 96), *_mean()], 96


def _wide():
    return [nn.Conv2d(1, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(48, 128, 3, padding=1), nn.ReLU(), *_mean()], 128  # fmt: skip


def _mlp():
    return [nn.Flatten(), nn.Linear(SIZE * SIZE, 256), nn.ReLU(), nn.Linear(256, 128),
            nn.ReLU()], 128  # fmt: skip


def _plain():
    half = nn.MaxPool2d(2)
    return [*_convolution(1, 16), half, *_convolution(16, 48), *_mean()], 48


def _vgg():
    layers, inside = [], 1
    for outside in (16, 32, 64):
        layers += [*_convolution(inside, outside), *_convolution(outside, outside)]
        layers += [nn.MaxPool2d(2)] if outside < 64 else _mean()
        inside = outside
    return layers, 64


def _mobile():
    layers, inside = _convolution(1, 16), 16
    for outside, stride in ((32, 2), (64, 2), (64, 1), (96, 1)):
        layers += [*_convolution(inside, inside, 3, stride, groups=inside),
                   *_convolution(inside, outside, 1)]  # fmt: skip
        inside = outside
    return [*layers, *_mean()], 96


def _dense():
    layers, inside = _convolution(1, 16), 16
    for last in (False, True):
        for _ in range(3):
            layers.append(_Grown(inside, 16))
            inside += 16
        layers += [] if last else [*_convolution(inside, 32, 1), nn.AvgPool2d(2)]
        inside = inside if last else 32
    return [*layers, *_mean()], inside


def _thin():
    return [*_convolution(1, 8), _Block(8, 16), _Block(16, 32), _Block(32, 64), *_mean()], 64


def _deep():
    layers, inside = _convolution(1, 16), 16
    for outside in (24, 48, 80):
        layers += [_Block(inside, outside)]
        layers += [_Added(*_convolution(outside, outside), *_convolution(outside, outside))]
        inside = outside
    return [*layers, *_mean()], 80


def _alex():
    half = nn.MaxPool2d(2)
    return [nn.Conv2d(1, 24, 5, padding=2), nn.ReLU(), half,
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), half, nn.Flatten(),
            nn.Linear(48 * (SIZE // 4) ** 2, 256), nn.ReLU(),
            nn.Linear(256, 128), nn.ReLU()], 128  # fmt: skip


def _mixer():
    count, width = (SIZE // 4) ** 2, 64
    layers = [nn.Conv2d(1, width, 4, 4), _Tokens(split=True)]
    for _ in range(3):
        tokens = _Swapped(nn.Linear(count, 32), nn.GELU(), nn.Linear(32, count))
        layers += [_Added(nn.LayerNorm(width), tokens)]
        layers += [_Added(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(),
                          nn.Linear(128, width))]  # fmt: skip
    return [*layers, nn.LayerNorm(width), _Tokens(split=False)], width


_MADE = {
    "cnn_s": _cnn_s, "cnn_m": _cnn_m, "res": _res, "wide": _wide, "mlp": _mlp, "plain": _plain,
    "vgg": _vgg, "mobile": _mobile, "dense": _dense, "thin": _thin, "deep": _deep, "alex": _alex,
    "mixer": _mixer,
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
