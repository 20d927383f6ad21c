"""The pre-commit hook: a manifest that pre-commit takes, and a command that runs."""

from __future__ import annotations

import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest
from pre_commit.clientlib import load_manifest  # type: ignore[import-untyped] # it has no types

ROOT = Path(__file__).parents[2]


def test_pre_commit_takes_the_manifest() -> None:
    (hook,) = load_manifest(ROOT / ".pre-commit-hooks.yaml")
    assert hook["id"] == "failstop-scan"
    assert hook["language"] == "python"
    assert hook["types"] == ["python"]


@pytest.mark.parametrize(("answer", "code"), [("return []", 1), ("raise", 0)])
def test_its_entry_runs_on_the_files_that_pre_commit_names(
    tmp_path: Path, answer: str, code: int
) -> None:
    (hook,) = load_manifest(ROOT / ".pre-commit-hooks.yaml")
    name, *arguments = shlex.split(hook["entry"])
    (tmp_path / "app.py").write_text(
        "import psycopg2\n\n\ndef trades(dsn):\n    try:\n"
        "        return psycopg2.connect(dsn).cursor().execute('SELECT 1').fetchall()\n"
        f"    except psycopg2.Error:\n        {answer}\n"
    )
    (tmp_path / "other.py").write_text("x = 1\n")
    program = Path(sysconfig.get_path("scripts")) / name
    ran = subprocess.run(
        [program, *arguments, *hook["args"], "app.py", "other.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
