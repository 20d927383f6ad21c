"""`[tool.failstop.scan]`: read from the nearest pyproject.toml, checked word by word."""

from __future__ import annotations

from pathlib import Path

import pytest

from failstop.errors import ConfigurationError
from failstop.scan import RULES, Confidence, Settings

WHOLE = """\
[tool.failstop.scan]
rules = ["FS001", "FS009"]
confidence = "low"
exclude = ["migrations/*"]
baseline = "known.json"
cache = ".cache/failstop"
processes = 3
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(text, "utf-8")
    return file


def test_every_setting_is_read_and_paths_are_beside_the_file(tmp_path: Path) -> None:
    assert Settings.read(written(tmp_path, WHOLE)) == Settings(
        rules=frozenset({"FS001", "FS009"}),
        confidence=Confidence.LOW,
        exclude=("migrations/*",),
        baseline=tmp_path / "known.json",
        cache=tmp_path / ".cache/failstop",
        processes=3,
    )


def test_the_defaults_are_all_rules_at_high_and_medium() -> None:
    settings = Settings()
    assert settings.rules == frozenset(RULES)
    assert len(RULES) == 12
    assert settings.confidence is Confidence.MEDIUM


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("rule = ['FS001']", "knows no 'rule'; it takes baseline, cache, confidence, exclude"),
        ("rules = ['FS013']", "there is no rule 'FS013'"),
        ("rules = 'FS001'", "rules is 'FS001'; it is a list of texts"),
        ("rules = [1]", "rules is 1; it is a text"),
        ("confidence = 'sure'", "confidence is 'sure'; it is high, medium or low"),
        ("confidence = 3", "confidence is 3; it is a text"),
        ("exclude = 'x'", "exclude is 'x'; it is a list of texts"),
        ("baseline = true", "baseline is True; it is a text"),
        ("cache = []", "cache is []; it is a text"),
        ("processes = -1", "processes is -1; it is a whole number"),
        ("processes = true", "processes is True; it is a whole number"),
        ("processes = 1.5", "processes is 1.5; it is a whole number"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, line: str, word: str) -> None:
    file = written(tmp_path, f"[tool.failstop.scan]\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(file)
    assert str(caught.value).startswith(f"{file}: [tool.failstop.scan] ")
    assert word in str(caught.value)


@pytest.mark.parametrize("text", ["[tool.failstop]\nscan = 3\n", "[tool]\nfailstop = 'x'\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no table; write \[tool.failstop.scan\]"):
        Settings.read(written(tmp_path, text))


@pytest.mark.parametrize("data", [b"[tool.failstop.scan\n", b"# failstop \xff\n"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.near(tmp_path)


def test_the_nearest_file_that_names_failstop_counts(tmp_path: Path) -> None:
    inner = tmp_path / "services" / "api"
    inner.mkdir(parents=True)
    written(tmp_path, '[tool.failstop.scan]\nconfidence = "high"\n')
    (tmp_path / "services" / "pyproject.toml").write_text("{{ a template of somebody else }}")
    assert Settings.near(inner).confidence is Confidence.HIGH
    written(inner, '[tool.failstop.scan]\nconfidence = "low"\n')
    assert Settings.near(inner).confidence is Confidence.LOW


@pytest.mark.parametrize(
    ("pattern", "path", "is_excluded"),
    [
        ("migrations/*", "migrations/0001.py", True),
        ("migrations", "migrations/0001.py", True),
        ("migrations/", "migrations/deep/0001.py", True),
        ("*/migrations", "app/migrations/0001.py", True),
        ("*_pb2.py", "app/orders_pb2.py", True),
        ("migrations", "app/migrations/0001.py", False),
        ("app", "application.py", False),
    ],
)
def test_exclude_takes_globs(pattern: str, path: str, *, is_excluded: bool) -> None:
    assert Settings(exclude=(pattern,)).excludes(path) is is_excluded
