"""The same status in the form that a client wants: JSON, health+json, or a page for people."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failstop import FailSafe, State
from failstop.events import CheckResult, Incident, InDoubt
from failstop.status import SinkStatus, SystemStatus
from failstop.web import Endpoints, Request, database_health, readiness, system_status
from failstop.web._accept import HEALTH, HTML, JSON, preferred
from failstop.web._health import database_report, health_report

NOW = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
WELL = CheckResult("database", True, "committed a write", NOW, 0.002)
STATUS = SystemStatus(
    service="api",
    noun="Trading system",
    state=State.NORMAL,
    epoch=0,
    incident=None,
    checks=(WELL,),
    databases=("database",),
    is_automatic=True,
    is_durable=True,
    store_error=None,
    sinks=(SinkStatus("pager", 0, None, None),),
    age=0.5,
    is_fresh=True,
    observed_at=NOW,
)
OFFERED = (JSON, HEALTH, HTML)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def asking(accept: str | None = None, query: str = "") -> Request:
    return Request(query=query, headers={} if accept is None else {"accept": accept})


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        (BROWSER, HTML),
        ("text/html", HTML),
        ("TEXT/HTML; charset=utf-8", HTML),
        ("application/health+json", HEALTH),
        ("application/*", JSON),
        ("text/*", HTML),
        ("text/html;q=0.5, application/json;q=0.4", HTML),
        ("text/html;q=0.4, application/json;q=0.5", JSON),
        ("text/html;q=0.5, */*;q=0.5", JSON),
        ("application/health+json;q=0.9, application/json;q=0.9", JSON),
        ("application/json;q=0, */*;q=0.1", HEALTH),
        ("text/html ; q=0.300 , application/health+json; q=1.0", HEALTH),
        ("application/json;q=0.1, application/*;q=0.8, text/html;q=0.7", HEALTH),
        ("image/png", JSON),
        ("text/html;q=2, */*;q=0.1", JSON),
        ("text/html;q=, nonsense, ;;;, */*;q=0.1", JSON),
        ("text/html;q=0", JSON),
    ],
)
def test_the_client_gets_what_it_wants_most(accept: str | None, media: str) -> None:
    assert preferred(accept, OFFERED) == media


@given(st.text(max_size=200))
def test_no_header_breaks_the_negotiation(accept: str) -> None:
    assert preferred(accept, OFFERED) in OFFERED


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("application/health+json", "application/health+json"),
        (BROWSER, "text/html; charset=utf-8"),
    ],
)
def test_the_status_comes_in_three_forms(
    accept: str | None, content_type: str, failsafe: FailSafe
) -> None:
    for state in (200, 503):
        answer = system_status(failsafe, asking(accept))
        assert answer.status == state
        assert answer.headers["Content-Type"] == content_type
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Length"] == str(len(answer.body))
        failsafe.halt(actor="ann", reason="drill")


def test_a_page_that_renews_itself_is_answered_200(failsafe: FailSafe) -> None:
    """For its own eyes only: JSON tells the state in its status always."""
    failsafe.halt(actor="ann", reason="drill")
    assert system_status(failsafe, asking(BROWSER, "live")).status == 200
    assert system_status(failsafe, asking(BROWSER, "alive")).status == 503
    assert system_status(failsafe, asking("application/json", "live")).status == 503


def test_readiness_and_the_database_come_as_health_too(failsafe: FailSafe) -> None:
    ready = readiness(failsafe, asking(HEALTH))
    assert (ready.status, json.loads(ready.body)["status"]) == (200, "pass")
    failsafe.halt(actor="ann", reason="drill")
    ready = readiness(failsafe, asking(HEALTH))
    assert (ready.status, json.loads(ready.body)["status"]) == (503, "fail")
    database = database_health(failsafe, None, asking(HEALTH))
    assert (database.status, json.loads(database.body)["status"]) == (503, "fail")
    assert database.headers["Content-Type"] == "application/health+json"


# What health+json says


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (STATUS, "pass"),
        (replace(STATUS, is_durable=False), "warn"),
        (replace(STATUS, sinks=(SinkStatus("pager", 1, 9.0, "TimeoutError"),)), "warn"),
        (replace(STATUS, warnings=("receipts are off",)), "warn"),
        (replace(STATUS, is_fresh=False), "fail"),
        (replace(STATUS, age=None, is_fresh=False, checks=()), "fail"),
        (replace(STATUS, checks=(replace(WELL, is_passed=False),)), "fail"),
        (replace(STATUS, state=State.RECOVERING), "fail"),
        (replace(STATUS, state=State.STARTING), "fail"),
        (replace(STATUS, state=State.CLOSED), "fail"),
    ],
)
def test_only_what_is_fresh_and_good_passes(status: SystemStatus, verdict: str) -> None:
    report = health_report(status)
    assert report["status"] == verdict
    assert ("output" in report) == (verdict != "pass")
    assert json.loads(json.dumps(report)) == report


def test_an_old_check_does_not_pass() -> None:
    old = replace(STATUS, is_fresh=False)
    [check] = health_report(old)["checks"]["database:responseTime"]
    assert (check["status"], check["output"]) == ("fail", "observed too long ago")
    assert database_report(old, None)["status"] == "fail"
    assert database_report(STATUS, None)["status"] == "pass"
    assert database_report(STATUS, "another")["status"] == "fail"


def test_a_check_has_the_fields_of_the_draft() -> None:
    [check] = health_report(STATUS)["checks"]["database:responseTime"]
    assert check == {
        "componentId": "database",
        "componentType": "datastore",
        "observedValue": 0.002,
        "observedUnit": "s",
        "status": "pass",
        "time": "2026-01-01T12:00:01.000Z",
    }


def test_health_tells_how_many_are_in_doubt_and_no_key() -> None:
    doubtful = replace(STATUS, in_doubt=(InDoubt("database", "order-4711", NOW),))
    report: dict[str, Any] = health_report(doubtful)
    assert report["checks"]["inDoubt:count"][0]["observedValue"] == 1
    assert "4711" not in json.dumps(report)


class Counting:
    """A dependency that counts how often it is asked."""

    name = "database"

    def __init__(self) -> None:
        self.asked = 0

    def probe(self) -> str:
        self.asked += 1
        return "well"

    def suspend(self, incident: Incident) -> None:
        pass

    def close(self) -> None:
        pass


def test_no_endpoint_asks_the_database(failsafe: FailSafe) -> None:
    dependency = Counting()
    failsafe.watch(dependency, is_database=True)
    before = dependency.asked
    endpoints = Endpoints(failsafe)
    for path in ("/api/system/status", "/api/database/health", "/livez", "/readyz"):
        for accept in (JSON, HEALTH, BROWSER):
            found = endpoints.find("GET", path)
            assert found is not None
            assert found.answer(asking(accept)).status == 200
    assert (before, dependency.asked) == (1, 1)


def test_without_jinja2_the_status_is_json() -> None:
    """The middlewares need no extra; the page does."""
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from failstop import FailSafe\n"
        "from failstop.web import Endpoints, Request\n"
        "import failstop.asgi, failstop.wsgi\n"
        "endpoints = Endpoints(FailSafe('api'), admin_token='x' * 32)\n"
        "asked = Request(headers={'accept': 'text/html'})\n"
        "answer = endpoints.find('GET', '/api/system/status').answer(asked)\n"
        "assert answer.headers['Content-Type'] == 'application/json', answer\n"
        "asked = Request('POST', '/admin/halt', headers={'accept': 'text/html'})\n"
        "answer = endpoints.find('POST', '/admin/halt').answer(asked)\n"
        "assert answer.headers['Content-Type'] == 'application/problem+json', answer\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
