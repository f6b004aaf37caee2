"""Batches of images and labels, out of whatever holds them."""

from __future__ import annotations

import numpy as np

from .._optional import need
from ..errors import InputError


def loader_of(data, batch_size, workers, pin_memory):
    """A loader of batches.

    Parameters
    ----------
    data : Dataset or DataLoader
        A DataLoader is used as it is; it must not shuffle if several models are to have the same
        order of samples.
    batch_size, workers : int
        Images of a batch; processes that decode, 0 for this one.
    pin_memory : bool
        Whether batches are put where a GPU reads them fastest.
    """
    torch = need("torch", "extracting features")
    if isinstance(data, torch.utils.data.DataLoader):
        return data
    return torch.utils.data.DataLoader(
        data, batch_size=batch_size, num_workers=workers, pin_memory=pin_memory
    )


def batches(loader):
    """Pairs of a tensor of images and an array of labels."""
    for images, labels in _pairs(loader):
        yield _batch(images, labels)


def _batch(images, labels):
    """A batch as a tensor of images and an array of labels."""
    if not hasattr(images, "to"):
        raise InputError(f"data: images come as {type(images).__name__}, not as a tensor")
    return images, labels.numpy() if hasattr(labels, "numpy") else np.asarray(labels)


def _pairs(loader):
    for batch in loader:
        if isinstance(batch, dict) or hasattr(batch, "keys"):
            labels = batch["labels"] if "labels" in batch else batch.get("label")
            yield batch.get("pixel_values"), labels
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            yield batch
        else:
            raise InputError("data: a batch must be a pair of images and labels")
