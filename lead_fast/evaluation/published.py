"""Published numbers: accuracies and sizes of the models the paper ranks, and its own tables."""

from __future__ import annotations

import copy
import functools
import json
from importlib import resources

from ..options import choice

_TABLES = {
    1: "table1_supervised_weighted_tau",
    2: "table2_selfsupervised_weighted_tau",
    3: "table3_low_data_weighted_tau",
    4: "table4_seconds_cifar10",
}


@functools.cache
def _load(name):
    text = resources.files("lead_fast").joinpath("data", f"{name}.json").read_text("utf-8")
    return json.loads(text)


def true_accuracies(zoo="supervised"):
    """Accuracies after fine-tuning, of the models that the paper ranks.

    Parameters
    ----------
    zoo : {"supervised", "selfsupervised"}
        11 supervised models (of the public code of SFDA) or 12 self-supervised ones (of the public
        code of PED), on 11 data sets each.

    Returns
    -------
    dict {data set: {model: float}}
        In percent. The numbers are those of their source, see the files ``lead_fast/data/truth_*``.

    Raises
    ------
    InputError
        No such zoo.

    Examples
    --------
    >>> from lead_fast.evaluation import true_accuracies
    >>> true_accuracies()["cifar10"]["resnet34"]
    96.12
    """
    choice("zoo", zoo, ("supervised", "selfsupervised"))
    return copy.deepcopy(_load(f"truth_{zoo}")["tasks"])


def model_sizes(of="parameters"):
    """Sizes of the 11 supervised models that the paper ranks; its 12 others are all ResNet-50.

    Parameters
    ----------
    of : {"parameters", "operations"}
        The number of parameters, with the classifier of ImageNet's classes, or 1e9 multiply-adds
        per image.

    Returns
    -------
    dict {model: number}
        As torchvision documents them, see the file ``lead_fast/data/sizes_supervised.json``.

    Raises
    ------
    InputError
        No such size.

    Examples
    --------
    >>> from lead_fast.evaluation import model_sizes
    >>> model_sizes()["resnet34"]
    21797672
    """
    choice("of", of, ("parameters", "operations"))
    return dict(_load("sizes_supervised")[of])


def paper_table(number):
    """A table of the LEAD paper.

    Parameters
    ----------
    number : {1, 2, 3, 4}
        1 and 2: weighted tau, ``{metric: {data set: tau}}``, of supervised and self-supervised
        models. 3: of little data, ``{metric: {"2" | "5" | "10" samples per class: {group of data
        sets: {zoo: tau or None}}}}``, None where all scores tied. 4: seconds, ``{metric: s}``.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        No such table.

    Examples
    --------
    >>> from lead_fast.evaluation import paper_table
    >>> paper_table(1)["LEAD"]["cifar10"]
    0.791
    """
    choice("number", number, tuple(_TABLES))
    return copy.deepcopy(_load("paper_tables")[_TABLES[number]])
