"""`--fix`: what it mends is clean afterwards, and not a byte besides is changed."""

from __future__ import annotations

import ast
import difflib
import stat
from pathlib import Path

import pytest

from failstop.scan._command import main

GUARDED = """\
# The reports of the desk.
import logging

from failstop import Database, FailSafe

logger = logging.getLogger(__name__)
failsafe = FailSafe("reports")
database = Database.connect("postgresql://localhost/trading", failsafe)


def freeze(day):
    try:
        database.run_once(f"freeze-{day}", work)   # two   blanks   stay
    # the desk asks again tomorrow
    except Exception as error:
        notify(error)


def trades( ):
    try:
        return database.query('SELECT * FROM trades')
    except:
        return []
"""
DEFAULT = """\
import os

from sqlalchemy import create_engine

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///local.db")
IS_SERVER = DATABASE_URL.startswith("postgresql")
engine = create_engine(DATABASE_URL, connect_args={"connect_timeout": 2} if IS_SERVER else {})
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "app.py"


def changes(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_swallowed_critical_error_is_raised_again(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(GUARDED)
    assert main(["app.py"]) == 1
    assert main(["app.py", "--fix"]) == 0
    assert changes(GUARDED, file.read_text()) == [
        "+ from failstop.errors import CriticalError",
        "+     except CriticalError:",
        "+         raise",
        "+     except CriticalError:",
        "+         raise",
    ]
    assert "2 mended" in capsys.readouterr().err


def test_what_was_mended_does_what_it_did_but_for_critical_errors(file: Path) -> None:
    file.write_text(GUARDED)
    main(["app.py", "--fix"])
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            first = node.handlers.pop(0)
            assert ast.unparse(first) == "except CriticalError:\n    raise"
    del tree.body[2]
    assert ast.dump(tree) == ast.dump(ast.parse(GUARDED))


def test_mending_twice_is_mending_once(file: Path) -> None:
    file.write_text(GUARDED)
    main(["app.py", "--fix"])
    once = file.read_bytes()
    assert main(["app.py", "--fix"]) == 0
    assert file.read_bytes() == once


@pytest.mark.parametrize(
    ("imported", "name"),
    [
        ("from failstop import CriticalError, Database, FailSafe", "CriticalError"),
        ("from failstop import CriticalError as Critical, Database, FailSafe", "Critical"),
    ],
)
def test_an_import_that_is_there_is_used(file: Path, imported: str, name: str) -> None:
    text = GUARDED.replace("from failstop import Database, FailSafe", imported)
    file.write_text(text)
    assert main(["app.py", "--fix"]) == 0
    assert changes(text, file.read_text()) == [f"+     except {name}:", "+         raise"] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("    ", "\t"),
        ("reports of the desk", "reports of the bücher"),
        ("return []\n", "return []"),
    ],
)
def test_newlines_indents_and_encoding_stay(file: Path, old: str, new: str) -> None:
    text = GUARDED.replace(old, new)
    file.write_bytes(text.encode())
    assert main(["app.py", "--fix"]) == 0
    after = file.read_bytes().decode()
    assert all(line[0] == "+" for line in changes(text, after))
    assert after.count("\r\n") == (after.count("\n") if new == "\r\n" else 0)


def test_an_encoding_of_its_own_stays(file: Path) -> None:
    text = "# -*- coding: latin-1 -*-\n# é\n" + GUARDED
    file.write_bytes(text.encode("latin-1"))
    assert main(["app.py", "--fix"]) == 0
    assert file.read_bytes().decode("latin-1").startswith("# -*- coding: latin-1 -*-\n# é\n")


def test_the_mode_of_the_file_stays_and_nothing_is_left_beside_it(file: Path) -> None:
    file.write_text(GUARDED)
    file.chmod(0o750)
    main(["app.py", "--fix"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    assert list(file.parent.iterdir()) == [file]


LEFT = """\
from contextlib import suppress

from failstop import CriticalError, Database, FailSafe

database = Database.connect("postgresql://localhost/trading", FailSafe("reports"))


def freeze():
    with suppress(Exception):
        database.run_once("a", work)


