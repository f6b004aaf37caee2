"""Where the time of a whole score goes on a GPU, kernel by kernel.

python bench/gpu_profile.py [FORM or METRIC ...]

For a metric the features are those of bench_cuda_metrics.py, and kernels are followed by the calls
that the host makes, whose number and time say whether the device waits for it.
"""

import sys
import time
import warnings

import torch
from data import backbone_features
from torch.profiler import ProfilerActivity, profile

import lead_fast as lf

SIZE = 50000, 2048, 10
SIZE_OF_METRICS = 20000, 2048, 10
FORMS = "ww", "ovr", "cs"


def watched(name, scorer, features, more=""):
    """Print what one score does on the device."""
    scorer(features)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    scorer(features)
    torch.cuda.synchronize()
    wall = time.perf_counter() - begun
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        scorer(features)
        torch.cuda.synchronize()
    averages = seen.key_averages()
    events = [e for e in averages if e.device_time_total > 0]
    events.sort(key=lambda e: -e.device_time_total)
    busy = sum(e.device_time_total for e in events)
    launches = sum(e.count for e in events)
    print(
        f"{name}: {1e3 * wall:.1f} ms by the clock, {1e-3 * busy:.1f} ms of the device in "
        f"{launches} kernels and copies{more}"
    )
    for e in events[:25]:
        print(f"  {1e-3 * e.device_time_total:8.3f} ms {e.count:6d} x  {e.key[:110]}")
    return averages


def form(name):
    """A score of LEAD by one form of its SVM."""
    features, labels = backbone_features(*SIZE)
    features = torch.from_numpy(features).cuda()
    found = lf.lead(features, labels, svm=name)
    scorer = lf.Scorer(labels, device="cuda", svm=name)
    watched(name, scorer, features, f", {found.svm.passes:.0f} passes")
    print("  stages, ms:", {k: round(1e3 * v, 2) for k, v in found.seconds.items()})


def metric(name):
    """A score of another metric, with the host's calls."""
    features, labels = backbone_features(*SIZE_OF_METRICS)
    features = torch.from_numpy(features).cuda()
    averages = watched(name, lf.Scorer(labels, name, device="cuda"), features)
    calls = [e for e in averages if e.device_time_total == 0 and e.cpu_time_total > 0]
    for e in sorted(calls, key=lambda e: -e.cpu_time_total)[:8]:
        print(f"  {1e-3 * e.cpu_time_total:8.3f} ms {e.count:6d} x  {e.key[:110]} (host)")


def main(names):
    warnings.simplefilter("ignore", lf.errors.ScoreWarning)
    for name in names:
        (form if name in FORMS else metric)(name)


if __name__ == "__main__":
    main(sys.argv[1:] or FORMS)
