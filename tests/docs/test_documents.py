"""What the documents say of the project is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox"
DRILL_COMMAND = (
    "python3 -m venv .venv && .venv/bin/pip install -q '.[drill]' && .venv/bin/failstop drill"
)
SCREEN = 45
"""Lines that a first screen holds."""


def test_the_first_screen_of_the_readme_has_the_example_and_both_commands() -> None:
    screen = "\n".join(README.splitlines()[:SCREEN])
    assert DRILL_COMMAND in screen
    assert TEST_COMMAND in screen
    example = re.search("```python\n(.*?)```", screen, re.DOTALL)
    assert example
    assert len([line for line in example[1].splitlines() if line.strip()]) <= 12


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert script.splitlines()[-1] == TEST_COMMAND


@pytest.mark.parametrize("claim", [f"C{number}" for number in range(1, 13)])
def test_every_claim_has_its_section(claim: str) -> None:
    section = claim_sections()[claim]
    assert "**Bound:**" in section or "**Not claimed yet.**" in section
    assert "**Shown by**" in section or "**Not claimed yet.**" in section
    assert "**Not claimed" in section


def test_every_test_that_a_claim_names_is_there() -> None:
    sections = "".join(claim_sections().values())
    named = re.findall(r"`(tests/[\w/]+\.py)::(?:Test\w+::)?(\w+)`", sections)
    assert len(named) == sections.count("`tests/")
    assert len(named) > 20
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^ *(async )?def {name}\(", source(path), re.MULTILINE)
    ]
    assert missing == []


def test_every_extra_that_the_documents_name_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pages = [README, *(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))]
    named = {
        extra
        for page in pages
        for extras in re.findall(r"failstop\[([a-z,]+)\]", page)
        for extra in extras.split(",")
    }
    assert named
    assert named <= project["optional-dependencies"].keys()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    assert [str(page) for page in sorted(pages) if str(page) not in navigation] == []


def source(path: str) -> str:
    return (ROOT / path).read_text("utf-8") if (ROOT / path).exists() else ""


def claim_sections() -> dict[str, str]:
    text = (ROOT / "docs" / "claims.md").read_text("utf-8")
    parts = re.split(r"^## (C\d+): ", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
