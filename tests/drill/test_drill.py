"""The drill shows what it says, and does not pass what breaks a promise."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from failstop.cli import main
from failstop.cli._drill import show
from failstop.drill import ActReport, DrillReport, Moment, Reconciliation, run_drill
from failstop.drill._report import Answers

MOMENTS: list[Moment] = []


@pytest.fixture(scope="module")
def report() -> DrillReport:
    """Several acts of one drill, since each drill has to start a server and an API."""
    acts = ["kill", "freeze", "refuse", "half-open", "lost-reply", "failover"]
    return run_drill(MOMENTS.append, acts)


def act_of(report: DrillReport, name: str) -> ActReport:
    [found] = [act for act in report.acts if act.name == name]
    return found


def test_a_killed_server_costs_no_order_and_wakes_one_human(report: DrillReport) -> None:
    assert report.broken == []
    act = act_of(report, "kill")
    assert (act.pages, act.is_resolved) == (1, True)
    assert act.answers.total > 0
    kept = report.books.accepted - len(report.books.failed_over)
    assert kept <= report.books.rows <= kept + report.books.unknown
    assert [moment.text for moment in MOMENTS if moment.text.startswith("tripped: ")]


def test_an_order_whose_commit_was_never_answered_is_told_as_committed(report: DrillReport) -> None:
    act = act_of(report, "lost-reply")
    assert act.broken == []
    assert act.error_code == "TRANSACTION_FAILED"
    assert act.answers.outcomes["COMMITTED"] >= 1


def test_a_network_that_fails_is_an_outage(report: DrillReport) -> None:
    assert act_of(report, "refuse").broken == []
    assert act_of(report, "half-open").broken == []
    assert act_of(report, "half-open").trip_after > 1.0  # type: ignore[operator]  # by silence


def test_a_failover_that_lost_writes_waits_for_a_person(report: DrillReport) -> None:
    act = act_of(report, "failover")
    assert act.broken == []
    assert act.is_held
    [lost] = [sentence for sentence in act.why if "lost committed writes" in sentence]
    assert "another server took over" in lost
    assert (act.pages, act.is_resolved) == (1, True)
    said = [moment.text for moment in MOMENTS]
    assert "a reset without force was refused; a person resets it with force" in said


def test_what_a_failover_lost_is_told_truthfully(report: DrillReport) -> None:
    books = report.books
    assert books.failed_over
    assert books.lost == []
    assert books.rows <= books.accepted - len(books.failed_over) + books.unknown


def test_a_service_that_did_not_wait_for_a_person_broke_its_promise() -> None:
    act = ActReport("failover", "", waits="has lost committed writes", recovered_after=1.0)
    assert "the service did not wait for a person" in act.broken
    assert "the plan did not say that the database has lost committed writes" in act.broken
    assert "nobody was told that the reset was forced" in act.broken


def test_a_lost_reply_that_nobody_was_told_of_is_a_broken_promise() -> None:
    act = ActReport("lost-reply", "", tells="COMMITTED", answers=Answers(1, {"ROLLED_BACK": 1}))
    assert "no answer told the outcome COMMITTED" in act.broken


def test_a_service_with_fallbacks_breaks_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    report = run_drill(lambda _: None, ["kill"], api="unprotected_api", limit=2.0)
    assert report.books.lost
    assert "kill: the service did not trip" in report.broken
    assert "kill: 0 pages were sent, not one" in report.broken


def test_the_command_gives_its_report_as_json_and_its_verdict_as_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["drill", "--json", "--act", "terminate", "--act", "connections"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] is True
    assert [act["name"] for act in told["acts"]] == ["terminate", "connections"]
    assert told["books"]["lost"] == told["books"]["duplicated"] == []


def test_the_command_shows_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--act", "read-only", "--act", "black-hole"]) == 0
    said = capsys.readouterr().out
    for words in ("the server turns read-only", "tripped: DB_UNAVAILABLE", "recovered: "):
        assert words in said
    assert "every promise was kept" in said


def test_the_command_tells_what_a_failover_lost_and_what_was_left() -> None:
    books = Reconciliation(sent=2, accepted=2, rows=1, failed_over=["order-2"])
    report = DrillReport([], books, [], "18.0", 1.0, {"kill": "the server"}, ["a table (Error)"])
    written = io.StringIO()
    show(Console(file=written, width=200), report)
    said = written.getvalue()
    assert "1 more were answered 201 and are on the killed server only: the failover lost" in said
    assert "left out: kill, which needs the server" in said
    assert "left behind: a table (Error)" in said
    assert "every promise was kept" in said


def test_the_command_names_every_broken_promise() -> None:
    books = Reconciliation(sent=2, accepted=1, lost=["order-1"])
    report = DrillReport([], books, ["a 503 held data"], "18.0", 1.0)
    written = io.StringIO()
    show(Console(file=written), report)
    assert "broken: a 503 held data" in written.getvalue()
    assert "broken: 1 orders lost" in written.getvalue()
    assert "2 promises broke" in written.getvalue()


def test_a_fault_that_nobody_knows_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--act", "flood"]) == 2
    assert "no fault 'flood'; there are kill, freeze" in capsys.readouterr().err
