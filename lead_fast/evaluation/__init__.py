"""Does a ranking hold? Agreement of scores with the accuracies that fine-tuning really reached."""

from .agreement import Interval, agreement, measures, ties
from .correlation import CONVENTIONS, kendall, pearson, top_k_regret, weighted_tau
from .published import model_sizes, paper_table, true_accuracies
from .tables import match_truth, read_table

__all__ = [
    "CONVENTIONS",
    "Interval",
    "agreement",
    "kendall",
    "match_truth",
    "measures",
    "model_sizes",
    "paper_table",
    "pearson",
    "read_table",
    "ties",
    "top_k_regret",
    "true_accuracies",
    "weighted_tau",
]