def thaw():
    try:
        database.run_once("b", work)
    except (CriticalError, ValueError):
        notify()


async def close():
    try:
        database.run_once("c", work)
    except* Exception:
        notify()
"""


def test_what_needs_a_decision_is_left_alone(file: Path) -> None:
    file.write_text(LEFT)
    assert main(["app.py", "--fix"]) == 1
    assert file.read_text() == LEFT


def test_a_handler_around_an_unguarded_driver_is_left_alone(file: Path) -> None:
    text = GUARDED.replace("import logging", "import logging\nimport psycopg2").replace(
        "database.query(", "psycopg2.connect('').cursor().execute("
    )
    file.write_text(text)
    assert main(["app.py", "--fix"]) == 1
    assert file.read_text() == text


def test_a_module_with_a_critical_error_of_its_own_is_left_alone(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GUARDED + "\n\nclass CriticalError(Exception): ...\n"
    file.write_text(text)
    assert main(["app.py", "--fix"]) == 1
    assert file.read_text() == text
    assert "not mended app.py: its CriticalError is not failstop's" in capsys.readouterr().err


def test_what_is_allowed_or_known_is_left_alone(file: Path) -> None:
    allowed = GUARDED.replace(
        "except Exception as error:",
        "except Exception as error:  # failstop: allow[FS002] the desk is told",
    )
    file.write_text(allowed)
    main(["app.py", "--write-baseline", "known.json"])
    assert main(["app.py", "--fix", "--baseline", "known.json"]) == 0
    assert file.read_text() == allowed


@pytest.mark.parametrize(
    ("read", "mended"),
    [
        ('os.environ.get("DATABASE_URL", "sqlite:///local.db")', 'os.environ["DATABASE_URL"]'),
        ('os.getenv("DATABASE_URL", "sqlite:///local.db")', 'os.environ["DATABASE_URL"]'),
        ('environ.get("DATABASE_URL", "sqlite:///local.db")', 'environ["DATABASE_URL"]'),
    ],
)
def test_a_sqlite_default_is_taken_away(file: Path, read: str, mended: str) -> None:
    text = DEFAULT.replace('os.environ.get("DATABASE_URL", "sqlite:///local.db")', read)
    if read.startswith("environ"):
        text = text.replace("import os\n", "from os import environ\n")
    file.write_text(text)
    assert main(["app.py"]) == 1
    assert main(["app.py", "--fix"]) == 0
    assert file.read_text() == text.replace(read, mended)


def test_a_default_that_is_no_database_stays(file: Path) -> None:
    text = DEFAULT.replace("DATABASE_URL = ", "SIZE, DATABASE_URL = os.getenv('SIZE', '5'), ", 1)
    file.write_text(text)
    assert main(["app.py", "--fix"]) == 0
    mended = text.replace(
        'os.environ.get("DATABASE_URL", "sqlite:///local.db")', 'os.environ["DATABASE_URL"]'
    )
    assert file.read_text() == mended != text


def test_another_default_is_left_alone(file: Path) -> None:
    text = DEFAULT.replace('"sqlite:///local.db"', "FALLBACK").replace(
        "DATABASE_URL =", 'FALLBACK = "sqlite:///local.db"\nDATABASE_URL =', 1
    )
    file.write_text(text)
    main(["app.py", "--fix"])
    assert file.read_text() == text


def test_what_a_tool_cannot_mend_does_not_hold_up_the_rest_of_the_file(file: Path) -> None:
    swap = """

def open_store():
    try:
        database.engine.connect().close()
        return DatabaseStore()
    except Exception:
        return MemoryStore()
"""
    file.write_text(GUARDED + swap)
    main(["app.py", "--fix"])
    assert file.read_text().count("except CriticalError:") >= 2


def test_a_finding_of_another_rule_is_left_to_a_person(file: Path) -> None:
    text = (
        "import psycopg2\n\n\ndef trades(dsn):\n    try:\n"
        "        return psycopg2.connect(dsn).cursor().execute('SELECT 1').fetchall()\n"
        "    except psycopg2.Error:\n        return []\n"
    )
    file.write_text(text)
    assert main(["app.py", "--fix"]) == 1
    assert file.read_text() == text
