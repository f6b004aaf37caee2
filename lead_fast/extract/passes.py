"""One pass of a model over images."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from .._text import one_line
from ..errors import InputError


class Pass:
    """One pass over the images: what the taps gave so far.

    Parameters
    ----------
    taps : Taps
    setting : Setting
    logits : bool
        Whether to keep logits.
    """

    def __init__(self, taps, setting, logits):
        self.size = setting.batch_size  # images at a time
        self._taps, self._device, self._logits = taps, setting.device, logits
        self._precision, self._dtype = setting.precision, np.dtype(setting.dtype)
        self._features = {name: [] for name in taps.kinds}
        self._labels, self._kept, self._rows = [], [], 0

    def add(self, images, labels):
        """Run the model on a batch; in parts, where memory does not suffice for the whole."""
        at = 0
        while at < len(images):
            part = images[at : at + self.size]
            try:
                features, logits = self._run(part)
            except Exception as error:
                if not _out_of_memory(error):
                    raise
                if self.size == 1 or len(part) == 1:
                    raise InputError("not enough memory for a single image") from error
                self.size = min(self.size, len(part)) // 2
                features = logits = None
                _free(self._device)
                continue
            for name, values in features.items():
                self._features[name].append(self._checked(values, name))
            if self._logits:
                self._kept.append(logits.float().cpu().numpy())
            at += len(part)
            self._rows += len(part)
        self._labels.append(np.asarray(labels))

    def _run(self, images):
        import torch

        images = images.to(self._device, non_blocking=True)
        cast = nullcontext()
        if self._precision != "float32":
            cast = torch.autocast(self._device.type, getattr(torch, self._precision))
        with torch.inference_mode(), cast:
            return self._taps(images)

    def _checked(self, values, name):
        values = values.float().cpu().numpy()
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
        labels = np.concatenate(self._labels)
        if len(labels) != self._rows:
            raise InputError(f"data: {len(labels)} labels for {self._rows} images")
        features = {}
        for name in list(self._features):
            parts = self._features.pop(name)  # one layer at a time is there twice
            if len({part.shape[1] for part in parts}) > 1:
                raise InputError(f"{_called(name)}: of another width from batch to batch")
            features[name] = np.concatenate(parts)
        return features, labels, np.concatenate(self._kept) if self._kept else None


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
