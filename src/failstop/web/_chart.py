"""The chart of the last incidents: where each bar stands, how high, and what it says in words.

Pure geometry in the units of the drawing. Height is the logarithm of the time that an incident
lasted, for a second and a day must both be seen. Never here: a colour, or a tag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from failstop._history import PastIncident
from failstop.web._words import lasted

__all__ = ["Bar", "Chart", "Tick", "chart_of", "ending_of"]

WIDTH, HEIGHT = 360.0, 150.0
LEFT, TOP, BOTTOM = 48.0, 10.0, 24.0
FEWEST_SLOTS = 8
TICKS = ((1.0, "1 s"), (60.0, "1 min"), (3600.0, "1 h"), (86_400.0, "1 d"), (2_592_000.0, "30 d"))
LOWEST = 3.0
"""Height of the smallest bar: nothing that happened is invisible."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One incident as a bar; `ending` is `proven`, `person`, `forced` or `open`."""

    x: float
    y: float
    width: float
    height: float
    ending: str
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across the chart."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, the oldest first, and the lines behind them."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    base: float = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class _Span:
    seconds: float
    ending: str
    text: str


def chart_of(past: Sequence[PastIncident], open_seconds: float | None) -> Chart:
    """Return the chart of `past`, the latest first, and of the incident that is open."""
    spans = [_span(incident) for incident in reversed(past)]
    if open_seconds is not None:
        spans.append(_Span(open_seconds, "open", f"open for {lasted(open_seconds)}"))
    longest = max((span.seconds for span in spans), default=1.0)
    shown = next((n for n, (seconds, _) in enumerate(TICKS) if seconds >= longest), len(TICKS) - 1)
    top = TICKS[max(shown, 1)][0]
    slot = (WIDTH - LEFT) / max(len(spans), FEWEST_SLOTS)
    bars = tuple(_bar(span, LEFT + slot * n, slot, top) for n, span in enumerate(spans))
    ticks = tuple(Tick(_y(seconds, top), text) for seconds, text in TICKS if seconds <= top)
    return Chart(bars, ticks)


def ending_of(incident: PastIncident) -> str:
    """Return in one word how an incident ended."""
    if incident.overruled:
        return "forced"
    return "person" if incident.left_by is not None else "proven"


def _span(incident: PastIncident) -> _Span:
    text = f"{_day(incident.since)}, {lasted(incident.seconds)}: {incident.reason}"
    return _Span(incident.seconds, ending_of(incident), text)


def _bar(span: _Span, x: float, slot: float, top: float) -> Bar:
    y = min(_y(span.seconds, top), HEIGHT - BOTTOM - LOWEST)
    width = min(slot * 0.7, 22.0)
    x = round(x + (slot - width) / 2, 1)
    return Bar(x, y, round(width, 1), round(HEIGHT - BOTTOM - y, 1), span.ending, span.text)


def _y(seconds: float, top: float) -> float:
    """Return the height on the drawing: the logarithm, from a fifth of a second to `top`."""
    low = math.log(0.2)
    share = (math.log(min(max(seconds, 0.2), top)) - low) / (math.log(top) - low)
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _day(moment: datetime) -> str:
    return f"{moment:%d %b %Y %H:%M}"
