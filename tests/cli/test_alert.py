"""`failstop alert test` finds the FailSafe in the user's code and says what arrived."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from failstop.cli import main

SERVICE = """
from failstop import FailSafe
from failstop.alerts import LoggingSink

def lost(alert):
    raise ConnectionError("no way")

failsafe = FailSafe("service", sinks=[LoggingSink()])
half = FailSafe("half", sinks=[LoggingSink(), lost])
silent = FailSafe("silent")
"""


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module in the current directory."""
    (tmp_path / "a_service.py").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "a_service", raising=False)


def test_an_alert_that_arrives_everywhere_is_exit_code_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["alert", "test", "a_service:failsafe"]) == 0
    assert capsys.readouterr().out.startswith("logging: arrived")


def test_an_alert_that_does_not_arrive_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "test", "a_service:half"]) == 1
    said = capsys.readouterr().out
    assert "logging: arrived" in said
    assert "lost: did not arrive: ConnectionError" in said


def test_the_arrivals_are_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "test", "a_service:half", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(each["sink"], each["error"] is None) for each in told] == [
        ("logging", True),
        ("lost", False),
    ]


def test_a_service_without_a_sink_wakes_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "test", "a_service:silent"]) == 1
    assert "nobody would be woken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("a_service", "write MODULE:NAME"),
        ("no_service:failsafe", "there is no module no_service here"),
        ("a_service:nothing", "module a_service has no nothing"),
        ("a_service:lost", "is a function, no FailSafe"),
    ],
)
def test_what_is_no_failsafe_is_wrong_usage(
    place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alert", "test", place]) == 2
    assert said in capsys.readouterr().err
