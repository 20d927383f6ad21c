"""The pages for people: the status, and what came of an order.

A page is whole without JavaScript, loads nothing, and its policy lets nothing else run. Every text
goes through the templates' escaping. Never here: what a state means to a program.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from failstop._history import FIRST, History, Moment, PastIncident
from failstop._latch import State
from failstop.diagnosis import runbook
from failstop.events import CheckResult
from failstop.status import ResetPlan, SinkStatus, SystemStatus, masked
from failstop.web._admin import Done
from failstop.web._chart import chart_of, ending_of
from failstop.web._order import RefusedError
from failstop.web._words import ago, lasted

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["done_page", "has_pages", "page_headers", "refused_page", "status_page"]

REFRESH = 10
"""Seconds between two looks of a page that is watched without JavaScript."""
MOST_DELIVERED = 3
TONES = {State.NORMAL: "good", State.STARTING: "wait", State.RECOVERING: "wait"}
LEGEND = {
    "proven": "left when recovery was proven",
    "person": "left by a person",
    "forced": "forced by a person",
    "open": "still open",
}


@cache
def has_pages() -> bool:
    """Say whether pages can be made: jinja2 is there with `failstop[web]`."""
    return find_spec("jinja2") is not None


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("failstop.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _text(name: str) -> str:
    """Return what is written between the tags of a page, as it is: its hash is in the policy."""
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _render(name: str, facts: Mapping[str, Any]) -> str:
    from markupsafe import Markup

    own = {"css": Markup(_text("page.css")), "js": Markup(_text("page.js"))}  # noqa: S704 - ours
    return _templates().get_template(name).render(**own, **facts)


@cache
def page_headers() -> Mapping[str, str]:
    """Return the headers of every page: it may run and load its own parts only."""
    policy = {
        "default-src": "'none'",
        "style-src": _source("page.css"),
        "script-src": _source("page.js"),
        "img-src": "data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _source(name: str) -> str:
    digest = hashlib.sha256(_text(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# The status


def status_page(
    status: SystemStatus, now: datetime, *, has_orders: bool, is_watched: bool = False
) -> str:
    """Return the status as a page.

    Args:
        status: what is shown.
        now: what ages are counted to.
        has_orders: whether there are forms to halt and reset.
        is_watched: whether it renews itself without JavaScript; the forms are left out then.
    """
    incident = status.incident
    headline, tone, sentence = _headline(status)
    return _render(
        "page.html",
        {
            "status": status,
            "incident": incident,
            "runbook": runbook(incident.kind) if incident else None,
            "headline": headline,
            "tone": tone,
            "sentence": sentence,
            "why": _why(status),
            "since": lasted((now - incident.since).total_seconds()) if incident else "",
            "age": None if status.age is None else ago(status.age),
            "check_ages": _ages(status.checks, now),
            "sinks": [_sink(sink, status.history) for sink in status.sinks],
            "doubts": [
                {
                    "key": masked(each.key, status.salt),
                    "database": each.database,
                    "since": each.since,
                }
                for each in status.in_doubt
            ],
            "has_orders": has_orders,
            "refresh": REFRESH if is_watched else None,
            **_told(status, now),
        },
    )


def _headline(status: SystemStatus) -> tuple[str, str, str]:
    """Return the state in a few words, its tone, and what it means in a sentence."""
    incident, tone = status.incident, TONES.get(status.state, "bad")
    if status.state is State.CLOSED:
        return "Closed", tone, "The service has ended: it refuses everything."
    if incident is not None and incident.is_halt:
        return "Halted", "bad", "Nothing is sent until a person resets it."
    if status.state is State.RECOVERING and status.needs_person:
        return (
            "Waiting for a person",
            tone,
            "Every check passes; nothing is sent until a reset.",
        )
    if status.state is State.RECOVERING:
        return "Recovering", tone, "Nothing is sent until recovery is proven."
    if status.state is State.STARTING:
        return "Starting", tone, "Nothing is sent before every check has passed once."
    if status.state is State.FAIL_SAFE:
        return "Fail-safe mode", tone, "Nothing is sent: every guarded operation is refused."
    if status.is_operational:
        return "Operational", tone, "Safe to trade: every check passed."
    return "Not proven", "bad", "Not safe to trade: that all is well cannot be shown now."


def _why(status: SystemStatus) -> tuple[str, ...]:
    if status.incident is not None:
        return (status.incident.cause,)
    return status.reasons if status.state is State.NORMAL else ()


def _ages(checks: Sequence[CheckResult], now: datetime) -> list[str]:
    return [ago((now - check.observed_at).total_seconds()) for check in checks]


def _sink(sink: SinkStatus, history: History) -> dict[str, Any]:
    delivered = [each for each in history.delivered if each.sink == sink.name]
    return {
        "name": sink.name,
        "pending": sink.pending,
        "oldest": None if sink.oldest is None else lasted(sink.oldest),
        "error": sink.error,
        "delivered": delivered[-MOST_DELIVERED:],
    }


# What happened


def _told(status: SystemStatus, now: datetime) -> dict[str, Any]:
    history, incident = status.history, status.incident
    open_seconds = None if incident is None else (now - incident.since).total_seconds()
    chart = chart_of(history.past, open_seconds)
    shown = {bar.ending for bar in chart.bars}
    oldest = history.past[-1].since if history.past else now
    return {
        "history": history,
        "moments": [_moment(each) for each in history.moments],
        "gap": FIRST if history.left_out else 0,
        "chart": chart,
        "summary": _summary(history, open_seconds),
        "legend": [(ending, text) for ending, text in LEGEND.items() if ending in shown],
        "from_day": f"{oldest:%d %b %Y}",
        "until_day": f"{now:%d %b %Y}",
        "past": [
            {
                "since": each.since,
                "lasted": lasted(each.seconds),
                "cause": each.cause,
                "end": _end(each),
                "occurrences": each.occurrences,
            }
            for each in history.past
        ],
    }


def _moment(moment: Moment) -> dict[str, Any]:
    is_again = moment.until is not None and moment.until > moment.at
    return {
        "at": moment.at,
        "event": moment.event,
        "text": moment.text,
        "count": moment.count,
        "until": moment.until if is_again else None,
    }


def _summary(history: History, open_seconds: float | None) -> str:
    count = len(history.past)
    said = f"{count} incident{'' if count == 1 else 's'} over"
    if count:
        longest = max(history.past, key=lambda each: each.seconds)
        said += (
            f", the longest {lasted(longest.seconds)}, the last on {_day(history.past[0].since)}"
        )
    if open_seconds is not None:
        said += f"; one is open for {lasted(open_seconds)}"
    return f"{said}."


def _end(incident: PastIncident) -> str:
    by = f" by {incident.left_by}" if incident.left_by is not None else ""
    said = {"proven": "recovery was proven", "person": f"reset{by}", "forced": f"forced{by}"}
    overruled = f" although {', '.join(incident.overruled)} failed" if incident.overruled else ""
    return said[ending_of(incident)] + overruled


def _day(moment: datetime) -> str:
    return f"{moment:%d %b %Y}"


# What came of an order


def done_page(service: str, done: Done) -> str:
    """Return what was done as a page."""
    tone = "wait" if done.left or done.plan is not None else "good"
    facts = {} if done.plan is not None else done.facts
    return _result(service, tone, done.title, done.detail, facts, done.left, done.plan)


def refused_page(service: str, refused: RefusedError) -> str:
    """Return why something was not done as a page."""
    plan = refused.facts.get("plan")
    return _result(service, "bad", refused.title, refused.detail, refused.facts, (), plan)


def _result(
    service: str,
    tone: str,
    title: str,
    detail: str,
    facts: Mapping[str, Any],
    left: Sequence[str],
    plan: ResetPlan | None,
) -> str:
    names = {"state": "State", "epoch": "Epoch", "incidentId": "Incident"}
    return _render(
        "result.html",
        {
            "service": service,
            "tone": tone,
            "title": title,
            "detail": detail,
            "facts": [(word, facts[name]) for name, word in names.items() if name in facts],
            "left": left,
            "plan": plan,
            "check_ages": _ages(plan.checks, datetime.now(UTC)) if plan else [],
        },
    )
