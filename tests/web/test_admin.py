"""Halt and reset over HTTP: who may, what is refused, and what is said of it; without a server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.forking import exit_code

from failstop import ConfigurationError, FailSafe, Recovery, State, journal
from failstop.events import InDoubt
from failstop.web import Answer, Endpoints, Request, Tokens
from failstop.web._admin import Admin
from failstop.web._attempts import MOST_CLIENTS, MOST_FAILED, WINDOW, Attempts
from failstop.web._order import FORM, RefusedError, read_order
from failstop.web._request import MOST_BODY

ALICE = "a-token-of-alices-with-32-characters-or-more"
OPS = "another-token-of-the-operators-that-is-long-enough"
WRONG = "a-wrong-token-of-the-same-length-as-others--"
TOKENS = {"alice": ALICE, "ops-1": OPS}
HALT, RESET, PLAN, STATUS = (
    "/admin/halt",
    "/admin/force-recovery-reset",
    "/admin/plan",
    "/admin/status",
)
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
WHO = {"actor": "ann", "reason": "a drill"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def failsafe(request: pytest.FixtureRequest) -> Iterator[FailSafe]:
    """A started FailSafe, with a store where the test asks for that."""
    store = request.getfixturevalue("store") if "store" in request.fixturenames else None
    with FailSafe("trading-api", store=store, recovery=Recovery(probe_interval=60.0)) as made:
        yield made


@pytest.fixture
def endpoints(failsafe: FailSafe) -> Endpoints:
    return Endpoints(failsafe, admin_token=TOKENS)


def ask(
    endpoints: Endpoints,
    path: str,
    body: object = None,
    *,
    token: str | None = ALICE,
    method: str = "POST",
    **headers: str,
) -> Answer:
    """Ask as a program does: JSON, with the token in the Authorization header."""
    found = endpoints.find(method, path)
    assert found is not None
    sent = {
        "content-type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return found.answer(Request(method, path, "", sent, raw, "192.0.2.1"))


def send(endpoints: Endpoints, path: str, *, token: str | None = ALICE, **fields: str) -> Answer:
    """Ask as the page's forms do."""
    found = endpoints.find("POST", path)
    assert found is not None
    given = fields if token is None else {**fields, "token": token}
    headers = {"content-type": FORM, "accept": BROWSER, "sec-fetch-site": "same-origin"}
    body = urlencode(given).encode()
    return found.answer(Request("POST", path, "", headers, body, "192.0.2.1"))


def told(answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer.body)
    return body


# The tokens


