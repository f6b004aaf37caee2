"""Batches of images and labels, out of whatever holds them."""

from __future__ import annotations

import re

import numpy as np

from .._optional import need
from .._text import one_line
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


def in_order(loader):
    """Whether a DataLoader gives every image once, in the data set's order."""
    from torch.utils.data import IterableDataset, SequentialSampler

    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    ordered = isinstance(loader.dataset, IterableDataset) or type(sampler) is SequentialSampler
    return ordered and not loader.drop_last


def batches(loader):
    """Pairs of a tensor of images and an array of labels.

    Raises
    ------
    InputError
        For whatever is raised by the data, by what prepares images or by a process that decodes.
    """
    try:
        for batch in loader:
            yield _checked(*_pair(batch))
    except Exception as error:
        text = _original(error)
        if not isinstance(error, InputError):
            text = f"data: {type(error).__name__} ({text})"
        elif text == str(error):
            raise
        raise InputError(one_line(text)) from error


def _pair(batch):
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return batch.get("pixel_values"), batch.get("labels", batch.get("label"))
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch
    raise InputError("data: a batch must be a pair of images and labels")


def _checked(images, labels):
    """A batch as a tensor of images and an array of as many labels."""
    torch = need("torch", "extracting features")
    if not isinstance(images, torch.Tensor) or images.ndim == 0:
        raise InputError(f"data: images come as {type(images).__name__}, not as a tensor")
    if labels is None:
        raise InputError("data: a batch without labels, which a zoo needs")
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biufU":
        raise InputError(f"data: labels of dtype {labels.dtype}; they must be integers or strings")
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise InputError("data: labels with fractions or NaN, which are no classes")
    if labels.shape[:1] != images.shape[:1]:
        raise InputError(f"data: labels of shape {labels.shape} for {len(images)} images")
    return images, labels


def _original(error):
    """What an exception said where it was raised.

    PyTorch raises what a worker's process did with that process's whole traceback as its text, of
    which the last lines are the exception's own.
    """
    text = str(error)
    if "Original Traceback" not in text:
        return text
    # The last one, as exceptions before it are its causes.
    return re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.M)[-1].rstrip()
