"""The baseline: what is known stays known while the code around it moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from failstop.scan._command import main

FALLBACK = """\
import psycopg2


def trades(dsn):
    try:
        return psycopg2.connect(dsn).cursor().execute("SELECT 1").fetchall()
    except psycopg2.Error:
        return []
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the current one, whose only finding is in its baseline."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(FALLBACK)
    assert main(["src", "--write-baseline", "known.json"]) == 0
    return tmp_path


def check(*paths: str) -> int:
    return main([*paths, "--baseline", "known.json"])


def test_a_known_finding_is_not_shown(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["src"]) == 1
    capsys.readouterr()
    assert check("src") == 0
    assert "no findings, 1 in the baseline" in capsys.readouterr().out


def test_it_stays_known_when_lines_are_added_above_it(tree: Path) -> None:
    moved = FALLBACK.replace("def trades", "LIMIT = 5\n\n\ndef limit():\n    ...\n\n\ndef trades")
    (tree / "src" / "app.py").write_text(moved)
    assert main(["src"]) == 1
    assert check("src") == 0


def test_it_stays_known_when_it_is_indented_anew(tree: Path) -> None:
    (tree / "src" / "app.py").write_text(FALLBACK.replace("    ", "  "))
    assert check("src") == 0


def test_it_stays_known_from_another_directory_and_by_another_path(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(str(tree / "src")) == 0
    assert check("src/app.py") == 0
    monkeypatch.chdir(tree / "src")
    assert main(["app.py", "--baseline", "../known.json"]) == 0


def test_it_stays_known_through_a_link_to_the_tree(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(tree)
    assert check(str(link / "src")) == 0


def test_a_second_one_of_the_same_shape_is_new(tree: Path) -> None:
    twice = FALLBACK + FALLBACK.partition("\n\n\n")[2].replace("trades", "orders")
    (tree / "src" / "app.py").write_text(twice)
    assert check("src") == 1


def test_the_same_code_twice_in_one_function_is_known_once(tree: Path) -> None:
    body = FALLBACK.partition("(dsn):\n")[2]
    (tree / "src" / "app.py").write_text(FALLBACK + body)
    assert check("src") == 1


def test_the_same_code_in_another_file_is_new(tree: Path) -> None:
    (tree / "src" / "more.py").write_text(FALLBACK)
    assert check("src") == 1


def test_a_changed_handler_is_new(tree: Path) -> None:
    (tree / "src" / "app.py").write_text(FALLBACK.replace("psycopg2.Error", "Exception"))
    assert check("src") == 1


def test_the_project_may_name_its_baseline(tree: Path) -> None:
    (tree / "pyproject.toml").write_text('[tool.failstop.scan]\nbaseline = "known.json"\n')
    assert main(["src"]) == 0


def test_it_is_sorted_and_holds_no_line_number(tree: Path) -> None:
    engine = 'from sqlalchemy import create_engine\n\nengine = create_engine("postgresql://h/d")\n'
    (tree / "src" / "a.py").write_text(engine + FALLBACK)
    main(["src", "--write-baseline", "known.json"])
    entries = json.loads((tree / "known.json").read_text())["findings"]
    rows = [(each["path"], each["rule"], each["fingerprint"]) for each in entries]
    assert [row[:2] for row in rows] == [
        ("src/a.py", "FS001"),
        ("src/a.py", "FS009"),
        ("src/app.py", "FS001"),
    ]
    assert rows == sorted(rows)
    assert set(entries[0]) == {"path", "rule", "fingerprint"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"version": 1}', '{"version": 2, "findings": []}']
)
def test_a_file_that_is_no_baseline_of_ours_is_refused(
    tree: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "known.json").write_text(text)
    assert check("src") == 2
    assert "--write-baseline" in capsys.readouterr().err
