"""The command line: words in, sentences and exit codes out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import click
import pytest

import failstop.cli
import failstop.cli._commands
from failstop.cli import main
from failstop.cli._commands import COMMANDS
from failstop.errors import ConfigurationError, DatabaseUnavailableError, ResetRefusedError


def test_explain_says_what_a_sqlstate_means_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "57P01"]) == 0
    said = capsys.readouterr().out
    assert "57P01: admin_shutdown" in said
    assert "CRITICAL, trips the service" in said
    assert "action   " in said


def test_explain_says_that_a_unique_violation_trips_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "23505"]) == 0
    assert "APPLICATION, trips nothing" in capsys.readouterr().out


def test_explain_gives_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "40001", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["sqlstate"]) == ("conflict", "40001")


def test_explain_of_a_code_that_nobody_knows_is_critical(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "99XYZ"]) == 0
    assert "CRITICAL" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["explain", "no code"], ["explain"], ["nothing"], ["explain", "57P01", "--nope"]]
)
def test_wrong_words_are_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage: failstop" in capsys.readouterr().err


def test_no_words_show_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert all(f"\n  {name} " in said for name in COMMANDS)


def test_help_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out


def leaves() -> list[tuple[str, ...]]:
    """Return the words of every command."""
    found: list[tuple[str, ...]] = []

    def walk(group: click.Group, words: tuple[str, ...]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                walk(command, (*words, name))
            else:
                found.append((*words, name))

    walk(failstop.cli._commands.failstop, ())
    return found


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_speaks_to_machines_and_says_its_exit_codes(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--json" in said or "json" in said.partition("--format")[2]
    assert "Exit code" in said


def test_scan_answers_through_the_same_command(tmp_path: object) -> None:
    assert main(["scan", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("say it right"), 2),
        (DatabaseUnavailableError("no database URL"), 1),
        (ResetRefusedError("recovery is not proven"), 1),
    ],
)
def test_what_failstop_raises_becomes_a_sentence_and_a_code(
    error: Exception, code: int, raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error)
    assert main(["broken"]) == code
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ConfigurationError, DatabaseUnavailableError])
def test_what_failstop_raises_is_made_safe(
    kind: Callable[[str], Exception], raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(kind("cannot use postgresql://user:hunter2@host/db"))
    main(["broken"])
    said = capsys.readouterr().err
    assert "cannot use [url]" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("words", [[], ["explain"], ["journal", "show"]])
def test_a_word_that_holds_a_secret_is_not_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a URL in the wrong place: what a terminal shows may be kept by a build's log."""
    assert main([*words, "postgresql://user:hunter2@host/db"]) == 2
    assert "hunter2" not in capsys.readouterr().err


def test_an_interrupt_is_exit_code_130(raising: Raising) -> None:
    raising(KeyboardInterrupt())
    assert main(["broken"]) == 130


def test_an_unexpected_error_shows_its_class_and_never_its_text(
    raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(RuntimeError("postgresql://user:secret@host/db"))
    assert main(["broken"]) == 3
    said = capsys.readouterr().err
    assert "RuntimeError" in said
    assert "secret" not in said


def test_traceback_shows_where_an_unexpected_error_came_from(
    raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(RuntimeError("here"))
    assert main(["--traceback", "broken"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted(failstop.cli.EXTRAS))
def test_a_missing_extra_is_named(
    module: str, raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ModuleNotFoundError("gone", name=f"{module}.inner"))
    assert main(["broken"]) == 2
    extra = failstop.cli.EXTRAS[module]
    assert f"this needs {module}: pip install 'failstop[{extra}]'" in capsys.readouterr().err


def test_a_missing_module_that_no_extra_brings_is_a_broken_installation(
    raising: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ModuleNotFoundError("gone", name="failstop.nothing"))
    assert main(["broken"]) == 3
    assert "failstop.nothing is missing" in capsys.readouterr().err


def test_without_click_there_is_a_sentence_and_no_traceback() -> None:
    program = "import sys; sys.modules['click'] = None; from failstop.cli import run; run()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("needs click: pip install 'failstop[cli]'")
    assert "Traceback" not in done.stderr


Raising = Callable[[BaseException], None]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Give a function that adds the command `broken`, which raises."""

    def add(error: BaseException) -> None:
        @click.command("broken")
        def broken() -> None:
            raise error

        module = ModuleType("a_broken_command")
        monkeypatch.setattr(module, "broken", broken, raising=False)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "broken", f"{module.__name__}:broken")

    return add
