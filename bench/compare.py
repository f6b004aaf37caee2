"""Compare the calibrated times of the last two benchmark files; fail where one has grown.

    python bench/compare.py [FOLDER] [--limit 0.25]

FOLDER holds the JSON files of pytest-benchmark, by date. What is compared is each benchmark's time
divided by that of a calibration loop measured in the same run, so that two machines can be.
"""

import argparse
import json
import pathlib
import sys


def calibrated(path):
    """``{benchmark: calibrated median}`` of a file, those that have one."""
    found = {}
    for entry in json.loads(path.read_text())["benchmarks"]:
        value = entry.get("extra_info", {}).get("calibrated")
        if value is not None:
            found[f"{entry['group']}: {entry['extra_info'].get('name', entry['name'])}"] = value
    return found


def compare(before, after, limit):
    """Lines of a table, and the names that have become slower than allowed."""
    lines, slower = [f"{'before':>9} {'now':>9} {'change':>8}"], []
    for name, now in after.items():
        if name not in before:
            lines.append(f"{'-':>9} {now:9.3f} {'new':>8}  {name}")
            continue
        change = now / before[name] - 1.0
        lines.append(f"{before[name]:9.3f} {now:9.3f} {change:+8.0%}  {name}")
        if not change <= limit:
            slower.append(name)
    return lines, slower


def main(argv=None):
    """Compare the two newest files; status 1 if something is slower, 2 if there are not two."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", default=".benchmarks", type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=0.25, help="allowed growth (0.25)")
    arguments = parser.parse_args(argv)
    files = sorted(arguments.folder.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    files = [path for path in files if calibrated(path)]
    if len(files) < 2:
        print(
            f"{arguments.folder}: two files with metrics are needed, run make bench",
            file=sys.stderr,
        )
        return 2
    before, after = files[-2:]
    lines, slower = compare(calibrated(before), calibrated(after), arguments.limit)
    print(f"{before.name} -> {after.name}, seconds per calibration loop")
    print("\n".join(lines))
    for name in slower:
        print(f"slower by more than {arguments.limit:.0%}: {name}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
