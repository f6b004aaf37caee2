"""Print a short table of a GPU run's JSON: python bench/gpu_table.py bench/results/gpu.json."""

import json
import sys


def main(path):
    with open(path) as file:
        run = json.load(file)
    described = run["machine_info"].get("gpu", {})
    print(
        f"{described.get('name')}, driver {described.get('driver')}, CUDA "
        f"{described.get('build_cuda_version')}, cuBLAS {described.get('build_cublas')}, cuSOLVER "
        f"{described.get('build_cusolver')}, commit "
        f"{run['machine_info']['lead_fast']['commit'][:10]}"
    )
    for benchmark in run["benchmarks"]:
        print("-", benchmark["extra_info"].get("line", benchmark["name"]))


if __name__ == "__main__":
    main(sys.argv[1])
