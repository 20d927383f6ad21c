"""`failstop scan` as a pipeline uses it: forms of output, exit codes, words on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from failstop.cli import main as failstop
from failstop.scan._command import main
from failstop.scan.rules import FINDERS

FALLBACK = """\
import psycopg2


def trades(dsn):
    try:
        connection = psycopg2.connect(dsn)
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM trades")
        return cursor.fetchall()
    except psycopg2.Error:
        return []
"""
CLEAN = FALLBACK.replace("return []", "raise")
MAYBE = """\
import os
from sqlalchemy import create_engine

url = os.environ.get("DATABASE_URL", "sqlite:///local.db")
is_server = url.startswith("postgresql")
engine = create_engine(url, connect_args={"connect_timeout": 2} if is_server else {})
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the current one, with one fallback in `app.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(FALLBACK)
    return tmp_path


def test_clean_code_exits_with_0(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "app.py").write_text(CLEAN)
    assert main(["app.py"]) == 0
    assert "no findings in 1 file, 12 lines" in capsys.readouterr().out


def test_a_finding_exits_with_1(tree: Path) -> None:
    assert main(["."]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["missing.py"],
        [".", "--format", "xml"],
        [".", "--rule", "FS099"],
        [".", "--baseline", "missing.json"],
        [".", "--config", "missing.toml"],
        [".", "--output", "no/such/folder.json"],
        [".", "--cache", "app.py"],
        [".", "--processes", "-1"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(
    tree: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert "Error: " in told.err
    assert "Traceback" not in told.err


def test_an_unexpected_error_exits_with_3_and_names_the_file(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FINDERS, "FS001", lambda context: iter([1 // 0]))
    assert main(["app.py"]) == 3
    told = capsys.readouterr().err
    assert told == "failstop scan: unexpected ZeroDivisionError, while reading app.py\n"


def test_the_group_of_commands_has_the_same_exit_codes(tree: Path) -> None:
    assert failstop(["scan", "app.py"]) == 1
    assert failstop(["scan", "missing.py"]) == 2
    (tree / "app.py").write_text(CLEAN)
    assert failstop(["scan", "app.py"]) == 0


def test_text_shows_place_way_reason_mend_and_page(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["app.py"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "app.py:10 FS001 high a database failure answered with data"
    said = dict(row.strip().split(maxsplit=1) for row in rows[:-1])
    assert list(said) == ["what", "way", "why", "mend", "docs"]
    source, handler, value = said["way"].split(" → ")
    assert (source[-8:], handler) == ("(line 6)", "except psycopg2.Error (line 10)")
    assert value == "answers an empty value (line 11)"
    assert "trades on it" in said["why"]
    assert "with_fail_fast_protection" in said["mend"]
    assert said["docs"] == "https://failstop.dev/scan/FS001"


def test_text_in_a_file_has_no_colours(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["app.py", "--output", "report.txt"])
    assert "\x1b" not in (tree / "report.txt").read_text("utf-8")


def test_text_survives_an_output_that_knows_ascii_only(tree: Path) -> None:
    ran = _run(tree, "app.py", PYTHONIOENCODING="ascii")
    assert ran.returncode == 1
    assert "\\u2192" in ran.stdout


def test_json_is_a_list_of_objects(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app.py", "--format", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["path"] == "app.py"
    assert (found["line"], found["end_line"]) == (10, 11)
    assert (found["rule"], found["confidence"]) == ("FS001", "high")
    assert "answered with an empty value" in found["message"]
    assert {"flow", "why", "mend", "url", "fingerprint"} <= set(found)


def test_json_of_clean_code_is_an_empty_list(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "app.py").write_text(CLEAN)
    assert main(["app.py", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_what_is_skipped_is_told_on_stderr_beside_a_machine_form(
    tree: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "broken.py").write_text("def (:\n")
    (tree / "book.ipynb").write_text("{}")
    main([".", "--format", form])
    told = capsys.readouterr().err
    assert "skipped book.ipynb: a notebook\n" in told
    assert "skipped broken.py" in told


def test_default_shows_high_and_medium_and_low_on_demand(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "app.py").write_text(MAYBE)
    assert main(["app.py"]) == 1
    assert "FS003 medium" in capsys.readouterr().out
    assert main(["app.py", "--confidence", "high"]) == 0
    assert main(["app.py", "--confidence", "low"]) == 1


def test_only_the_named_rules_are_shown(tree: Path) -> None:
    assert main(["app.py", "--rule", "FS003", "--rule", "FS009"]) == 0
    assert main(["app.py", "--rule", "FS003", "--rule", "FS001"]) == 1


def test_settings_of_the_project_hold_and_the_command_line_adds_to_them(tree: Path) -> None:
    (tree / "pyproject.toml").write_text('[tool.failstop.scan]\nexclude = ["old/*"]\n')
    (tree / "old").mkdir()
    (tree / "app.py").rename(tree / "old" / "app.py")
    (tree / "gen").mkdir()
    (tree / "gen" / "app.py").write_text(FALLBACK)
    assert main(["."]) == 1
    assert main([".", "--exclude", "gen/*"]) == 0


def test_a_wrong_setting_exits_with_2(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "pyproject.toml").write_text("[tool.failstop.scan]\nconfidenze = 'high'\n")
    assert main(["."]) == 2
    assert "knows no 'confidenze'" in capsys.readouterr().err


def test_it_runs_as_a_module(tree: Path) -> None:
    ran = _run(tree, "app.py", "--format", "json")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert json.loads(ran.stdout)[0]["rule"] == "FS001"


def test_many_files_in_many_processes_give_what_one_process_gives(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(80):
        (tree / f"part_{number:03}.py").write_text(FALLBACK if number % 3 else CLEAN)
    outputs = []
    for processes in ("1", "2"):
        main([".", "--format", "json", "--processes", processes])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 54


def test_a_large_tree_has_a_bar_on_a_terminal_and_an_interrupt_exits_with_130(
    tree: Path,
) -> None:
    slow = "import psycopg2\n" + "".join(
        FALLBACK.replace("import psycopg2", "").replace("trades(", f"trades_{n}(")
        for n in range(60)
    )
    for number in range(400):
        (tree / f"part_{number:03}.py").write_text(slow)
    terminal, end = pty.openpty()
    # a shell's background job ignores the interrupt, and its children would
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [sys.executable, "-m", "failstop.scan", ".", "--processes", "2"],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    ends: list[bytes] = []
    seen = _read_until(terminal, b"scanning")
    os.killpg(child.pid, signal.SIGINT)
    reading = threading.Thread(target=lambda: ends.append(_read_to_end(terminal)), daemon=True)
    reading.start()
    try:
        child.wait(40)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGINT)  # Python loses one that comes within a destructor
        child.wait(40)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    reading.join(20)
    seen += ends[0]
    assert child.returncode == 130
    assert b"Traceback" not in seen


def test_an_impatient_interrupt_leaves_no_process_behind(tree: Path) -> None:
    """The second one takes the command out of its wait for the workers."""
    slow = "import psycopg2\n" + "".join(
        FALLBACK.replace("import psycopg2", "").replace("trades(", f"trades_{n}(")
        for n in range(60)
    )
    for number in range(400):
        (tree / f"part_{number:03}.py").write_text(slow)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-m", "failstop.scan", ".", "--processes", "2"],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        _wait_until(lambda: _working(child.pid) >= 2)
        while child.poll() is None:
            os.killpg(child.pid, signal.SIGINT)
            time.sleep(0.1)
    _wait_until(lambda: not _group(child.pid))


def _working(leader: int) -> int:
    """How many workers are past their start, and so leave interrupts to their parent."""
    return sum(
        psutil.Process(pid).cpu_times().user > 1.0 for pid in _group(leader) if pid != leader
    )


def _group(leader: int) -> list[int]:
    """The living processes of a process group."""
    living = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.info["status"] != "zombie":
                living.append(process.pid)
    return living


def _wait_until(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.05)


def test_there_is_no_bar_without_a_terminal(tree: Path) -> None:
    for number in range(320):
        (tree / f"part_{number:03}.py").write_text("")
    ran = _run(tree, ".", "--processes", "1")
    assert ran.stderr == ""


def _run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "failstop.scan", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _read_until(terminal: int, word: bytes) -> bytes:
    seen, ends = b"", time.monotonic() + 60
    while word not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, ends - time.monotonic()))
        assert ready, f"{word!r} did not come: {seen!r}"
        seen += os.read(terminal, 4096)
    return seen


def _read_to_end(terminal: int) -> bytes:
    seen = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            os.close(terminal)
            return seen
        seen += part
