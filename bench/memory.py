"""Print the memory that one score takes beyond its float32 features; fail above a quarter of them.

Each score runs in a fresh process, which loads the features, scores a tiny set so that libraries
and threads are there, and then measures its peak resident memory while scoring, less what it had
before.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

import numpy as np

SIZES = ((50000, 2048, 10), (20000, 1024, 10), (20000, 1024, 100))
FORMS = ("ww", "ovr", "cs")
LIMIT = 0.25


def _status(field):
    """A memory field of this process, in bytes."""
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _reset_peak():
    """Whether the kernel lets this process set its peak back to what is resident now."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _status("VmHWM") <= 1.01 * _status("VmRSS")
    except OSError:
        return False


def peak_growth(work):
    """Bytes by which resident memory grew at most while `work()` ran, and how that was seen."""
    if _reset_peak():
        before = _status("VmRSS")
        work()
        return _status("VmHWM") - before, "VmHWM"
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch():
        nonlocal peak
        while not done.wait(5e-4):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return peak - before, "sampled"


def child(folder, form):
    """Measure in this process; prints JSON."""
    import lead_fast

    features, labels = (np.load(pathlib.Path(folder) / f"{part}.npy") for part in ("x", "y"))
    tiny = np.random.default_rng(0).random((40, 8), dtype=np.float32)
    lead_fast.lead(tiny, np.arange(40) % 2, hidden=(8,), svm=form)
    found = []
    grown, how = peak_growth(lambda: found.append(lead_fast.lead(features, labels, svm=form)))
    print(json.dumps({"bytes": grown, "how": how, "score": found[0].score}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, action="append", metavar=("N", "D", "K"))
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "FORM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)

    from data import backbone_features
    from environment import headline

    print(headline())
    print(f"{'N':>7} {'D':>6} {'K':>5} {'svm':>4} {'features MB':>12} {'more MB':>8} {'share':>6}")
    worst = 0.0
    for n, d, k in options.size or SIZES:
        with tempfile.TemporaryDirectory(prefix="lead_fast_bench_") as folder:
            features, labels = backbone_features(n, d, k)
            np.save(pathlib.Path(folder) / "x.npy", features)
            np.save(pathlib.Path(folder) / "y.npy", labels)
            for form in FORMS:
                command = [sys.executable, __file__, "--child", folder, form]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                result = json.loads(output)
                share = result["bytes"] / features.nbytes
                worst = max(worst, share)
                print(f"{n:>7} {d:>6} {k:>5} {form:>4} {features.nbytes / 1e6:>12.1f}"
                      f" {result['bytes'] / 1e6:>8.1f} {share:>6.1%}  {result['how']}",
                      flush=True)  # fmt: skip
    if not worst <= LIMIT:
        sys.exit(f"a score took {worst:.1%} of its features, more than {LIMIT:.0%}")


if __name__ == "__main__":
    main()
