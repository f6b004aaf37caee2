"""Published numbers, see :mod:`lead_fast.evaluation.published`."""
