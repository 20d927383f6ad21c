"""`failstop halt`, `plan` and `reset` over HTTP, at a real service with a token."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from tests.serving import serving_wsgi

from failstop import FailSafe, journal
from failstop.cli import main
from failstop.flask import FailStop
from failstop.recovery import Recovery

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

TOKEN = "the-token-of-alice-" + "7" * 32
WHO = ("--actor", "alice", "--reason", "a rehearsal")


@pytest.fixture
def failsafe(tmp_path: Path) -> Iterator[FailSafe]:
    recovery = Recovery(probe_interval=0.2)
    with FailSafe("trading", store=tmp_path / "service.db", recovery=recovery) as made:
        yield made


@pytest.fixture
def url(failsafe: FailSafe) -> Iterator[str]:
    app = Flask(__name__)
    FailStop(app, failsafe=failsafe, admin_token={"alice": TOKEN})
    with serving_wsgi(app) as client:
        yield str(client.base_url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file with the token."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def in_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILSTOP_ADMIN_TOKEN", TOKEN)


def test_halt_and_reset_with_a_token_from_a_file(
    url: str, failsafe: FailSafe, file: Path, tmp_path: Path, run: Run
) -> None:
    done = run("halt", "--url", url, "--token-file", file, *WHO)
    assert done.returncode == 0
    assert done.stdout.startswith("halted: incident ")
    assert not failsafe.is_normal
    done = run("plan", "--url", url, "--token-file", file)
    assert done.returncode == 0
    assert "a reset by a person would be taken" in done.stdout
    done = run("reset", "--url", url, "--token-file", file, *WHO)
    assert done.returncode == 0
    assert "reset: epoch 1" in done.stdout
    assert failsafe.incident is None
    assert TOKEN not in done.stdout + done.stderr
    halted = next(row for row in journal.rows(tmp_path / "service.db") if "alice" in row.body)
    assert halted.facts["actor"] == "alice (token alice)"


@pytest.mark.usefixtures("in_variable")
def test_a_token_from_the_environment_gives_json_for_machines(url: str, capsys: Captured) -> None:
    assert main(["halt", "--url", url, *WHO, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch"] == 1
    assert main(["plan", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["allowed"] is True
    assert main(["reset", "--url", url, *WHO, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "NORMAL"


@pytest.mark.parametrize("words", [["halt", *WHO], ["plan"], ["reset", *WHO]])
@pytest.mark.parametrize("token", [None, "another-token-" + "8" * 32])
def test_without_the_right_token_nothing_is_done(
    token: str | None,
    words: list[str],
    url: str,
    failsafe: FailSafe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    if token is not None:
        monkeypatch.setenv("FAILSTOP_ADMIN_TOKEN", token)
    assert main([*words, "--url", url]) == 1
    said = capsys.readouterr().err
    assert "wants a token that it knows; see --token-file" in said
    assert token is None or token not in said
    assert failsafe.is_normal


@pytest.mark.usefixtures("in_variable")
def test_a_service_without_tokens_says_how_it_gets_one(capsys: Captured) -> None:
    app = Flask(__name__)
    with FailSafe("trading") as failsafe:
        FailStop(app, failsafe=failsafe)
        with serving_wsgi(app) as client:
            assert main(["halt", "--url", str(client.base_url), *WHO, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "not_configured"
    assert "give it an admin token" in told["error"]


@pytest.mark.usefixtures("in_variable")
def test_a_reset_of_another_epoch_is_refused(
    url: str, failsafe: FailSafe, capsys: Captured
) -> None:
    failsafe.halt(actor="alice", reason="a rehearsal")
    assert main(["reset", "--url", url, *WHO, "--epoch", "0", "--force", "--yes"]) == 1
    assert "You saw epoch 0, it is 1 now" in capsys.readouterr().err
    assert not failsafe.is_normal


@pytest.mark.usefixtures("in_variable")
def test_a_reset_that_is_refused_says_what_is_missing_and_force_overrules_it(
    url: str, failsafe: FailSafe, capsys: Captured
) -> None:
    failsafe.check(lambda: False)
    failsafe.halt(actor="alice", reason="a rehearsal")
    assert main(["plan", "--url", url]) == 1
    assert "missing  <lambda>: " in capsys.readouterr().out
    assert main(["reset", "--url", url, *WHO]) == 1
    assert "these checks failed: <lambda>" in capsys.readouterr().err
    assert not failsafe.is_normal
    assert main(["reset", "--url", url, *WHO, "--force", "--yes"]) == 0
    assert failsafe.is_normal


@pytest.mark.usefixtures("in_variable")
def test_what_a_service_that_is_gone_did_is_not_guessed(capsys: Captured) -> None:
    assert main(["halt", "--url", "http://127.0.0.1:1", *WHO]) == 3
    assert "it may have acted, look at its status" in capsys.readouterr().err


def test_a_token_is_no_argument() -> None:
    """The words of a program are everybody's to read on a host."""
    assert main(["halt", "--url", "http://127.0.0.1:1", *WHO, "--token", TOKEN]) == 2
