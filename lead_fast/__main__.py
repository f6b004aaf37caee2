"""``python -m lead_fast``: the same as ``lead-fast``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
