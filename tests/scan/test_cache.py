"""The cache: the same bytes are read once, and nothing wrong in it is believed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from failstop.scan import Finding, Report, Settings, scan_paths
from failstop.scan._context import Context
from failstop.scan.rules import FINDERS

FALLBACK = """\
import psycopg2


def trades(dsn):
    try:
        return psycopg2.connect(dsn).cursor().execute("SELECT 1").fetchall()
    except psycopg2.Error:
        return []
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(FALLBACK)
    (tmp_path / "code" / "odd.py").write_text("def (:\n")
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that a rule has read."""
    names: list[str] = []
    rule = FINDERS["FS001"]

    def counted(context: Context) -> Iterator[Finding]:
        names.append(context.name)
        return rule(context)

    monkeypatch.setitem(FINDERS, "FS001", counted)
    return names


def scan(tree: Path, code: str = "code") -> Report:
    return scan_paths([tree / code], Settings(cache=tree / "cache"))


def test_what_was_seen_is_not_read_again_and_gives_the_same(tree: Path, reads: list[str]) -> None:
    first, second = scan(tree), scan(tree)
    assert reads == ["app.py"]
    assert first == second
    assert (len(second.findings), len(second.skipped)) == (1, 1)


def test_a_touched_file_is_not_read_again(tree: Path, reads: list[str]) -> None:
    scan(tree)
    (tree / "code" / "app.py").touch()
    scan(tree)
    assert reads == ["app.py"]


def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(
    tree: Path, reads: list[str]
) -> None:
    file = tree / "code" / "app.py"
    scan(tree)
    facts = file.stat()
    file.write_text(FALLBACK.replace("return []", "raise    "))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file.stat().st_size == facts.st_size
    assert scan(tree).findings == []
    assert reads == ["app.py", "app.py"]


def test_a_moved_tree_is_known_and_shown_at_its_new_place(tree: Path, reads: list[str]) -> None:
    scan(tree)
    (tree / "code").rename(tree / "moved")
    (found,) = scan(tree, "moved").findings
    assert found.path == str(tree / "moved" / "app.py")
    assert reads == ["app.py"]


def test_the_same_bytes_in_another_place_are_read_for_themselves(tree: Path) -> None:
    fake = 'import os, psycopg2\nENV = os.environ["ENV"]\n\n\ndef trades(cursor):\n'
    fake += '    if ENV == "development":\n        return [{"id": 1}]\n'
    fake += '    cursor.execute("SELECT 1")\n    return cursor.fetchall()\n'
    (tree / "code" / "app.py").write_text(fake)
    (tree / "code" / "tests").mkdir()
    (tree / "code" / "tests" / "double.py").write_text(fake)
    for _ in range(2):
        assert [Path(each.path).name for each in scan(tree).findings] == ["app.py"]


def test_settings_apply_to_what_is_cached(tree: Path) -> None:
    scan(tree)
    narrow = Settings(cache=tree / "cache", rules=frozenset({"FS009"}))
    assert scan_paths([tree / "code"], narrow).findings == []
    assert len(scan(tree).findings) == 1


def test_another_version_of_the_finder_reads_all_again(
    tree: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tree)
    monkeypatch.setattr("failstop.scan._cache._version", lambda: "another")
    scan(tree)
    assert reads == ["app.py", "app.py"]


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "binary", "foreign", "gone"])
def test_a_damaged_cache_is_worked_out_again(tree: Path, reads: list[str], damage: str) -> None:
    first = scan(tree)
    file = tree / "cache" / "scan.cache"
    data = file.read_bytes()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(data[:-20])
        case "changed":
            assert b'"FS001"' in data
            file.write_bytes(data.replace(b'"FS001"', b'"FS009"'))
        case "binary":
            file.write_bytes(b"\xff\xfe\x00" * 50)
        case "foreign":
            file.write_text(json.dumps({"version": 1}))
        case "gone":
            file.unlink()
    assert scan(tree) == first
    assert scan(tree) == first
    assert reads == ["app.py", "app.py"]


def test_a_scan_of_a_part_keeps_what_is_known_of_the_rest(tree: Path, reads: list[str]) -> None:
    scan(tree)
    (tree / "part").mkdir()
    (tree / "part" / "new.py").write_text(FALLBACK + "\n")
    scan(tree, "part")
    scan(tree)
    scan(tree, "part")
    assert reads == ["app.py", "new.py"]


def test_no_partial_file_is_left(tree: Path) -> None:
    scan(tree)
    assert [each.name for each in (tree / "cache").iterdir()] == ["scan.cache"]