@pytest.mark.parametrize(
    "given",
    [
        "",
        "short",
        "x" * 31,
        "x" * 31 + " x",
        "x" * 31 + "é",
        {},
        {"": ALICE},
        {"ann\n": ALICE},
        {"ann": "short"},
        {"ann": ALICE, "bob": ALICE},
        {"ann": None},
        7,
        [ALICE],
    ],
)
def test_a_token_that_is_none_is_a_configuration_error_that_does_not_show_it(given: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        Tokens(given)
    assert "admin_token" in str(error.value)
    for secret in ("short", "xxx", ALICE):
        assert secret not in str(error.value)


def test_each_token_has_its_name() -> None:
    tokens = Tokens(TOKENS)
    assert tokens.name_of(ALICE) == "alice"
    assert tokens.name_of(OPS) == "ops-1"
    assert Tokens(ALICE).name_of(ALICE) == "admin"
    for wrong in ("", WRONG, ALICE[:-1], ALICE + "x", "\udcff", "é" * 40):
        assert tokens.name_of(wrong) is None
    assert ALICE not in repr(tokens) + repr(vars(tokens))


def test_without_a_token_there_is_nothing(failsafe: FailSafe) -> None:
    endpoints = Endpoints(failsafe)
    for path in (HALT, RESET, PLAN, STATUS):
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            assert endpoints.find(method, path) is None


# Halt


def test_a_halt_stops_and_the_journal_knows_who(
    endpoints: Endpoints, failsafe: FailSafe, store: Path
) -> None:
    answer = ask(endpoints, HALT, {"actor": "Alice Smith", "reason": "prices look wrong"})
    assert answer.status == 200
    assert failsafe.state is State.FAIL_SAFE
    assert failsafe.incident is not None
    said = told(answer)
    assert (said["result"], said["state"], said["epoch"]) == ("halted", "FAIL_SAFE", 1)
    assert said["incidentId"] == failsafe.incident.incident_id
    assert said["notDone"] == []
    [row] = [row.facts for row in journal.rows(store) if row.facts["event"] == "Halted"]
    assert (row["actor"], row["reason"]) == ("Alice Smith (token alice)", "prices look wrong")


def test_a_halt_on_a_halt_is_one_more(endpoints: Endpoints) -> None:
    ask(endpoints, HALT, WHO)
    assert told(ask(endpoints, HALT, WHO, token=OPS))["epoch"] == 2


def test_a_halt_says_what_it_could_not_do(
    endpoints: Endpoints, failsafe: FailSafe, store: Path
) -> None:
    with contextlib.closing(sqlite3.connect(store)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = ask(endpoints, HALT, WHO)
        assert answer.status == 200
        assert failsafe.state is State.FAIL_SAFE
        [left] = told(answer)["notDone"]
        assert "not in the store yet: the store 'failstop.db' is locked" in left
        assert "end the process that holds its lock" in left
        assert b"What could not be done" in send(endpoints, HALT, **WHO).body


def test_without_a_store_a_halt_says_that_nobody_else_hears_of_it() -> None:
    with FailSafe("api", recovery=Recovery(probe_interval=60.0)) as failsafe:
        answer = ask(Endpoints(failsafe, admin_token=ALICE), HALT, WHO)
    [left] = told(answer)["notDone"]
    assert "other processes" in left


def test_what_is_closed_says_so(failsafe: FailSafe, endpoints: Endpoints) -> None:
    failsafe.close()
    for path, body in ((HALT, WHO), (RESET, {**WHO, "epoch": 0}), (PLAN, {})):
        answer = ask(endpoints, path, body)
        assert answer.status == 503
        assert told(answer)["type"] == "https://failstop.dev/problems/not-running"


# Reset


def test_a_reset_names_the_epoch_that_was_seen(endpoints: Endpoints, failsafe: FailSafe) -> None:
    ask(endpoints, HALT, WHO)
    answer = ask(endpoints, RESET, {**WHO, "epoch": 1})
    assert (answer.status, told(answer)["result"]) == (200, "reset")
    assert failsafe.is_normal


def test_a_reset_of_an_epoch_that_is_over_is_told_the_newer_one(
    endpoints: Endpoints, failsafe: FailSafe
) -> None:
    ask(endpoints, HALT, WHO)
    ask(endpoints, HALT, WHO)
    for force in (False, True):
        answer = ask(endpoints, RESET, {**WHO, "epoch": 1, "force": force})
        assert answer.status == 409
        assert told(answer)["type"] == "https://failstop.dev/problems/epoch-stale"
        assert told(answer)["epoch"] == 2
    assert not failsafe.is_normal


def test_a_reset_without_an_epoch_is_refused(endpoints: Endpoints, failsafe: FailSafe) -> None:
    ask(endpoints, HALT, WHO)
    assert ask(endpoints, RESET, {**WHO, "force": True}).status == 400
    assert not failsafe.is_normal


@pytest.fixture
def unproven(failsafe: FailSafe) -> FailSafe:
    """A halted FailSafe with a check that fails."""

    @failsafe.check
    def reconciled() -> bool:
        return False

    failsafe.halt(actor="bob", reason="drill")
    return failsafe


def test_a_reset_that_is_not_proven_is_refused_with_the_plan(
    endpoints: Endpoints, unproven: FailSafe
) -> None:
    answer = ask(endpoints, RESET, {**WHO, "epoch": 1})
    assert answer.status == 409
    said = told(answer)
    assert said["type"] == "https://failstop.dev/problems/reset-refused"
    assert said["failed"] == ["reconciled"]
    assert said["plan"]["missing"] == ["reconciled"]
    assert said["plan"]["epoch"] == said["epoch"] == 1
    assert not unproven.is_normal


def test_force_overrules_only_where_it_is_said(
    endpoints: Endpoints, unproven: FailSafe, store: Path
) -> None:
    for not_said in ("yes", 1, "true", None):
        answer = ask(endpoints, RESET, {**WHO, "epoch": 1, "force": not_said})
        assert answer.status == 400
    assert ask(endpoints, RESET, {**WHO, "epoch": 1, "force": False}).status == 409
    assert send(endpoints, RESET, **WHO, epoch="1").status == 409
    assert send(endpoints, RESET, **WHO, epoch="1", force="on").status == 400
    assert not unproven.is_normal
    answer = ask(endpoints, RESET, {**WHO, "epoch": 1, "force": True})
    assert (answer.status, told(answer)["forced"]) == (200, True)
    assert unproven.state is State.NORMAL
    [row] = [row.facts for row in journal.rows(store) if row.facts["event"] == "Reset"]
    assert (row["actor"], row["failed"]) == ("ann (token alice)", ["reconciled"])


def test_where_nothing_is_to_reset_it_says_so(endpoints: Endpoints) -> None:
    answer = ask(endpoints, RESET, {**WHO, "epoch": 0})
    assert answer.status == 409
    assert "is not in fail-safe mode" in told(answer)["detail"]
    assert ask(endpoints, PLAN, {}).status == 200


def test_a_reset_that_cannot_be_written_is_refused(
    endpoints: Endpoints, failsafe: FailSafe, store: Path
) -> None:
    ask(endpoints, HALT, WHO)
    store.rename(store.with_name("away.db"))
    answer = ask(endpoints, RESET, {**WHO, "epoch": 1})
    assert answer.status == 409
    assert told(answer)["failed"] == ["store"]
    assert not failsafe.is_normal


# The plan and the status


def test_the_plan_shows_what_is_missing_and_changes_nothing(
    endpoints: Endpoints, unproven: FailSafe
) -> None:
    answer = ask(endpoints, PLAN, method="GET")
    assert (answer.status, told(answer)["missing"]) == (200, ["reconciled"])
    page = send(endpoints, PLAN, actor="", reason="", epoch="1").body.decode()
    assert "reconciled" in page
    assert not unproven.is_normal


def test_whoever_has_a_token_sees_whole_keys(endpoints: Endpoints, failsafe: FailSafe) -> None:
    failsafe.report_in_doubt(InDoubt("database", "order-4711-x", datetime.now(UTC)))
    [doubt] = told(ask(endpoints, STATUS, method="GET"))["inDoubt"]
    assert doubt["key"] == "order-4711-x"
    assert ask(endpoints, STATUS, method="GET", token=WRONG).status == 401


# Who


@pytest.mark.parametrize("path", [HALT, RESET, PLAN])
def test_without_a_right_token_nothing_is_done(
    path: str, endpoints: Endpoints, failsafe: FailSafe
) -> None:
    body = {**WHO, "epoch": 0} if path == RESET else WHO
    answers = [
        ask(endpoints, path, body, token=None),
        ask(endpoints, path, body, token=WRONG),
        ask(endpoints, path, body, token=""),
        ask(endpoints, path, body, token=None, authorization=f"Basic {ALICE}"),
        ask(endpoints, path, body, token=None, authorization=ALICE),
        ask(endpoints, path, body, token=None, authorization=f"Bearer {ALICE}, Bearer {OPS}"),
    ]
    for answer in answers:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert told(answer)["type"] == "https://failstop.dev/problems/not-entitled"
    assert failsafe.is_normal


def test_a_form_brings_its_token_itself(endpoints: Endpoints, failsafe: FailSafe) -> None:
    refused = send(endpoints, HALT, token=WRONG, **WHO)
    assert refused.status == 401
    assert b"<h1" in refused.body
    assert b"The token is not right" in refused.body
    assert send(endpoints, HALT, token=None, **WHO).status == 401
    assert failsafe.is_normal
    done = send(endpoints, HALT, **WHO)
    assert done.status == 200
    assert b"Halted" in done.body
    assert done.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in done.headers["Content-Security-Policy"]


def test_a_token_in_json_or_in_the_query_counts_for_nothing(
    endpoints: Endpoints, failsafe: FailSafe
) -> None:
    assert ask(endpoints, HALT, {**WHO, "token": ALICE}, token=None).status == 400
    found = endpoints.find("POST", HALT)
    assert found is not None
    headers = {"content-type": "application/json"}
    query = f"token={ALICE}"
    request = Request("POST", HALT, query, headers, json.dumps(WHO).encode(), "192.0.2.1")
    assert found.answer(request).status == 401
    assert failsafe.is_normal


def test_a_token_is_in_no_answer_no_row_and_no_log_line(
    endpoints: Endpoints, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [
        ask(endpoints, HALT, WHO).body,
        ask(endpoints, HALT, WHO, token=WRONG).body,
        send(endpoints, HALT, **WHO).body,
        send(endpoints, HALT, token=WRONG, **WHO).body,
        send(endpoints, HALT, token=WRONG, **WHO, x=WRONG).body,
        ask(endpoints, HALT, {**WHO, "token": WRONG}).body,
        ask(endpoints, HALT, {**WHO, WRONG: WRONG}).body,
        caplog.text.encode(),
        *(row.body.encode() for row in journal.rows(store)),
    ]
    assert "no token, or a wrong one" in caplog.text
    for each in said:
        assert ALICE.encode() not in each
        assert WRONG.encode() not in each


# Attempts


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def attempt(admin: Admin, work: str, token: str, client: str = "192.0.2.1") -> int:
    """Return the status that an order comes to."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    body = json.dumps(WHO).encode()
    try:
        getattr(admin, work)(Request("POST", "/admin", "", headers, body, client))
    except RefusedError as refused:
        wait = int(refused.headers.get("Retry-After", "0"))
        return refused.status if (refused.status == 429) == (0 < wait <= WINDOW) else wait
    return 200


def test_who_fails_too_often_has_to_wait(failsafe: FailSafe) -> None:
    clock = Clock()
    admin = Admin(failsafe, Tokens(TOKENS), clock=clock)
    assert [attempt(admin, "plan", WRONG) for _ in range(MOST_FAILED + 2)] == [
        *[401] * MOST_FAILED,
        429,
        429,
    ]
    assert attempt(admin, "plan", ALICE) == 429
    assert attempt(admin, "plan", ALICE, "192.0.2.2") == 200
    clock.now = WINDOW
    assert attempt(admin, "plan", ALICE) == 200


def test_nobody_is_kept_from_the_kill_switch(failsafe: FailSafe) -> None:
    """Whoever shares an address with an attacker, as behind a proxy, can halt all the same."""
    admin = Admin(failsafe, Tokens(TOKENS), clock=Clock())
    for _ in range(MOST_FAILED):
        attempt(admin, "halt", WRONG)
    assert attempt(admin, "halt", WRONG) == 429
    assert attempt(admin, "halt", ALICE) == 200
    assert failsafe.state is State.FAIL_SAFE


def test_attempts_take_bounded_memory() -> None:
    attempts = Attempts()
    for number in range(3 * MOST_CLIENTS):
        attempts.fail(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(attempts) == MOST_CLIENTS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_while_an_attempt_was_counted_counts_its_own() -> None:
    attempts = Attempts()
    with attempts._lock:
        child = os.fork()
        if not child:
            attempts.fail("10.0.0.1", 0.0)
            os._exit(len(attempts))
    assert exit_code(child, 5.0) == 1
    assert len(attempts) == 0


def test_one_network_of_ipv6_is_one_client() -> None:
    attempts = Attempts()
    for number in range(MOST_FAILED):
        attempts.fail(f"2001:db8::{number:x}", 0.0)
    assert attempts.wait("2001:db8::ffff", 1.0) == WINDOW - 1
    assert attempts.wait("2001:db8:0:1::1", 1.0) is None
    assert attempts.wait("", 1.0) is None


# Other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "https://trading.example"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "something new"}, 403),
        ({"origin": "https://trading.example", "host": "trading.example"}, 200),
        ({"origin": "http://trading.example:8080", "host": "Trading.example:8080"}, 200),
        ({"origin": "https://evil.example", "host": "trading.example"}, 403),
        ({"origin": "null", "host": "trading.example"}, 403),
        ({"origin": "http://[", "host": "trading.example"}, 403),
        ({"origin": "", "host": ""}, 403),
    ],
)
def test_no_other_site_orders_anything(
    headers: dict[str, str], status: int, endpoints: Endpoints, failsafe: FailSafe
) -> None:
    """Even with a right token."""
    answer = ask(endpoints, HALT, WHO, **{k.replace("-", "_"): v for k, v in headers.items()})
    assert answer.status == status
    assert failsafe.is_normal == (status != 200)


# What is no order


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff", 400),
        (b"[" * 9000, 400),
        (b'{"actor": "a", "actor": "b", "reason": "c"}', 400),
        (b'{"actor": "a"}', 400),
        (b'{"actor": "", "reason": "c"}', 400),
        (b'{"actor": " ", "reason": "c"}', 400),
        (b'{"actor": 7, "reason": "c"}', 400),
        (b'{"actor": "a", "reason": "c", "forced": true}', 400),
        (b'{"actor": "a", "reason": "' + b"c" * 1001 + b'"}', 400),
        (b'{"actor": "' + b"a" * 101 + b'", "reason": "c"}', 400),
        (b" " * (MOST_BODY + 1), 413),
    ],
)
def test_what_is_no_order_is_refused(
    body: bytes, status: int, endpoints: Endpoints, failsafe: FailSafe
) -> None:
    answer = ask(endpoints, HALT, body)
    assert (answer.status, told(answer)["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert failsafe.is_normal


@pytest.mark.parametrize(
    "epoch", [-1, 1.0, "1", True, None, 2**63, int("9" * 4000), [], float("inf")]
)
def test_an_epoch_is_a_number(epoch: object, endpoints: Endpoints) -> None:
    assert ask(endpoints, RESET, {**WHO, "epoch": epoch}).status == 400


@pytest.mark.parametrize("epoch", ["", "-1", "1.0", "x", "9" * 5000, "٣"])
def test_an_epoch_in_a_form_is_a_number(epoch: str, endpoints: Endpoints) -> None:
    assert send(endpoints, RESET, **WHO, epoch=epoch).status == 400


@pytest.mark.parametrize("media", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_another_type_is_not_read(media: str, endpoints: Endpoints) -> None:
    assert ask(endpoints, HALT, WHO, content_type=media).status == 415


@given(st.binary(max_size=300), st.sampled_from([FORM, "application/json"]))
def test_no_body_breaks_the_reading(body: bytes, media: str) -> None:
    request = Request("POST", HALT, "", {"content-type": media}, body)
    with contextlib.suppress(RefusedError):
        read_order(request, ("actor", "reason", "epoch", "force"))


def test_methods(endpoints: Endpoints) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "TRACE"):
        answer = ask(endpoints, HALT, method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    answer = ask(endpoints, HALT, method="OPTIONS", token=None)
    assert (answer.status, answer.headers["Allow"], answer.body) == (204, "POST, OPTIONS", b"")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert ask(endpoints, PLAN, method="HEAD").status == 200
    assert ask(endpoints, STATUS, method="POST").status == 405
