"""Print the memory that each metric takes beyond its float32 features; fail above 1 GiB.

    python bench/memory_metrics.py [--size N D K] [--metrics NAMES]

Each metric runs in a fresh process, see `memory.py`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from memory import peak_growth

SIZE = (20000, 2048, 10)
LIMIT = 1 << 30


def child(folder, name):
    """Measure in this process; prints JSON."""
    import lead_fast
    from lead_fast import metrics

    warnings.simplefilter("ignore", UserWarning)
    features, labels = (np.load(pathlib.Path(folder) / f"{part}.npy") for part in ("x", "y"))
    rng = np.random.default_rng(0)

    def score(x, y):
        if name == "etran":
            etran = metrics.get(name)(y)
            return etran.parts(etran.share(x))
        options = {"reference": x} if name in ("rsa", "dds") else {}
        if name in ("leep", "nce"):
            options["source"] = rng.random((len(x), 1000), dtype=np.float32)
        return lead_fast.score(x, y, name, **options)

    score(rng.random((600, 16), dtype=np.float32), np.arange(600) % 2)
    grown, how = peak_growth(lambda: score(features, labels))
    print(json.dumps({"bytes": grown, "how": how}))


def main():
    from lead_fast import metrics

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=SIZE, metavar=("N", "D", "K"))
    parser.add_argument("--metrics", default=",".join(metrics.names()))
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)

    from data import backbone_features
    from environment import headline

    print(headline())
    print("x".join(map(str, options.size)))
    over = []
    with tempfile.TemporaryDirectory(prefix="lead_fast_bench_") as folder:
        features, labels = backbone_features(*options.size)
        np.save(pathlib.Path(folder) / "x.npy", features)
        np.save(pathlib.Path(folder) / "y.npy", labels)
        del features
        for name in options.metrics.split(","):
            command = [sys.executable, __file__, "--child", folder, name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            result = json.loads(output)
            print(f"{name:>20} {result['bytes'] / 1e6:>8.0f} MB  {result['how']}", flush=True)
            if not result["bytes"] <= LIMIT:
                over.append(name)
    if over:
        sys.exit(f"more than 1 GiB beyond the features: {', '.join(over)}")


if __name__ == "__main__":
    main()
