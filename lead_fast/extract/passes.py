"""One pass of a model over images."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from .._caller import warn_caller
from .._text import one_line
from ..errors import InputError, ScoreWarning

_NOISE = 0.01  # relative; sums that a GPU takes in another order stay below, in bfloat16, too


class Pass:
    """One pass over the images: what the taps gave so far.

    Parameters
    ----------
    name : str
        Of the model, for errors.
    taps : Taps
    setting : Setting
    logits : bool
        Whether to keep logits.
    """

    def __init__(self, name, taps, setting, logits):
        self._name = name
        self.size = setting.batch_size  # images at a time
        self._taps, self._device, self._logits = taps, setting.device, logits
        self._precision, self._dtype = setting.precision, np.dtype(setting.dtype)
        self._features = {name: [] for name in taps.kinds}
        self._labels, self._kept, self._rows = [], [], 0

    def add(self, images, labels):
        """Run the model on a batch; in parts, where memory does not suffice for the whole.

        Raises
        ------
        InputError
            Whatever the model raises becomes one; features that cannot be kept.
        """
        at = 0
        while at < len(images):
            part = images[at : at + self.size]
            try:
                features, logits = self._run(part)
            except InputError:
                raise
            except Exception as error:
                if not _out_of_memory(error):
                    raise InputError(
                        f"{self._name}: cannot be run on images of shape {tuple(part.shape[1:])} "
                        f"({type(error).__name__}: {one_line(error)[:300]})"
                    ) from error
                if self.size == 1 or len(part) == 1:
                    raise InputError("not enough memory for a single image") from error
                self.size = min(self.size, len(part)) // 2
                features = logits = None
                _free(self._device)
                continue
            if not self._rows:
                self._check_repeatable(part[:2])
            for name, values in features.items():
                self._features[name].append(self._checked(values, name))
            if self._logits:
                self._kept.append(logits)
            at += len(part)
            self._rows += len(part)
        self._labels.append(labels)

    def _run(self, images):
        """Features by layer and logits, in memory: what a GPU could not do shows in the copy."""
        import torch

        images = images.to(self._device, non_blocking=True)
        cast = nullcontext()
        if self._precision != "float32":
            cast = torch.autocast(self._device.type, getattr(torch, self._precision))
        with torch.inference_mode(), cast:
            features, logits = self._taps(images)
        features = {name: _host(values) for name, values in features.items()}
        return features, _host(logits) if self._logits else None

    def _check_repeatable(self, images):
        """Warn of a model that gives other features of the same images each time."""
        try:
            first, second = self._run(images)[0], self._run(images)[0]
        except Exception:  # of a model that is for batches of one size; this is only advice
            return
        changes = {name: _change(first[name], second[name]) for name in first}
        name = max(changes, key=changes.get)
        if changes[name] > _NOISE:
            warn_caller(
                f"{self._name}: {_called(name)} of the same images differ by {changes[name]:.0%} "
                "from run to run: the model draws random numbers although it is set to evaluation",
                ScoreWarning,
            )

    def _checked(self, values, name):
        what = _called(name)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(axis=1)).argmax())
            raise InputError(f"{what}: NaN or infinity, first in image {self._rows + bad}")
        most = float(np.abs(values).max(initial=0.0))
        if most > float(np.finfo(self._dtype).max):
            raise InputError(f"{what}: {most:.3g} is beyond {self._dtype}; use dtype float32")
        return values.astype(self._dtype)

    def arrays(self):
        """Features by layer, labels, and logits or None."""
        if not self._rows:
            raise InputError("data: no image in it")
        features = {}
        for name in list(self._features):  # one layer at a time is there twice
            features[name] = _joined(self._features.pop(name), _called(name))
        kept = _joined(self._kept, "logits") if self._kept else None
        return features, _joined(self._labels, "labels"), kept


def _change(a, b):
    """Relative; 0 of what is an error later."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) or 1.0))


def _joined(parts, what):
    if len({(part.shape[1:], part.dtype.kind == "U") for part in parts}) > 1:
        raise InputError(f"{what}: of another shape or kind from batch to batch")
    return np.concatenate(parts)


def _host(values):
    return values.float().cpu().numpy()


def _called(name):
    return f"layer {name}" if name else "features"


def _out_of_memory(error):
    text = one_line(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate" in text)
    )


def _free(device):
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
