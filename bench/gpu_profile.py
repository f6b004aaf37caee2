"""Where the time of a whole score goes on a GPU, kernel by kernel.

python bench/gpu_profile.py [FORM ...]
"""

import sys
import time

import torch
from data import backbone_features
from torch.profiler import ProfilerActivity, profile

import lead_fast as lf

SIZE = 50000, 2048, 10


def main(forms):
    features, labels = backbone_features(*SIZE)
    features = torch.from_numpy(features).cuda()
    for form in forms:
        scorer = lf.Scorer(labels, device="cuda", svm=form)
        found = lf.lead(features, labels, svm=form)
        scorer(features)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        scorer(features)
        torch.cuda.synchronize()
        wall = time.perf_counter() - begun
        with profile(activities=[ProfilerActivity.CUDA]) as watched:
            scorer(features)
            torch.cuda.synchronize()
        events = [e for e in watched.key_averages() if e.device_time_total > 0]
        events.sort(key=lambda e: -e.device_time_total)
        busy = sum(e.device_time_total for e in events)
        launches = sum(e.count for e in events)
        print(
            f"{form}: {1e3 * wall:.1f} ms by the clock, {1e-3 * busy:.1f} ms of the device in "
            f"{launches} kernels and copies, {found.svm.passes:.0f} passes"
        )
        print("  stages, ms:", {k: round(1e3 * v, 2) for k, v in found.seconds.items()})
        for e in events[:25]:
            print(f"  {1e-3 * e.device_time_total:8.3f} ms {e.count:6d} x  {e.key[:110]}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ww", "ovr", "cs"])
