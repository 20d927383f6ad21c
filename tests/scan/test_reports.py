"""The machine-readable forms: SARIF against its schema, GitHub's escapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from failstop.scan import RULES, Confidence, Finding
from failstop.scan._reports import as_github, as_json, as_sarif

SCHEMA = json.loads((Path(__file__).parent.parent / "data" / "sarif-2.1.0.json").read_text("utf-8"))
SKIPPED = [("bücher/book.ipynb", "a notebook"), ("bad.py", "syntax error in line 3")]


def finding(**changes: Any) -> Finding:
    facts: dict[str, Any] = {
        "path": "src/app.py",
        "line": 10,
        "end_line": 11,
        "rule": "FS001",
        "confidence": Confidence.HIGH,
        "message": "a failure is answered with an empty value",
        "flow": ("execute(…) (line 8)", "except Exception (line 10)", "answers an empty value"),
        "fingerprint": "0123456789abcdef",
    }
    return Finding(**{**facts, **changes})


EVERY = [
    finding(rule=rule, confidence=confidence, path=f"src/a b/{rule}.py", line=number + 1)
    for number, rule in enumerate(RULES)
    for confidence in Confidence
]


@pytest.mark.parametrize("findings", [[], [finding()], EVERY, [finding(flow=(), path="ü%.py")]])
def test_sarif_is_valid_by_its_schema(findings: list[Finding]) -> None:
    log = json.loads(as_sarif(findings, SKIPPED, "1.2.3"))
    jsonschema.Draft7Validator(
        SCHEMA, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER
    ).validate(log)
    assert log["version"] == "2.1.0"
    assert len(log["runs"][0]["results"]) == len(findings)


def test_the_schema_refuses_what_is_no_sarif() -> None:
    log = json.loads(as_sarif([finding()], [], "1.2.3"))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(log)


def test_sarif_names_rule_place_and_way() -> None:
    run = json.loads(as_sarif(EVERY, [], "1.2.3"))["runs"][0]
    for result, each in zip(run["results"], EVERY, strict=True):
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"] == each.rule
        assert rule["helpUri"] == f"https://failstop.dev/scan/{each.rule}"
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == f"src/a%20b/{each.rule}.py"
        assert place["region"]["endLine"] == each.end_line
        steps = result["codeFlows"][0]["threadFlows"][0]["locations"]
        assert [step["location"]["message"]["text"] for step in steps] == list(each.flow)
        lines = [step["location"]["physicalLocation"]["region"]["startLine"] for step in steps]
        assert lines == [8, 10, each.line]
    assert {result["level"] for result in run["results"]} == {"error", "warning", "note"}


def test_sarif_tells_what_was_skipped() -> None:
    run = json.loads(as_sarif([], SKIPPED, "1.2.3"))["runs"][0]
    told = run["invocations"][0]["toolExecutionNotifications"]
    assert [each["message"]["text"] for each in told] == [
        "skipped: syntax error in line 3",
        "skipped: a notebook",
    ]


@pytest.mark.parametrize(
    ("confidence", "command"),
    [
        (Confidence.HIGH, "error"),
        (Confidence.MEDIUM, "warning"),
        (Confidence.LOW, "notice"),
    ],
)
def test_github_shows_a_finding_beside_its_lines(confidence: Confidence, command: str) -> None:
    told = as_github([finding(confidence=confidence)])
    assert told.startswith(f"::{command} file=src/app.py,line=10,endLine=11,title=FS001 a database")
    assert "::a failure is answered with an empty value. let the error pass" in told


def test_github_cannot_be_given_a_command_by_a_path_or_a_message() -> None:
    told = as_github([finding(path="a,line=1::b%\n.py", message="50%\n::set-output name=x::y")])
    assert "file=a%2Cline=1%3A%3Ab%25%0A.py,line=10" in told
    assert "50%25%0A::set-output" in told
    assert len(told.splitlines()) == 1


def test_json_keeps_every_fact() -> None:
    (told,) = json.loads(as_json([finding()]))
    assert told == {
        "path": "src/app.py",
        "line": 10,
        "end_line": 11,
        "column": 1,
        "rule": "FS001",
        "confidence": "high",
        "message": "a failure is answered with an empty value",
        "flow": ["execute(…) (line 8)", "except Exception (line 10)", "answers an empty value"],
        "symbol": "",
        "fingerprint": "0123456789abcdef",
        "why": RULES["FS001"].why,
        "mend": RULES["FS001"].mend,
        "url": "https://failstop.dev/scan/FS001",
    }
