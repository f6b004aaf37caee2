"""Rank pre-trained models by how well they will fine-tune, without training any of them.

The heart is LEAD (CVPR 2024): :func:`lead` scores the features of one frozen backbone,
:func:`rank` a directory of them. ``lead_fast.errors`` holds the exceptions, ``lead_fast.metrics``
the names that ``metric=`` takes, ``lead_fast.compat`` the functions of other projects. Everything
is imported when it is first used.
"""

import importlib
import sys
import types

from ._version import __version__

_HOME = {
    "score": "scorer",
    "Scorer": "scorer",
    "lead": "lead",
    "LeadResult": "lead",
    "rank": "zoo.run",
    "extract": "extract.run",
    "Ranking": "zoo.report",
    "Rankings": "zoo.report",
    "Head": "head",
    "class_kernels": "ntk",
    "class_rates": "ntk",
    "spectrum": "eigh",
    "evolve": "evolve",
    "evolve_samples": "evolve",
    "evolved_score": "evolve",
    "MultiClassSVM": "estimator",
    "weighted_tau": "evaluation",
    "build_info": "backend",
}
_MODULES = ("errors", "metrics", "compat")

__all__ = ["__version__", *_HOME, *_MODULES]


class _Package(types.ModuleType):
    """A package in which ``lead`` and ``evolve`` are the functions, not the modules of that name.

    Importing ``lead_fast.lead`` sets the attribute ``lead`` of the package to the module; here it
    is left to :func:`__getattr__`, which finds the function.
    """

    def __setattr__(self, name, value):
        if name in _HOME and isinstance(value, types.ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name):
    if name in _HOME:
        module = importlib.import_module(f".{_HOME[name]}", __name__)
        value = globals()[name] = getattr(module, name)
        return value
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(__all__))
