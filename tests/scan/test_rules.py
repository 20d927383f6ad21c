"""What is true of every rule: its place, its name, its precedence and how sure it is."""

from __future__ import annotations

import pytest

from failstop.scan import Confidence, Finding, scan_source

SWALLOWED_INSERT = """
import psycopg

class Desk:
    def book(self, conn: psycopg.Connection, fill):
        conn.execute("INSERT INTO fills (id) VALUES (%s)", (fill.id,))
        try:
            conn.execute("INSERT INTO notes (id) VALUES (%s)", (fill.id,))
        except psycopg.Error:
            return_value = []
        else:
            return_value = [fill]
        conn.commit()
        return return_value
"""

EMPTY_ANSWER = """
import psycopg

def positions(dsn):
    with psycopg.connect(dsn, connect_timeout=2) as conn:
        try:
            return conn.execute("SELECT * FROM positions").fetchall()
        except psycopg.Error as error:
            print(error)
            return []
"""

LOG_ONLY = """
import psycopg
from failstop import Database

def fill(database: Database, fill):
    try:
        with database.transaction(key=fill.id) as connection:
            connection.exec_driver_sql("INSERT INTO fills (id) VALUES (1)")
    except Exception as error:
        print(error)
"""


def only(source: str, **name: str) -> Finding:
    (found,) = scan_source(source, **name)
    return found


@pytest.mark.parametrize(
    ("source", "rule"),
    [(SWALLOWED_INSERT, "FS005"), (EMPTY_ANSWER, "FS005"), (LOG_ONLY, "FS011")],
    ids=["FS005-before-FS001", "FS005-before-FS001-in-a-block", "FS011-before-FS002"],
)
def test_where_several_rules_fit_a_place_the_first_in_the_order_wins(
    source: str, rule: str
) -> None:
    assert only(source).rule == rule


def test_a_finding_that_is_hidden_by_default_hides_none_that_is_shown() -> None:
    source = """
import sqlite3

def seed(path):
    with sqlite3.connect(path) as connection:
        try:
            connection.execute("INSERT INTO venues VALUES ('XETR')")
        except sqlite3.Error as error:
            print(error)
"""
    found = only(source)
    assert (found.rule, found.confidence) == ("FS011", Confidence.HIGH)


def test_a_finding_on_a_handler_spans_it_and_names_its_function() -> None:
    found = only(SWALLOWED_INSERT)
    assert (found.line, found.end_line, found.symbol) == (9, 10, "Desk.book")


def test_the_same_fallback_in_test_code_is_low() -> None:
    source = EMPTY_ANSWER.replace("return []", "raise")
    assert scan_source(source) == []
    found = only(EMPTY_ANSWER, root_name="tests/test_positions.py")
    assert found.confidence is Confidence.LOW


def test_a_fingerprint_lives_through_edits_elsewhere_in_the_file() -> None:
    moved = only("# a comment\n\n" + EMPTY_ANSWER)
    assert moved.fingerprint == only(EMPTY_ANSWER).fingerprint
    assert moved.line == only(EMPTY_ANSWER).line + 2


def test_two_findings_of_the_same_text_have_two_fingerprints() -> None:
    twice = EMPTY_ANSWER + EMPTY_ANSWER.replace("import psycopg\n", "")
    first, second = scan_source(twice)
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("clause", ["except Exception:", "except:", "except BaseException:"])
def test_every_broad_clause_catches_a_database_error(clause: str) -> None:
    source = f"""
import psycopg

def total(conn: psycopg.Connection):
    try:
        return conn.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
    {clause}
        return 0
"""
    assert only(source).rule == "FS001"


@pytest.mark.parametrize(
    "clause",
    [
        "except KeyError:",
        "except psycopg.errors.UniqueViolation:",
        "except (ValueError, psycopg.IntegrityError):",
    ],
)
def test_a_narrow_clause_catches_none(clause: str) -> None:
    source = f"""
import psycopg

def total(conn: psycopg.Connection):
    try:
        return conn.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
    {clause}
        return 0
"""
    assert scan_source(source) == []


def test_an_earlier_handler_that_raises_leaves_nothing_for_a_later_one() -> None:
    source = """
import psycopg

def total(conn: psycopg.Connection):
    try:
        return conn.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
    except psycopg.Error:
        raise
    except Exception:
        return 0
"""
    assert scan_source(source) == []
