"""The pair of `docs/migration.md`: before is full of fallbacks, after has none."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from failstop.scan import RULES, Finding, Settings, scan_paths

ROOT = Path(__file__).parents[2]
PAIR = ROOT / "examples" / "migration"
PAGE = ROOT / "docs" / "migration.md"
QUOTE = re.compile(r'^```py title="(before|after)/(\w+\.py)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def findings(name: str) -> list[Finding]:
    report = scan_paths([PAIR / name])
    assert report.skipped == []
    assert report.files > 5
    return report.findings


def test_before_has_a_finding_of_every_rule_that_is_shown_by_default() -> None:
    shown = [f for f in findings("before") if f.confidence.rank >= Settings().confidence.rank]
    assert {each.rule for each in shown} == set(RULES)


def test_after_has_no_finding_of_any_confidence() -> None:
    assert findings("after") == []


def test_the_page_lists_what_the_scan_finds() -> None:
    rows = re.findall(
        r"^\| `([\w.]+):(\d+)` \| \[(FS\d+)\]\(scan/\3\.md\) \| (.*) \|$",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    found = [
        (Path(each.path).name, str(each.line), each.rule, each.facts.title)
        for each in findings("before")
    ]
    assert rows == found


@pytest.mark.parametrize(("version", "file", "quoted"), QUOTE.findall(PAGE.read_text("utf-8")))
def test_what_the_page_quotes_is_in_the_example(version: str, file: str, quoted: str) -> None:
    text = (PAIR / version / file).read_text("utf-8")
    wanted = quoted.strip("\n").splitlines()
    lines = text.splitlines()
    starts = range(len(lines) - len(wanted) + 1)
    blocks = (lines[start : start + len(wanted)] for start in starts)
    assert any(textwrap.dedent("\n".join(block)).splitlines() == wanted for block in blocks)
