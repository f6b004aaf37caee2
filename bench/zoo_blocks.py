"""Parts of the networks of zoo_backbones.py."""

import torch
from torch import nn


def convolution(inside, outside, width=3, stride=1, groups=1):
    """A convolution, its norm and its activation."""
    return [nn.Conv2d(inside, outside, width, stride, width // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outside), nn.ReLU()]  # fmt: skip


def mean():
    """From maps to vectors."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


class Block(nn.Module):
    """Two convolutions beside a shortcut; halves the image."""

    def __init__(self, inside, outside):
        super().__init__()
        self.smaller = nn.AvgPool2d(2)
        self.body = nn.Sequential(*convolution(inside, outside), *convolution(outside, outside))
        self.past = nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x):
        x = self.smaller(x)
        return self.body(x) + self.past(x)


class Added(nn.Module):
    """x + body(x)."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return x + self.body(x)


class Grown(nn.Module):
    """x and new channels beside it."""

    def __init__(self, inside, new):
        super().__init__()
        self.body = nn.Sequential(*convolution(inside, new))

    def forward(self, x):
        return torch.cat([x, self.body(x)], dim=1)


class Swapped(nn.Module):
    """A body that mixes the second axis instead of the last."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return self.body(x.transpose(1, 2)).transpose(1, 2)


class Tokens(nn.Module):
    """The mean over tokens, or with ``split`` an image's positions as tokens (N, T, D)."""

    def __init__(self, split):
        super().__init__()
        self.split = split

    def forward(self, x):
        return x.flatten(2).transpose(1, 2) if self.split else x.mean(dim=1)


class Beside(nn.Module):
    """The channels of several branches beside each other."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Attention(nn.Module):
    """Self-attention of several heads over tokens (N, T, D)."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.mixed = heads, nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        parts = self.mixed(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(*parts)
        return self.out(found.transpose(1, 2).flatten(2))


class Places(nn.Module):
    """Learnt positions, added to tokens (N, T, D)."""

    def __init__(self, count, width):
        super().__init__()
        self.places = nn.Parameter(0.1 * torch.randn(count, width))

    def forward(self, x):
        return x + self.places
