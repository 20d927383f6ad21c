"""The command line against the endpoints, over real HTTP: what it sends is what they take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from failstop import FailSafe, State
from failstop.asgi import FailStopMiddleware
from failstop.cli import main

TOKEN = "a-token-that-is-long-enough-for-a-command"

Capture = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(
    serve_asgi: Callable[[Any], httpx.Client], failsafe: FailSafe, tmp_path: Path, capsys: Capture
) -> Run:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return None

    protected = FailStopMiddleware(app, failsafe=failsafe, admin_token={"ops": TOKEN})
    url = str(serve_asgi(protected).base_url)
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    def ran(*arguments: str, is_entitled: bool = True) -> tuple[int, dict[str, Any]]:
        given = ["--token-file", str(token)] if is_entitled else []
        code = main([*arguments, "--url", url, "--json", *given])
        return code, json.loads(capsys.readouterr().out)

    return ran


def test_a_command_halts_plans_and_resets(run: Run, failsafe: FailSafe) -> None:
    who = ("--actor", "ann", "--reason", "a drill", "--yes")
    code, told = run("halt", *who)
    assert (code, told["result"], failsafe.state) == (0, "halted", State.FAIL_SAFE)
    assert failsafe.incident is not None
    assert failsafe.incident.actor == "ann (token ops)"
    code, plan = run("plan")
    assert (code, plan["allowed"], plan["epoch"]) == (0, True, 1)
    code, told = run("reset", *who, "--epoch", "0")
    assert code == 1
    assert not failsafe.is_normal
    code, told = run("reset", *who)
    assert (code, told["result"]) == (0, "reset")
    assert failsafe.state is State.NORMAL


def test_a_command_without_a_token_is_refused(run: Run, failsafe: FailSafe) -> None:
    code, _ = run("halt", "--actor", "ann", "--reason", "x", "--yes", is_entitled=False)
    assert code == 1
    assert failsafe.is_normal
