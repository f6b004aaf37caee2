"""LEAD (CVPR 2024), see :func:`lead_fast.lead`."""

from ..lead import Lead

__all__ = ["Lead"]
