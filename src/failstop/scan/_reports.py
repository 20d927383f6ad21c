"""The machine-readable outputs: JSON, SARIF 2.1.0 and GitHub annotations.

Lives here: pure functions from findings to text. Never here: files, colours or decisions.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from failstop.scan._finding import RULES, Finding

__all__ = ["as_github", "as_json", "as_sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"high": "error", "medium": "warning", "low": "note"}
_COMMANDS = {"high": "error", "medium": "warning", "low": "notice"}
_LINE = re.compile(r"\(line (\d+)\)")


def as_json(findings: list[Finding]) -> str:
    """A list of objects, one a finding."""
    return json.dumps([each.to_dict() for each in findings], indent=2)


def as_sarif(findings: list[Finding], skipped: list[tuple[str, str]], version: str) -> str:
    """One SARIF 2.1.0 run; what was skipped is told as notifications."""
    used = sorted({each.rule for each in findings})
    driver = {
        "name": "failstop scan",
        "version": version,
        "informationUri": "https://failstop.dev/scan",
        "rules": [_rule(name) for name in used],
    }
    told = [_notification(path, word) for path, word in sorted(skipped)]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": told}],
        "results": [_result(each, used.index(each.rule)) for each in findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": rule.id,
        "name": "".join(part.title() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": f"{rule.title}: {rule.why}"},
        "help": {"text": rule.mend, "markdown": f"{rule.mend}\n\n[{rule.id}]({rule.url})"},
        "helpUri": rule.url,
        "defaultConfiguration": {"level": "error"},
    }


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.confidence.value],
        "message": {"text": _said(finding)},
        "locations": [_location(finding.path, region)],
        "codeFlows": [{"threadFlows": [{"locations": _flow(finding)}]}],
        "partialFingerprints": {"failstop/v1": finding.fingerprint},
        "properties": {"confidence": finding.confidence.value, "flow": list(finding.flow)},
    }


def _flow(finding: Finding) -> list[dict[str, Any]]:
    """The way of the data: each step at the line it names, the last at the finding's own."""
    steps = finding.flow or (finding.message,)
    made = []
    for step in steps:
        named = _LINE.search(step)
        region = {"startLine": int(named.group(1)) if named else finding.line}
        made.append({"location": _location(finding.path, region) | {"message": {"text": step}}})
    return made


def _location(path: str, region: dict[str, int]) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": quote(path)}, "region": region}}


def _notification(path: str, word: str) -> dict[str, Any]:
    place = {"physicalLocation": {"artifactLocation": {"uri": quote(path)}}}
    return {"level": "note", "message": {"text": f"skipped: {word}"}, "locations": [place]}


def as_github(findings: list[Finding]) -> str:
    """Workflow commands that GitHub shows beside the lines."""
    return "\n".join(_annotation(each) for each in findings)


def _annotation(finding: Finding) -> str:
    command = _COMMANDS[finding.confidence.value]
    title = _property(f"{finding.rule} {finding.facts.title}")
    place = f"file={_property(finding.path)},line={finding.line},endLine={finding.end_line}"
    return f"::{command} {place},title={title}::{_data(_said(finding))}"


def _said(finding: Finding) -> str:
    return f"{finding.message}. {finding.facts.mend}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
