"""The machine-readable outputs: JSON, SARIF 2.1.0 and GitHub annotations.

Lives here: pure functions from findings to text. Never here: files, colours or decisions.
"""

from __future__ import annotations

import json
from typing import Any

from failstop.scan._finding import RULES, Finding

__all__ = ["as_github", "as_json", "as_sarif"]

_LEVELS = {"high": "error", "medium": "warning", "low": "note"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_json(findings: list[Finding]) -> str:
    """A list of objects, one a finding."""
    return json.dumps([each.to_dict() for each in findings], indent=2)


def as_sarif(findings: list[Finding], version: str) -> str:
    """One SARIF 2.1.0 run."""
    used = [RULES[name] for name in sorted({each.rule for each in findings})]
    index = {rule.id: place for place, rule in enumerate(used)}
    driver = {
        "name": "failstop scan",
        "semanticVersion": version,
        "informationUri": "https://failstop.dev/scan",
        "rules": [_rule(rule.id) for rule in used],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "results": [_result(each, index[each.rule]) for each in findings],
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
    place = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(finding.path)},
            "region": {
                "startLine": finding.line,
                "startColumn": finding.column,
                "endLine": finding.end_line,
            },
        }
    }
    said = f"{finding.message}. {finding.facts.mend}"
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.confidence.value],
        "message": {"text": said},
        "locations": [place],
        "partialFingerprints": {"failstop/v1": finding.fingerprint or "0"},
        "properties": {"confidence": finding.confidence.value, "flow": list(finding.flow)},
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.replace("\\", "/"))


def as_github(findings: list[Finding]) -> str:
    """Workflow commands that GitHub shows beside the lines."""
    return "\n".join(_annotation(each) for each in findings)


def _annotation(finding: Finding) -> str:
    level = {"error": "error", "warning": "warning", "note": "notice"}[
        _LEVELS[finding.confidence.value]
    ]
    path = _property(finding.path)
    title = _property(f"{finding.rule} {finding.facts.title}")
    text = f"{finding.message}. {finding.facts.mend}"
    data = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    place = f"file={path},line={finding.line},endLine={finding.end_line}"
    return f"::{level} {place},title={title}::{data}"


def _property(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return escaped.replace(":", "%3A").replace(",", "%2C")
