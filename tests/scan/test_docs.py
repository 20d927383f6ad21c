"""The pages of the rules: what they call bad is found, what they call good is clean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from failstop.scan import PRECEDENCE, RULES, Confidence, scan_source

DOCS = Path(__file__).parents[2] / "docs" / "scan"
BLOCK = re.compile(r'^```py title="(bad|good)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(rule: str) -> dict[str, str]:
    return dict(BLOCK.findall((DOCS / f"{rule}.md").read_text("utf-8")))


def test_every_rule_has_a_page_and_no_page_is_left_over() -> None:
    assert sorted(file.stem for file in DOCS.glob("FS*.md")) == sorted(RULES)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_bad_example_is_found_by_its_rule_and_the_good_one_is_clean(rule: str) -> None:
    examples = blocks(rule)
    assert {each.rule for each in scan_source(examples["bad"])} == {rule}
    assert scan_source(examples["good"]) == []


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_page_begins_with_the_rule_and_its_title(rule: str) -> None:
    head = (DOCS / f"{rule}.md").read_text("utf-8").splitlines()[0]
    assert head == f"# {rule}: {RULES[rule].title}"


def test_the_index_links_every_page_and_keeps_the_order() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    assert re.findall(r"\[(FS\d{3})\]\(\1\.md\)", index) == sorted(RULES)
    assert ", ".join(PRECEDENCE) in " ".join(index.split())


def test_a_link_of_a_finding_leads_to_its_page() -> None:
    for rule in RULES.values():
        path = rule.url.removeprefix("https://failstop.dev/scan/")
        assert (DOCS / f"{path}.md").is_file()


def test_the_bad_examples_are_shown_by_default() -> None:
    for rule in RULES:
        found = scan_source(blocks(rule)["bad"])
        assert all(each.confidence is not Confidence.LOW for each in found)
