"""The labelled corpus: how much the finder finds, and how often it is right.

A snippet is one file in `corpus/<rule>/positive` or `corpus/<rule>/negative`. A comment
`# expect: FS001` stands on the line where a finding must be; a file without one must be clean.
The labels say what the rules' text says, never what the finder does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from failstop.scan import RULES, Confidence, Finding, scan_source

CORPUS = Path(__file__).parent / "corpus"
LABEL = re.compile(r"#\s*expect:\s*(FS\d{3})\s*$")
Place = tuple[int, str]


@dataclass(frozen=True)
class Snippet:
    """One file of the corpus: the places its labels name and the findings it gives."""

    path: Path
    labels: frozenset[Place]
    findings: tuple[Finding, ...]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(CORPUS))

    @property
    def is_positive(self) -> bool:
        return self.path.parent.name == "positive"

    @property
    def rule(self) -> str:
        return self.path.parent.parent.name.upper()

    def places(self, *confidences: Confidence) -> frozenset[Place]:
        shown = [each for each in self.findings if each.confidence in confidences]
        return frozenset((each.line, each.rule) for each in shown)


def read(path: Path) -> Snippet:
    text = path.read_text(encoding="utf-8")
    labels = {
        (number, match.group(1))
        for number, line in enumerate(text.splitlines(), 1)
        if (match := LABEL.search(line))
    }
    return Snippet(path, frozenset(labels), tuple(scan_source(text, path.name)))


SNIPPETS = [read(path) for path in sorted(CORPUS.rglob("*.py"))]
SHOWN = (Confidence.HIGH, Confidence.MEDIUM)


def counted(places: Iterator[Place]) -> Counter[str]:
    return Counter(rule for _, rule in places)


LABELLED = counted(place for each in SNIPPETS for place in each.labels)
FOUND = counted(place for each in SNIPPETS for place in each.labels & each.places(*SHOWN))
HIGH = counted(place for each in SNIPPETS for place in each.places(Confidence.HIGH))
HIGH_RIGHT = counted(
    place for each in SNIPPETS for place in each.labels & each.places(Confidence.HIGH)
)


def wrong(*confidences: Confidence) -> list[str]:
    return [
        f"{each.name}:{line} {rule}"
        for each in SNIPPETS
        for line, rule in sorted(each.places(*confidences) - each.labels)
    ]


def missed() -> list[str]:
    return [
        f"{each.name}:{line} {rule}"
        for each in SNIPPETS
        for line, rule in sorted(each.labels - each.places(*SHOWN))
    ]


def test_the_corpus_has_200_snippets_half_of_them_clean() -> None:
    positive = sum(each.is_positive for each in SNIPPETS)
    assert len(SNIPPETS) >= 200
    assert abs(2 * positive - len(SNIPPETS)) <= len(SNIPPETS) // 20


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_eight_snippets_of_both_sorts(rule: str) -> None:
    sorts = Counter(each.is_positive for each in SNIPPETS if each.rule == rule)
    assert sorts[True] >= 8
    assert sorts[False] >= 8


def test_each_snippet_is_labelled_as_its_folder_says() -> None:
    for each in SNIPPETS:
        rules = {rule for _, rule in each.labels}
        assert (each.rule in rules) if each.is_positive else not rules, each.name


def test_what_is_found_with_high_confidence_is_right() -> None:
    assert sum(HIGH_RIGHT.values()) / sum(HIGH.values()) >= 0.95, wrong(Confidence.HIGH)


def test_what_is_shown_by_default_is_right() -> None:
    shown = sum(len(each.places(*SHOWN)) for each in SNIPPETS)
    assert sum(FOUND.values()) / shown >= 0.95, wrong(*SHOWN)


def test_what_is_labelled_is_found_with_the_default_confidences() -> None:
    assert sum(FOUND.values()) / sum(LABELLED.values()) >= 0.9, missed()


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_precise_and_finds_its_own(rule: str) -> None:
    assert HIGH_RIGHT[rule] / HIGH[rule] >= 0.9, wrong(Confidence.HIGH)
    assert FOUND[rule] / LABELLED[rule] >= 0.9, missed()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda each: each.name)
def test_a_finding_says_its_way_and_carries_no_source_text(snippet: Snippet) -> None:
    text = snippet.path.read_text(encoding="utf-8")
    secrets = [part for part in re.findall(r'"([^"\n]{12,})"', text) if " " in part]
    for finding in snippet.findings:
        assert finding.line <= finding.end_line
        assert len(finding.flow) >= 2
        told = " ".join((finding.message, *finding.flow))
        assert not [secret for secret in secrets if secret in told]
