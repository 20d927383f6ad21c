"""`# failstop: allow[FS001] reason`: a person's word, with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from failstop.scan import Confidence, Finding, scan_paths, scan_source
from failstop.scan._allow import without_allowed

CODE = """\
import psycopg2


def trades(dsn):
    try:
        connection = psycopg2.connect(dsn)
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM trades")
        return cursor.fetchall()
{above}    except psycopg2.Error:{beside}
{inside}        return []{after}
"""


def code(above: str = "", beside: str = "", inside: str = "", after: str = "") -> str:
    return CODE.format(above=above, beside=beside, inside=inside, after=after)


def test_without_a_comment_it_is_found() -> None:
    assert [each.rule for each in scan_source(code())] == ["FS001"]


@pytest.mark.parametrize(
    "text",
    [
        code(beside="  # failstop: allow[FS001] a cache of the shop window"),
        code(beside="  #failstop:allow[FS001]: a cache of the shop window"),
        code(beside="  # failstop: allow[FS011, FS001] a cache of the shop window"),
        code(beside="  # noqa: X1 # failstop: allow[FS001] a cache # noqa: Y2"),
        code(above="    # failstop: allow[FS001] a cache of the shop window\n"),
        code(above="    # failstop: allow[FS001] a cache of the\n    # shop window\n\n"),
        code(inside="        # failstop: allow[FS001] a cache of the shop window\n"),
        code(after="  # failstop: allow[FS001] a cache of the shop window"),
    ],
)
def test_a_comment_with_a_reason_allows_a_finding(text: str) -> None:
    assert scan_source(text) == []


@pytest.mark.parametrize("comment", ["allow[FS001]", "allow[FS001]:", "allow[FS001]  # noqa: E501"])
def test_a_comment_without_a_reason_allows_nothing_and_is_reported(comment: str) -> None:
    (found,) = scan_source(code(beside=f"  # failstop: {comment}"))
    assert found.rule == "FS001"
    assert found.message.endswith("(the allow comment in line 10 has no reason)")


@pytest.mark.parametrize(
    "text",
    [
        code(beside="  # failstop: allow[FS002] a cache of the shop window"),
        code(beside="  # failstop: allow[] a cache of the shop window"),
        code(beside="  # failstop: allow a cache of the shop window"),
        "# failstop: allow[FS001] a cache of the shop window\n" + code(),
        code() + "# failstop: allow[FS001] a cache of the shop window\n",
        code(inside='        "# failstop: allow[FS001] a cache of the shop window"\n'),
    ],
)
def test_a_comment_elsewhere_for_another_rule_or_in_a_string_allows_nothing(text: str) -> None:
    (found,) = scan_source(text)
    assert found.rule == "FS001"
    assert "no reason" not in found.message


def test_a_comment_inside_two_findings_allows_the_inner_one() -> None:
    outer = Finding("a.py", 1, 9, "FS001", Confidence.HIGH, "outer")
    inner = Finding("a.py", 3, 5, "FS001", Confidence.HIGH, "inner")
    text = "x = 1\n" * 3 + "x = 1  # failstop: allow[FS001] a cache\n" + "x = 1\n" * 5
    assert without_allowed([outer, inner], text) == ([outer], 1)


def test_what_was_allowed_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(code(beside="  # failstop: allow[FS001] a shop window"))
    (tmp_path / "b.py").write_text(code())
    report = scan_paths([tmp_path])
    assert (report.allowed, len(report.findings)) == (1, 1)
