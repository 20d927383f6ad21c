"""How fast `failstop scan` is: lines a second of CPU time, over installed packages.

`python benchmarks/scan.py sqlalchemy flask fastapi`: one process, no cache, after one warm-up.
The aim is 50 000 lines a second a core; what a file costs depends on how much database is in it.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path

from failstop.scan import Report, Settings, scan_paths

ROUNDS = 5
PACKAGES = ["sqlalchemy", "flask", "fastapi", "click", "rich"]


def folder_of(package: str) -> Path:
    """Return the directory of an installed package."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed")
    return Path(found.origin).parent


def timed(folder: Path) -> tuple[Report, float]:
    """Scan once and return what was read and the seconds of CPU time."""
    began = time.process_time()
    report = scan_paths([folder], Settings())
    return report, time.process_time() - began


def main(packages: list[str]) -> None:
    """Print a line a package, and one for all."""
    lines, seconds = 0, 0.0
    timed(Path(__file__).parent)
    for package in packages:
        rounds = [timed(folder_of(package)) for _ in range(ROUNDS)]
        report, took = rounds[0][0], statistics.median(each for _, each in rounds)
        lines, seconds = lines + report.lines, seconds + took
        show(package, report.files, report.lines, took)
    show("all", 0, lines, seconds)


def show(name: str, files: int, lines: int, seconds: float) -> None:
    """Print one line of the table."""
    count = f"{files} files" if files else ""
    print(f"{name:<12} {count:>10} {lines:>8} lines {seconds:6.2f} s {lines / seconds:>9,.0f}/s")


if __name__ == "__main__":
    main(sys.argv[1:] or PACKAGES)
