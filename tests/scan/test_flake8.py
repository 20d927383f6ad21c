"""The findings inside of real flake8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FALLBACK = """\
import psycopg2


def trades(dsn):
    try:
        return psycopg2.connect(dsn).cursor().execute("SELECT 1").fetchall()
    except psycopg2.Error:
        return []
"""


def flake8(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "flake8", "--isolated", *arguments, "app.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_flake8_loads_the_plugin_and_shows_its_findings(tmp_path: Path) -> None:
    ran = flake8(tmp_path, FALLBACK)
    assert ran.stdout.startswith("app.py:7:5: FS001 a failure of psycopg2.connect")
    assert (ran.returncode, len(ran.stdout.splitlines()), ran.stderr) == (1, 1, "")


def test_flake8_knows_the_plugin_by_name() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "flake8", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "failstop: " in ran.stdout


def test_flake8_selects_and_ignores_as_it_does_its_own(tmp_path: Path) -> None:
    assert flake8(tmp_path, FALLBACK, "--extend-ignore=FS001").returncode == 0
    assert flake8(tmp_path, FALLBACK, "--select=FS0").returncode == 1
    noqa = FALLBACK.replace("psycopg2.Error:", "psycopg2.Error:  # noqa: FS001")
    assert flake8(tmp_path, noqa).returncode == 0


def test_an_allow_comment_holds_in_flake8(tmp_path: Path) -> None:
    text = FALLBACK.replace("Error:", "Error:  # failstop: allow[FS001] a shop window")
    assert flake8(tmp_path, text).returncode == 0


def test_what_cannot_be_followed_is_no_crash_of_flake8(tmp_path: Path) -> None:
    deep = FALLBACK + "x = a" + ".b(1)" * 900 + "  # noqa: E501\n"
    ran = flake8(tmp_path, deep, "--select=FS")
    assert "Traceback" not in ran.stderr
    assert "failstop" not in ran.stderr
