"""See what layers give while a model runs."""

from __future__ import annotations

import contextlib


@contextlib.contextmanager
def watched(layers, take, inputs=False):
    """While this context lasts, call ``take(name, output)`` whenever one of the layers has run.

    Parameters
    ----------
    layers : iterable of (name, torch.nn.Module)
    take : callable
    inputs : bool
        Call ``take(name, input)``, before it runs, instead.
    """
    with contextlib.ExitStack() as stack:
        for name, layer in layers:
            if inputs:
                handle = layer.register_forward_pre_hook(
                    lambda _, given, named, name=name: take(
                        name, given[0] if given else next(iter(named.values()))
                    ),
                    with_kwargs=True,
                )
            else:
                handle = layer.register_forward_hook(
                    lambda _, __, given, name=name: take(name, given)
                )
            stack.callback(handle.remove)
        yield
