"""`failstop status` and `failstop watch`: a service by its own report, and by its store alone."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from tests.serving import serving_wsgi

from failstop import FailSafe
from failstop.cli import main
from failstop.flask import FailStop
from failstop.recovery import Recovery

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "failstop")


@pytest.fixture
def failsafe(tmp_path: Path) -> Iterator[FailSafe]:
    """A service whose monitor looks all the time."""
    path = tmp_path / "alive.db"
    with FailSafe("trading", store=path, recovery=Recovery(probe_interval=0.5)) as made:
        yield made


@pytest.fixture
def url(failsafe: FailSafe) -> Iterator[str]:
    """Where that service serves."""
    app = Flask(__name__)
    FailStop(app, failsafe=failsafe)
    with serving_wsgi(app) as client:
        yield str(client.base_url)


def test_a_service_that_is_well_is_exit_code_0(url: str, run: Run) -> None:
    done = run("status", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OPERATIONAL  trading\n")
    assert "state     NORMAL, epoch 0" in done.stdout
    assert "store: pass, was read and written (" in done.stdout


def test_a_service_that_is_halted_is_exit_code_1_with_what_to_do(
    url: str, failsafe: FailSafe, run: Run
) -> None:
    failsafe.halt(actor="alice", reason="a rehearsal")
    done = run("status", "--url", f"{url}/")
    assert done.returncode == 1
    assert "epoch 1" in done.stdout
    assert "halted by alice: a rehearsal" in done.stdout
    assert "next      1. reset with actor and reason when the cause" in done.stdout


def test_status_gives_the_services_own_report_as_json(
    url: str, failsafe: FailSafe, capsys: Captured
) -> None:
    assert main(["status", "--url", url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["service"], told["tradingSafety"]["safe"]) == ("trading", True)
    failsafe.halt(actor="alice", reason="a rehearsal")
    assert main(["status", "--url", url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["failSafeMode"]["epoch"] == 1


def test_the_store_of_a_dead_service_says_what_it_holds(store: Path, run: Run) -> None:
    done = run("status", "--store", store)
    assert done.returncode == 1
    assert done.stdout.startswith("CRITICAL  trading\n")
    assert "state     FAIL_SAFE, epoch 1" in done.stdout
    assert "halted by alice: a rehearsal" in done.stdout


def test_the_store_of_a_dead_service_is_never_operational(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "quiet.db"
    FailSafe("trading", store=path).close()
    assert main(["status", "--store", str(path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("CRITICAL  trading\n")
    assert "the last observation is too old or missing" in said


def test_the_store_gives_the_same_json_as_the_service(
    url: str, failsafe: FailSafe, tmp_path: Path, capsys: Captured
) -> None:
    main(["status", "--url", url, "--json"])
    theirs = json.loads(capsys.readouterr().out)
    main(["status", "--store", str(tmp_path / "alive.db"), "--json"])
    assert json.loads(capsys.readouterr().out).keys() == theirs.keys()


def test_a_service_that_is_not_there_is_exit_code_3(capsys: Captured) -> None:
    assert main(["status", "--url", "http://127.0.0.1:1"]) == 3
    assert "cannot be reached (ConnectionRefusedError); use --store" in capsys.readouterr().err
    assert main(["status", "--url", "http://127.0.0.1:1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["kind"] == "unreachable"


def test_another_service_is_exit_code_3(capsys: Captured) -> None:
    with serving_wsgi(Flask(__name__)) as client:
        assert main(["status", "--url", str(client.base_url)]) == 3
    assert "no status of failstop" in capsys.readouterr().err


@pytest.mark.parametrize(
    "report",
    [
        {"failSafeMode": {}, "status": "operational"},
        {"failSafeMode": {}, "status": "operational", "tradingSafety": {"safe": False}},
        {"failSafeMode": {}, "status": "operational", "tradingSafety": {"safe": "yes"}},
        {"failSafeMode": {}, "status": "wonderful", "tradingSafety": {"safe": True}},
        {"failSafeMode": {}, "tradingSafety": [1], "checks": {"a": 1}, "inDoubt": [2], "alerts": 3},
    ],
)
def test_a_report_that_does_not_say_it_is_well_is_not(report: Any, capsys: Captured) -> None:
    app = Flask(__name__)
    app.add_url_rule("/api/system/status", view_func=lambda: report)
    with serving_wsgi(app) as client:
        assert main(["status", "--url", str(client.base_url)]) == 1
    assert not capsys.readouterr().out.startswith("OPERATIONAL  trading")


def test_what_a_service_says_can_neither_leak_nor_move_the_cursor(capsys: Captured) -> None:
    app = Flask(__name__)
    report = {"failSafeMode": {"state": "\x1b[2Jpostgresql://u:hunter2@host/db"}}
    app.add_url_rule("/api/system/status", view_func=lambda: report)
    with serving_wsgi(app) as client:
        assert main(["status", "--url", str(client.base_url)]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "hunter2" not in said


# Watch


def lines_of(process: subprocess.Popen[str], until: str) -> list[str]:
    """Read lines until one has `until` in it."""
    assert process.stdout is not None
    found: list[str] = []
    limit = time.monotonic() + 30
    while not (found and until in found[-1]):
        assert time.monotonic() < limit
        found.append(process.stdout.readline())
        assert found[-1], "it has ended"
    return found


@contextlib.contextmanager
def watching(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [PROGRAM, "watch", "--interval", "0.1", *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            _, noise = process.communicate(timeout=30)
            assert (process.returncode, noise) == (0, "")
        finally:
            process.kill()


def test_watch_on_a_pipe_writes_a_line_for_each_look(url: str, failsafe: FailSafe) -> None:
    with watching("--url", url) as process:
        lines_of(process, "operational")
        failsafe.halt(actor="alice", reason="a rehearsal")
        lines_of(process, "Halted by an operator")


def test_watch_as_json_is_a_report_a_line(store: Path) -> None:
    with watching("--store", store, "--json") as process:
        told = json.loads(lines_of(process, "FAIL_SAFE")[-1])
    assert told["failSafeMode"]["epoch"] == 1


def test_watch_goes_on_where_nothing_can_be_read(store: Path) -> None:
    whole = store.read_bytes()
    with watching("--store", store, "--json") as process:
        lines_of(process, "FAIL_SAFE")
        store.write_text("a letter")
        told = json.loads(lines_of(process, "unknown")[-1])
        assert told["kind"] == "store_corrupt"
        store.write_bytes(whole)
        lines_of(process, "FAIL_SAFE")


def test_watch_on_a_terminal_draws_and_leaves_it_as_it_was(store: Path) -> None:
    controller, terminal = pty.openpty()
    command = [PROGRAM, "watch", "--store", str(store)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while b"halted by alice" not in said:
            said += os.read(controller, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how Linux says that the other side has closed
            while more := os.read(controller, 4096):
                said += more
        process.wait(30)
    os.close(controller)
    assert process.returncode == 0
    assert said.rfind(b"\x1b[?25h") > said.rfind(b"\x1b[?25l")  # the cursor is shown again
    assert b"Traceback" not in said
