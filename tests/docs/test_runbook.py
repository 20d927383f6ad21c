"""The runbook has a place for all that can lead to it, and every command it shows is there."""

from __future__ import annotations

import ast
import contextlib
import json
import pickle
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

import failstop
from failstop.alerts import (
    AlertmanagerSink,
    AlertSink,
    DeliveryError,
    PagerDutySink,
    SlackSink,
    WebhookSink,
)
from failstop.cli import main
from failstop.cli._commands import failstop as cli
from failstop.diagnosis import RUNBOOK, explain, kinds, runbook, to_error
from failstop.errors import ErrorCode, Outcome
from failstop.testing import HttpAnswer, HttpReceiver, sample_alert

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runbook.md"
SOURCE = Path(failstop.__file__).parent
TELLS = {"problem": 0, "_problem": 0, "_held": 1, "_failure": 2, "_failed": 1}
"""Functions that are given a kind, and at which place."""
OWNERS = {"_storefile.py": "store", "_doorbell.py": "doorbell", "_gateway.py": "gateway"}
"""Modules all of whose kinds begin alike."""
REHEARSAL = "test"
SIGNING = "whsec_" + "A" * 44


@cache
def anchors() -> frozenset[str]:
    """Return the page's anchors: of its headings as MkDocs makes them, and those written out."""
    text = PAGE.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = [
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower()) for each in headings
    ]
    written = re.findall(r'<a id="([\w-]+)"></a>', text)
    assert len({*made, *written}) == len(made) + len(written), "an anchor is there twice"
    return frozenset({*made, *written})


def told_kinds() -> Iterator[str]:
    """Return every kind that is written in the source as one."""
    for path in SOURCE.rglob("*.py"):
        if {"scan", "testing", "drill"} & set(path.relative_to(SOURCE).parts):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _kinds_in(node)
            elif path.name in OWNERS and isinstance(node, ast.Constant):
                yield from re.findall(rf"^{OWNERS[path.name]}_[a-z_]+$", str(node.value))


def _kinds_in(call: ast.Call) -> Iterator[str]:
    given = [each.value for each in call.keywords if each.arg == "kind"]
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in TELLS:
        given += call.args[TELLS[name] : TELLS[name] + 1]
    for value in given:
        for each in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
            if isinstance(each, ast.Constant):
                yield str(each.value)


def test_every_kind_in_the_source_is_known_to_the_runbook() -> None:
    found = set(told_kinds())
    assert len(found) > 20
    assert found - kinds() - {REHEARSAL} == set()


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_kind_has_its_place(kind: str) -> None:
    assert runbook(kind) == f"{RUNBOOK}#{kind.replace('_', '-')}"
    assert kind.replace("_", "-") in anchors()


def test_a_kind_made_by_hand_leads_to_the_page() -> None:
    assert runbook("of my own") == RUNBOOK


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_has_its_place(code: ErrorCode) -> None:
    assert code.value.lower().replace("_", "-") in anchors()


@pytest.mark.parametrize("check", ["store", "in doubt", "fence", "safety actions", "departure"])
def test_every_check_has_its_row(check: str) -> None:
    assert re.search(rf"^\| (<a id=\S+></a>)?`{check}` \|", PAGE.read_text("utf-8"), re.MULTILINE)


def test_every_link_of_an_alert_rule_leads_to_a_place() -> None:
    rules = (ROOT / "docs" / "monitoring" / "alerts.yml").read_text("utf-8")
    linked = re.findall(rf"runbook_url: {re.escape(RUNBOOK)}#([\w-]+)$", rules, re.MULTILINE)
    assert len(linked) == rules.count("- alert:")
    assert set(linked) - anchors() == set()


def test_every_link_within_the_page_leads_to_a_place() -> None:
    linked = set(re.findall(r"\]\(#([\w-]+)\)", PAGE.read_text("utf-8")))
    assert linked - anchors() == set()


def shown_commands() -> list[str]:
    blocks = re.findall(
        r"^( *)```console\n(.*?)^\1```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line.strip() for _, block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ failstop ")]


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_every_command_that_is_shown_is_there(line: str) -> None:
    """With each of its options, and with all that it requires: click itself reads the line."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    with_paths = [str(PAGE) if word.startswith("var/") else word for word in words]
    command.make_context(command.name, with_paths)


def test_the_page_shows_commands() -> None:
    assert len(shown_commands()) >= 20


def test_explain_an_error_and_an_incident_lead_to_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "57P01"]) == 0
    assert f"runbook  {RUNBOOK}#admin-shutdown" in capsys.readouterr().out
    assert main(["explain", "timeline_changed"]) == 0
    assert f"{RUNBOOK}#timeline-changed" in capsys.readouterr().out
    error = to_error(explain("53100"), outcome=Outcome.NOT_STARTED, name="ledger")
    assert error.__notes__ == [f"runbook: {RUNBOOK}#disk-full"]
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__
    failsafe = failstop.FailSafe("trading-api")
    failsafe.trip(error)
    mode = failsafe.status().to_dict()["failSafeMode"]
    assert mode["runbook"] == f"{RUNBOOK}#disk-full"
    failsafe.close()


@pytest.mark.parametrize(
    ("sink", "where"),
    [
        (lambda url: WebhookSink(url, secret=SIGNING), lambda sent: sent["runbook"]),
        (lambda url: PagerDutySink("0" * 32, url=url), lambda sent: sent["links"][0]["href"]),
        (AlertmanagerSink, lambda sent: sent[0]["annotations"]["runbook_url"]),
        (lambda url: SlackSink(f"{url}/services/T/B/x"), lambda sent: _fields_of(sent)["runbook"]),
    ],
)
def test_alerts_lead_to_the_page(
    sink: Callable[[str], AlertSink], where: Callable[[Any], str]
) -> None:
    with HttpReceiver(lambda _: HttpAnswer(202, b'{"status": "success"}')) as receiver:
        with contextlib.suppress(DeliveryError):  # each vendor says that it arrived in other words
            sink(receiver.url).send(sample_alert(kind="disk_full"))
        assert where(json.loads(receiver.requests[0].body)) == f"{RUNBOOK}#disk-full"


def _fields_of(sent: Any) -> dict[str, str]:
    texts = [field["text"] for block in sent["blocks"] for field in block.get("fields", ())]
    return dict(text.split(": ", 1) for text in texts)
