"""`failstop halt`, `plan` and `reset` on a store, with the service dead and alive."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import wait_until

from failstop import FailSafe, journal
from failstop._latch import State
from failstop.cli import main
from failstop.recovery import Recovery
from failstop.testing import CapturingSink

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = Recovery(probe_interval=0.1, consecutive=2)
WHO = ("--actor", "alice", "--reason", "a rehearsal")
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "failstop")


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    """The store of a service that is well, and gone."""
    path = tmp_path / "quiet.db"
    FailSafe("trading", store=path).close()
    return path


def state(store: Path) -> State:
    return journal.check(store).state


# Halt


def test_halt_stops_a_service_that_is_dead(quiet: Path, run: Run) -> None:
    done = run("halt", "--store", quiet, *WHO)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("halted: incident ")
    assert "halted by alice: a rehearsal" in done.stdout
    assert "a process of the service that has sinks sends it" in done.stdout
    assert state(quiet) is State.FAIL_SAFE


def test_halt_stops_a_service_that_runs(quiet: Path, run: Run) -> None:
    sink = CapturingSink()
    with FailSafe("trading", store=quiet, sinks=[sink], recovery=QUICK) as failsafe:
        assert failsafe.is_normal
        assert run("halt", "--store", quiet, *WHO).returncode == 0
        wait_until(lambda: not failsafe.is_normal and len(sink.alerts) == 1)


def test_halt_gives_json_for_machines(quiet: Path, capsys: Captured) -> None:
    assert main(["halt", "--store", str(quiet), *WHO, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["halted"], told["epoch"]) == (True, 1)
    assert told["cause"] == "halted by alice: a rehearsal"


@pytest.mark.parametrize("word", ["halt", "reset"])
def test_nobody_acts_without_saying_who_and_why(word: str, quiet: Path) -> None:
    assert main([word, "--store", str(quiet), "--actor", "alice"]) == 2
    assert main([word, "--store", str(quiet), "--reason", "why"]) == 2
    assert state(quiet) is State.NORMAL


@pytest.mark.parametrize("word", ["halt", "reset"])
@pytest.mark.parametrize("where", [[], ["--url", "http://127.0.0.1:1", "--store", "x.db"]])
def test_there_is_one_target(word: str, where: list[str], capsys: Captured) -> None:
    assert main([word, *where, *WHO]) == 2
    assert "give one of --store PATH and --url URL" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["halt", *WHO], ["reset", *WHO], ["plan"], ["status"]])
def test_a_store_that_cannot_be_read_is_exit_code_3(
    words: list[str], quiet: Path, capsys: Captured
) -> None:
    quiet.write_text("a letter")
    assert main([*words, "--store", str(quiet)]) == 3
    assert "is no SQLite file; keep" in capsys.readouterr().err
    assert main([*words, "--store", str(quiet), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["kind"] == "store_corrupt"


@pytest.mark.parametrize("words", [["halt", *WHO], ["reset", *WHO], ["plan"], ["status"]])
def test_a_store_that_is_not_there_is_wrong_usage(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--store", str(tmp_path / "nothing.db")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_a_person_says_can_hold_no_secret(quiet: Path) -> None:
    words = ["--actor", "alice", "--reason", "postgresql://u:hunter2@host/db is gone"]
    assert main(["halt", "--store", str(quiet), *words]) == 0
    assert "hunter2" not in "".join(row.body for row in journal.rows(quiet))


# Plan and reset


def test_plan_shows_that_nobody_has_looked(store: Path, run: Run) -> None:
    done = run("plan", "--store", store)
    assert done.returncode == 1
    assert "halted by alice: a rehearsal" in done.stdout
    assert "missing  observation: " in done.stdout
    assert "a reset would be refused; --force overrules" in done.stdout


def test_plan_gives_json_for_machines(store: Path, capsys: Captured) -> None:
    assert main(["plan", "--store", str(store), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["epoch"], told["allowed"], told["missing"]) == (1, False, ["observation"])


def test_there_is_nothing_to_reset_in_normal(quiet: Path, capsys: Captured) -> None:
    assert main(["plan", "--store", str(quiet)]) == 1
    assert "there is nothing to reset" in capsys.readouterr().out
    assert main(["reset", "--store", str(quiet), *WHO]) == 1
    assert "is not in fail-safe mode" in capsys.readouterr().err


def test_reset_without_force_is_refused_where_nobody_has_looked(
    store: Path, capsys: Captured
) -> None:
    assert main(["reset", "--store", str(store), *WHO]) == 1
    assert "recovery is not proven, these checks failed: observation" in capsys.readouterr().err
    assert main(["reset", "--store", str(store), *WHO, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["missing"]) == ("refused", ["observation"])
    assert state(store) is State.FAIL_SAFE


def test_a_forced_reset_shows_the_plan_and_journals_what_is_missing(store: Path, run: Run) -> None:
    done = run("reset", "--store", store, *WHO, "--force", "--yes")
    assert done.returncode == 0
    assert "missing  observation: " in done.stderr
    assert done.stdout.startswith("reset: incident ")
    assert "follows when its own checks find no failure" in done.stdout
    assert journal.rows(store)[-1].facts["failed"] == ["observation"]
    assert state(store) is State.NORMAL


def test_a_forced_reset_on_a_pipe_needs_yes(store: Path, run: Run) -> None:
    done = run("reset", "--store", store, *WHO, "--force")
    assert done.returncode == 2
    assert "without a terminal, --force needs --yes" in done.stderr
    assert state(store) is State.FAIL_SAFE


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_reset_names_the_epoch_that_it_saw(store: Path, epoch: int, capsys: Captured) -> None:
    words = ["--epoch", str(epoch), "--force", "--yes"]
    assert main(["reset", "--store", str(store), *WHO, *words]) == 1
    assert f"the reset saw epoch {epoch}, the store is at 1" in capsys.readouterr().err
    assert state(store) is State.FAIL_SAFE


# A terminal is asked first


def typed(answer: str, *words: object) -> tuple[int, str]:
    """Run `failstop` on a terminal and type `answer` where it asks."""
    controller, terminal = pty.openpty()
    command = [PROGRAM, *map(str, words)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while b"[y/N]" not in said:
            said += _read(controller)
        os.write(controller, answer.encode() + b"\n")
        while more := _read(controller):
            said += more
        process.wait(30)
    os.close(controller)
    return process.returncode, said.decode()


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 4096)
    except OSError:  # how Linux says that the other side has closed
        return b""


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, "FAIL_SAFE"), ("n", 130, "NORMAL")])
def test_halt_asks_on_a_terminal(answer: str, code: int, left: str, quiet: Path) -> None:
    done, said = typed(answer, "halt", "--store", quiet, *WHO)
    assert done == code
    assert "Stop the service?" in said
    assert state(quiet) == left


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, "NORMAL"), ("", 130, "FAIL_SAFE")])
def test_a_forced_reset_asks_on_a_terminal(answer: str, code: int, left: str, store: Path) -> None:
    done, said = typed(answer, "reset", "--store", store, *WHO, "--force")
    assert done == code
    assert "answer for it?" in said
    assert state(store) == left


def test_the_help_of_each_says_its_exit_codes(capsys: Captured) -> None:
    for word in ("halt", "plan", "reset", "status"):
        assert main([word, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "2 wrong usage, 3 " in said
