"""`failstop alert test`: finds the FailSafe in the user's code and says what arrived, no more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop.journal import check, rows
from failstop.recovery import Recovery
from failstop.testing import HttpAnswer, HttpFault, HttpReceiver

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SECRET = "hunter2-the-secret-of-24-bytes"
SERVICE = f"""
import sys
from failstop import Database, FailSafe
from failstop.alerts import LoggingSink, Route, WebhookSink

print("this module prints when it is imported")

def lost(alert):
    print("so does this sink")
    raise ConnectionError("password={SECRET}")

webhook = WebhookSink("URL?token={SECRET}", secret="{SECRET}")
other = WebhookSink("URL", secret="{SECRET}", name="other")
failsafe = FailSafe("trading", store="service.db", sinks=[webhook])
half = FailSafe("half", sinks=[LoggingSink(), lost])
both = FailSafe("both", sinks=[Route(webhook, timeout=1.0), Route(other, timeout=1.0)])
silent = FailSafe("silent")
database = Database.connect("postgresql://user:{SECRET}@127.0.0.1:1/none", failsafe)

class Container:
    failsafe = half
"""


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def service(tmp_path: Path, receiver: HttpReceiver) -> None:
    """A user's module in the directory where the command runs; its database is dead."""
    (tmp_path / "a_service.py").write_text(SERVICE.replace("URL", receiver.url))


def actions(receiver: HttpReceiver) -> list[tuple[str, str]]:
    alerts = [json.loads(request.body) for request in receiver.requests]
    return [(alert["action"], alert["title"]) for alert in alerts]


def test_a_test_alert_arrives_marked_and_is_taken_back(run: Run, receiver: HttpReceiver) -> None:
    done = run("alert", "test", "a_service:failsafe")
    assert done.returncode == 0
    assert done.stdout.startswith("webhook: arrived (")
    (trigger, title), (resolve, _) = actions(receiver)
    assert (trigger, resolve) == ("trigger", "resolve")
    assert "TEST, nothing is wrong" in title


def test_a_receiver_that_refuses_is_exit_code_1_and_named(run: Run, receiver: HttpReceiver) -> None:
    receiver.respond = lambda _: HttpAnswer(403)
    done = run("alert", "test", "a_service:failsafe")
    assert done.returncode == 1
    assert done.stdout.startswith("webhook: did not arrive: ")
    assert "403" in done.stdout


def test_a_receiver_that_is_silent_delays_nothing_beyond_its_timeout(
    run: Run, receiver: HttpReceiver
) -> None:
    receiver.respond = lambda _: HttpFault.SILENCE
    done = run("alert", "test", "a_service:both")
    assert done.returncode == 1
    assert [line.partition(" (")[0] for line in done.stdout.splitlines()] == [
        "webhook: did not arrive: no answer in 1 s",
        "other: did not arrive: no answer in 1 s",
    ]


def test_one_sink_that_fails_is_told_beside_one_that_does_not(run: Run) -> None:
    done = run("alert", "test", "a_service:half")
    assert done.returncode == 1
    assert "logging: arrived" in done.stdout
    assert "lost: did not arrive: ConnectionError" in done.stdout


def test_standard_output_holds_the_answer_alone(run: Run) -> None:
    done = run("alert", "test", "a_service:Container.failsafe", "--json")
    assert done.returncode == 1
    told = {each["sink"]: each for each in json.loads(done.stdout)}
    assert told["logging"]["is_arrived"]
    assert (told["lost"]["is_arrived"], told["lost"]["error"]) == (False, "ConnectionError")
    assert "this module prints" in done.stderr
    assert "so does this sink" in done.stderr


@pytest.mark.parametrize("status", [200, 500])
def test_no_secret_of_the_sinks_or_the_database_is_told(
    status: int, run: Run, receiver: HttpReceiver
) -> None:
    receiver.respond = lambda _: HttpAnswer(status, SECRET.encode())
    for place in ("failsafe", "half"):
        done = run("alert", "test", f"a_service:{place}")
        assert SECRET not in done.stdout + done.stderr


def test_a_service_without_a_sink_wakes_nobody(run: Run) -> None:
    done = run("alert", "test", "a_service:silent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody would be woken; give it sinks=" in done.stderr
    done = run("alert", "test", "a_service:silent", "--json")
    assert json.loads(done.stdout)["kind"] == "no_sink"


# What it leaves alone


def test_a_service_that_runs_is_neither_started_again_nor_tripped(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "service.db"
    with FailSafe("trading", store=path, recovery=Recovery(probe_interval=60.0)) as failsafe:
        before = rows(path)
        assert run("alert", "test", "a_service:failsafe").returncode == 0
        assert failsafe.is_normal
        assert rows(path) == before


def test_alerts_that_wait_are_shown_and_stay_where_they_are(
    tmp_path: Path, run: Run, receiver: HttpReceiver
) -> None:
    path = tmp_path / "service.db"
    receiver.respond = lambda _: HttpAnswer(500)
    earlier = FailSafe("trading", store=path, sinks=[Unreachable()])
    earlier.halt(actor="alice", reason="a rehearsal")  # not started: nothing is delivered
    earlier.close()
    done = run("alert", "test", "a_service:failsafe")
    assert "  alerts that wait for it: 1, the oldest for " in done.stdout
    assert check(path).waiting == {"webhook": 1}
    assert len(receiver.requests) == 1


class Unreachable:
    name = "webhook"

    def send(self, _: object) -> None:
        raise AssertionError("nobody sends while no service runs")


@pytest.mark.parametrize("spoil", [b"", b"no store at all"])
def test_alerts_are_tested_with_the_store_damaged(spoil: bytes, tmp_path: Path, run: Run) -> None:
    (tmp_path / "service.db").write_bytes(spoil)
    done = run("alert", "test", "a_service:failsafe")
    assert done.returncode == 0
    assert "webhook: arrived" in done.stdout
    assert "alerts that wait for it: unknown, the store 'service.db' is " in done.stdout
    assert (tmp_path / "service.db").read_bytes() == spoil


# Finding the FailSafe


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("a_service", "write MODULE:NAME"),
        ("no_service:failsafe", "there is no module no_service here; give --app-dir"),
        ("a_service.inner:failsafe", "there is no module a_service.inner here"),
        ("a_service:nothing", "module a_service has no nothing"),
        ("a_service:lost", "is a function, no FailSafe"),
    ],
)
def test_what_is_no_failsafe_is_wrong_usage(place: str, said: str, run: Run) -> None:
    done = run("alert", "test", place)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_code_may_be_elsewhere(tmp_path: Path, run: Run) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a_service.py").rename(tmp_path / "elsewhere" / "a_service.py")
    assert run("alert", "test", "a_service:failsafe").returncode == 2
    done = run("alert", "test", "a_service:failsafe", "--app-dir", tmp_path / "elsewhere")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (f"raise RuntimeError('postgresql://u:{SECRET}@h/d')", "RuntimeError"),
        ("import no_such_library", "it needs the module no_such_library"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        (
            "from failstop import *; Database.connect(None, FailSafe('a'))",
            "CRITICAL DATABASE ERROR: ",
        ),
        ("from failstop import *; FailSafe('')", "service must be"),
    ],
)
def test_an_import_that_fails_is_told_in_one_sentence(
    program: str, why: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "broken.py").write_text(program)
    done = run("alert", "test", "broken:failsafe", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["kind"]) == (1, "import_failed")
    assert told["error"].startswith(f"importing broken failed: {why}")
    assert "with the environment of the service" in told["error"]
    assert SECRET not in done.stdout + done.stderr
