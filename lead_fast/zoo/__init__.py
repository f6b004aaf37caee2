"""From a directory of feature files to a ranking.

``read`` knows where features and labels lie, ``formats`` how they are stored, ``run`` scores one
model after another, ``report`` is the result.
"""

from .report import Ranking, Rankings, Row
from .run import rank

__all__ = ["Ranking", "Rankings", "Row", "rank"]
