"""Table 1 of the LEAD paper: weighted tau of each metric on the 11 supervised models.

    python bench/table1.py                      # the same table, on the real features at hand
    python bench/table1.py --features DIR       # the paper's data sets, beside the paper's row

See tables.py for DIR.
"""

from tables import by_data_set


def main(argv=None):
    """Print the table; see the module."""
    by_data_set(1, "supervised", __doc__.split("\n", 1)[0], argv)


if __name__ == "__main__":
    main()
