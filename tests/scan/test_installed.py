"""Large public code: the scan of what is installed ends, and leaves out only what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from failstop.scan import Settings, scan_paths


@pytest.mark.parametrize("package", ["sqlalchemy", "flask", "fastapi", "celery"])
def test_an_installed_package_is_read_to_the_end(package: str) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    report = scan_paths([Path(found.origin).parent], Settings(processes=2))
    assert report.lines > 5_000
    assert {word for _, word in report.skipped} <= {"generated"}
    for each in report.findings:
        lines = Path(each.path).read_bytes().count(b"\n") + 1
        assert 1 <= each.line <= each.end_line <= lines
