"""The alert rules are sound, each is tested, and each leads to its page of the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RULES = DOCS / "monitoring" / "alerts.yml"
TESTS = DOCS / "monitoring" / "alerts_test.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool: apt-get install prometheus"
)


def rules() -> dict[str, str]:
    """Return the text of each rule by its name."""
    parts = re.split(r"^      - alert: (\w+)\n", RULES.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    command = (PROMTOOL, *arguments)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@needs_promtool
def test_the_rules_are_sound() -> None:
    done = promtool("check", "rules", RULES.name, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_fire_where_they_should_and_nowhere_else() -> None:
    done = promtool("test", "rules", TESTS.name, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_seen_to_fire_in_a_test() -> None:
    fired = set(re.findall(r'alertname="(\w+)",alertstate="firing"', TESTS.read_text("utf-8")))
    assert fired == set(rules())


@pytest.mark.parametrize("alert", rules())
def test_every_rule_says_how_grave_it_is_what_is_wrong_and_where_to_read_on(alert: str) -> None:
    rule = rules()[alert]
    assert re.search(r"^ {8}labels: \{ severity: (critical|warning) \}$", rule, re.MULTILINE)
    for annotation in ("summary", "description", "runbook_url"):
        assert re.search(rf"^ {{10}}{annotation}: \S", rule, re.MULTILINE), annotation
