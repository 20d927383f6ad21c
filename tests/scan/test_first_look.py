"""The finder from end to end: a fallback is found, its mended form is clean."""

from __future__ import annotations

from failstop.scan import Confidence, scan_source

FALLBACK = """
import psycopg2

def trades(dsn):
    try:
        connection = psycopg2.connect(dsn)
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM trades")
        return cursor.fetchall()
    except psycopg2.Error:
        return []
"""


def test_an_empty_answer_for_an_outage_is_found_at_its_handler() -> None:
    (finding,) = scan_source(FALLBACK)
    assert (finding.rule, finding.line, finding.end_line) == ("FS001", 10, 11)
    assert finding.confidence is Confidence.HIGH


def test_a_handler_that_raises_again_is_clean() -> None:
    assert scan_source(FALLBACK.replace("return []", "raise")) == []
