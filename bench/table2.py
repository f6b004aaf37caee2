"""Table 2 of the LEAD paper: weighted tau of each metric on the 12 self-supervised models.

    python bench/table2.py                      # the same table, on the real features at hand
    python bench/table2.py --features DIR       # the paper's data sets, beside the paper's row

See tables.py for DIR.
"""

from tables import by_data_set


def main(argv=None):
    """Print the table; see the module."""
    by_data_set(2, "selfsupervised", __doc__.split("\n", 1)[0], argv)


if __name__ == "__main__":
    main()
