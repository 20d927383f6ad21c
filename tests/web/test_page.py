"""The page for people: whole without JavaScript, nothing foreign in it, and never a guess."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import failstop.web
from failstop import State
from failstop.diagnosis import RUNBOOK
from failstop.errors import ErrorCode
from failstop.events import ActionState, CheckResult, Incident, InDoubt
from failstop.status import (
    ActionStatus,
    Delivery,
    History,
    Moment,
    PastIncident,
    ResetPlan,
    SinkStatus,
    SystemStatus,
)
from failstop.web import _page
from failstop.web._chart import HEIGHT, WIDTH, chart_of
from failstop.web._order import RefusedError
from failstop.web._page import page_headers, refused_page
from failstop.web._words import ago, lasted

NOW = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
WELL = CheckResult("database", True, "committed a write", NOW, 0.002)
INCIDENT = Incident(
    incident_id="f00d",
    epoch=3,
    error_code=ErrorCode.DB_UNAVAILABLE,
    kind="refused",
    reason="Database unavailable",
    cause="the server refused the connection",
    action="start the server",
    since=NOW - timedelta(minutes=5),
)
NORMAL = SystemStatus(
    service="api",
    noun="Trading system",
    state=State.NORMAL,
    epoch=2,
    incident=None,
    checks=(WELL,),
    databases=("database",),
    is_automatic=True,
    is_durable=True,
    store_error=None,
    sinks=(SinkStatus("pager", 0, None, None),),
    age=0.5,
    is_fresh=True,
    observed_at=NOW,
)
TRIPPED = replace(NORMAL, state=State.FAIL_SAFE, incident=INCIDENT, epoch=3)
PAST = PastIncident("0", 1, "refused", "Down", "gone", NOW, NOW, 3, None, ())


def status_page(status: SystemStatus, *, has_orders: bool, is_watched: bool = False) -> str:
    return _page.status_page(status, NOW, has_orders=has_orders, is_watched=is_watched)


def text_of(page: str) -> str:
    """Return what a person reads, in one line."""
    body = page[page.index("<body") :]
    body = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.mark.parametrize(
    ("status", "headline", "tone"),
    [
        (NORMAL, "Operational", "good"),
        (replace(NORMAL, is_fresh=False), "Not proven", "bad"),
        (replace(NORMAL, checks=(replace(WELL, is_passed=False),)), "Not proven", "bad"),
        (replace(NORMAL, state=State.STARTING), "Starting", "wait"),
        (replace(NORMAL, state=State.CLOSED), "Closed", "bad"),
        (TRIPPED, "Fail-safe mode", "bad"),
        (replace(TRIPPED, state=State.RECOVERING), "Recovering", "wait"),
        (
            replace(TRIPPED, state=State.RECOVERING, is_automatic=False),
            "Waiting for a person",
            "wait",
        ),
        (replace(TRIPPED, incident=replace(INCIDENT, actor="ann")), "Halted", "bad"),
        (
            replace(TRIPPED, state=State.RECOVERING, incident=replace(INCIDENT, actor="ann")),
            "Halted",
            "bad",
        ),
    ],
)
def test_each_state_has_words_and_a_tone(status: SystemStatus, headline: str, tone: str) -> None:
    page = status_page(status, has_orders=False)
    assert f"<title>{headline} · api</title>" in page
    assert f'data-tone="{tone}"' in page
    assert status.state.value in text_of(page)


def test_an_incident_says_why_since_when_and_what_to_do() -> None:
    text = text_of(status_page(TRIPPED, has_orders=False))
    assert "the server refused the connection" in text
    assert "UTC , 5 min" in text
    assert "start the server" in text
    assert "f00d" in text
    assert "More in the runbook on refused" in text


def test_what_is_old_is_said_to_be() -> None:
    text = text_of(status_page(replace(NORMAL, is_fresh=False, age=90.0), has_orders=False))
    assert "observed 1 min 30 s ago" in text
    assert "nothing below is proven now" in text
    never = replace(NORMAL, is_fresh=False, age=None, checks=())
    assert "nothing was observed yet" in text_of(status_page(never, has_orders=False))


def test_keys_in_doubt_are_masked() -> None:
    doubtful = replace(TRIPPED, in_doubt=(InDoubt("database", "order-4711-xyz", NOW),))
    page = status_page(doubtful, has_orders=True)
    assert "4711" not in page
    assert "ord…" in page


def test_safety_actions_and_what_is_let_through_are_shown() -> None:
    actions = (
        ActionStatus("cancel orders", ActionState.ENDED, NOW),
        ActionStatus("disarm the venue", ActionState.NOT_ENDED, NOW, "TimeoutError"),
    )
    status = replace(TRIPPED, actions=actions, reduce_only=("cancel", "close"))
    text = text_of(status_page(status, has_orders=False))
    assert "cancel orders ended" in text
    assert "disarm the venue not ended TimeoutError" in text
    assert "Let through meanwhile: cancel, close" in text
    assert "Let through" not in text_of(status_page(NORMAL, has_orders=False))


def test_alerts_say_what_arrived_and_what_waits() -> None:
    history = History(
        "f00d",
        deliveries=(Delivery(NOW, "pager", "trigger"), Delivery(NOW, "chat", "trigger", "OSError")),
    )
    sinks = (
        SinkStatus("pager", 0, None, None),
        SinkStatus("chat", 2, 61.0, "OSError"),
        SinkStatus("siren", None, None, None),
    )
    text = text_of(status_page(replace(TRIPPED, history=history, sinks=sinks), has_orders=False))
    assert f"pager trigger {NOW:%H:%M:%S} 0" in text
    assert "chat none last error: OSError 2 oldest 1 min 1 s" in text
    assert "siren none unknown" in text
    nobody = text_of(status_page(replace(NORMAL, sinks=()), has_orders=False))
    assert "nobody is told" in nobody


def test_a_history_that_cannot_be_read_is_said_and_not_drawn() -> None:
    history = History(problem="the journal cannot be told: row 3 was changed")
    page = status_page(replace(NORMAL, history=history), has_orders=False)
    assert text_of(page).count("row 3 was changed") == 2
    assert "chart-title" not in page
    assert "None since" not in text_of(page)


def test_the_history_is_a_chart_with_words_and_a_table() -> None:
    forced = replace(PAST, left_by="ann", overruled=("database",), since=NOW - timedelta(hours=1))
    history = History("f00d", past=(forced, PAST), begins=NOW)
    page = status_page(replace(TRIPPED, history=history), has_orders=False)
    assert page.count('class="bar') >= 3
    assert "2 incidents over, the longest 1 h" in text_of(page)
    assert "one is open for 5 min" in text_of(page)
    assert "forced by ann although database failed; 3 failures" in text_of(page)
    assert 'role="img" aria-labelledby="chart-title chart-text"' in page


def test_moments_that_are_left_out_are_said() -> None:
    moments = tuple(Moment(NOW, "Recovering", f"moment {n}", 1, NOW) for n in range(30))
    again = replace(moments[0], count=7, until=NOW + timedelta(seconds=5))
    history = History("f00d", (again, *moments[1:]), 12)
    text = text_of(status_page(replace(TRIPPED, history=history), has_orders=False))
    assert "12 moments are left out here" in text
    assert "moment 0 \xd77 , last" in text


# Orders


def test_the_forms_are_there_only_where_there_are_orders() -> None:
    assert "<form" not in status_page(TRIPPED, has_orders=False)
    page = status_page(TRIPPED, has_orders=True)
    assert page.count("<form") == 2
    assert '<input type="hidden" name="epoch" value="3">' in page
    assert page.count('type="password"') == 2


def test_a_page_without_javascript_never_takes_away_what_is_typed() -> None:
    """It is refreshed where there is no form, and where somebody asks for that."""
    assert '<noscript><meta http-equiv="refresh"' in status_page(TRIPPED, has_orders=False)
    forms = status_page(TRIPPED, has_orders=True)
    assert "http-equiv" not in forms
    assert "?refresh=10" in forms
    watched = status_page(TRIPPED, has_orders=True, is_watched=True)
    assert '<meta http-equiv="refresh" content="10">' in watched
    assert "<form" not in watched


def test_a_refusal_has_the_plan_in_words() -> None:
    failed = replace(WELL, is_passed=False, detail="it is read-only")
    plan = ResetPlan(3, State.FAIL_SAFE, INCIDENT, (failed,), ("database",))
    refused = RefusedError(409, "x", "Not reset", "recovery is not proven.", epoch=3, plan=plan)
    text = text_of(refused_page("api", refused))
    assert "Not reset" in text
    assert "database: it is read-only" in text
    assert "ends incident f00d" in text
    assert "Back to the status" in text


# Nothing foreign

EVIL = "</script></style><img src=x onerror=alert(1)>'\"&{{7*7}}"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    return parser.seen


def full(text: str) -> SystemStatus:
    """Return a status with `text` wherever a text can stand."""
    incident = replace(
        INCIDENT, incident_id=text, cause=text, reason=text, action=text, acknowledged_by=text
    )
    history = History(
        text,
        (Moment(NOW, text, text, 2, NOW),),
        1,
        (Delivery(NOW, text, text),),
        (replace(PAST, cause=text, reason=text, left_by=text, overruled=(text,)),),
        NOW,
    )
    return replace(
        TRIPPED,
        service=text,
        noun=text,
        incident=incident,
        checks=(replace(WELL, name=text, detail=text),),
        store_error=text,
        sinks=(SinkStatus(text, 1, 1.0, text),),
        warnings=(text,),
        in_doubt=(InDoubt(text, text, NOW),),
        actions=(ActionStatus(text, ActionState.FAILED, NOW, text),),
        reduce_only=(text,),
        history=history,
    )


def test_every_text_is_escaped() -> None:
    page = status_page(full(EVIL), has_orders=True)
    plain = status_page(full("plain"), has_orders=True)
    assert [tag for tag, _ in tags(page)] == [tag for tag, _ in tags(plain)]
    assert "<img" not in page
    assert page.count("{{7*7}}") > 10
    refused = RefusedError(400, "x", EVIL, EVIL, epoch=EVIL)
    assert "<img" not in refused_page(EVIL, refused)


@given(st.text(max_size=60))
@settings(max_examples=30, deadline=None)
def test_no_text_breaks_the_page(text: str) -> None:
    page = status_page(full(text), has_orders=True)
    page.encode("utf-8", "replace")
    assert page.count("<main>") == 1


def test_a_page_loads_nothing_and_runs_its_own_script_only() -> None:
    page = status_page(full("x"), has_orders=True)
    for tag, attributes in tags(page):
        assert tag not in ("img", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "action", "formaction"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "../", "?", RUNBOOK))
    policy = page_headers()["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_template_is_package_data() -> None:
    place = Path(failstop.web.__file__).parent / "templates"
    names = {each.name for each in place.iterdir()}
    assert names == {
        "layout.html",
        "marks.html",
        "page.css",
        "page.html",
        "page.js",
        "result.html",
    }


# The chart and the words


@given(st.lists(st.floats(0, 1e8), max_size=24), st.none() | st.floats(0, 1e8))
def test_every_bar_is_seen_whole(seconds: list[float], open_seconds: float | None) -> None:
    past = [replace(PAST, until=NOW + timedelta(seconds=each)) for each in seconds]
    chart = chart_of(past, open_seconds)
    assert len(chart.bars) == len(seconds) + (open_seconds is not None)
    for bar in chart.bars:
        assert chart.left <= bar.x < bar.x + bar.width <= WIDTH
        assert 0 < bar.y < bar.y + bar.height <= HEIGHT
        assert bar.height >= 2.9


def test_the_bars_go_from_the_oldest_to_the_latest() -> None:
    short, long = PAST, replace(PAST, until=NOW + timedelta(hours=3), left_by="ann")
    chart = chart_of([long, short], 30.0)
    assert [bar.ending for bar in chart.bars] == ["proven", "person", "open"]
    assert chart.bars[1].height > chart.bars[2].height > chart.bars[0].height
    assert [tick.text for tick in chart.ticks] == ["1 s", "1 min", "1 h", "1 d"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than 1 s"),
        (1, "1 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert lasted(seconds) == words
    assert ago(seconds) == ("just now" if seconds < 1 else f"{words} ago")
