"""The route: one sink with what goes to it, and when. Never here: a delivery."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert, AlertSink, Severity
from failstop.errors import ConfigurationError

__all__ = ["EVERYBODY", "Route", "Sink", "routes_of"]

EVERYBODY = "*"
"""Whom an alert is for that was posted by who does not know the sinks: whoever has them."""

Sink = AlertSink | Callable[[Alert], object]
LEVELS = tuple(Severity)
LONGEST_TIMEOUT = 600.0


class Route:
    """Send to `sink` what is severe enough and of the right kind.

    A sink that has `min_severity` or `kinds` itself needs no route for them.

    Args:
        sink: an object with `name` and `send(alert)`, or a function that takes an alert.
        name: the sink's name, unique in its FailSafe; the sink's own where it is None.
        min_severity: the quietest incident that is sent.
        kinds: the kinds of incident that are sent; all where it is None.
        escalate_after: seconds without acknowledgement or recovery before an incident is sent;
            at once where it is None.
        remind_every: seconds between two pages for an incident that nobody acknowledged; only
            one page where it is None.
        timeout: seconds after which a `send` that has not returned is a failure, at most 600.

    Raises:
        ConfigurationError: the sink is none or has no name, or a setting is out of its range.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        name: str | None = None,
        min_severity: Severity | str | None = None,
        kinds: Collection[str] | None = None,
        escalate_after: float | None = None,
        remind_every: float | None = 900.0,
        timeout: float = 30.0,
    ) -> None:
        self.send: Callable[[Alert], object] = _send_of(sink)
        self.name: str = require_text("a sink's name", _name_of(sink) if name is None else name)
        if self.name == EVERYBODY:
            raise ConfigurationError(f"{EVERYBODY!r} stands for every sink; give this one a name")
        self.min_severity: Severity = _severity(
            _given(min_severity, sink, "min_severity", Severity.INFO)
        )
        self.kinds: frozenset[str] | None = _kinds(_given(kinds, sink, "kinds", None))
        self.escalate_after: float | None = (
            None if escalate_after is None else require_seconds("escalate_after", escalate_after)
        )
        self.remind_every: float | None = (
            None if remind_every is None else require_seconds("remind_every", remind_every)
        )
        self.timeout: float = require_seconds("timeout", timeout)
        if self.timeout > LONGEST_TIMEOUT:
            raise ConfigurationError(f"timeout must be at most {LONGEST_TIMEOUT:g} seconds")

    def __repr__(self) -> str:
        return f"<Route {self.name!r}>"

    def takes(self, alert: Alert) -> bool:
        """Say whether the incident of a trigger is for this sink; what follows it goes along."""
        is_severe = LEVELS.index(alert.severity) >= LEVELS.index(self.min_severity)
        return is_severe and (self.kinds is None or alert.kind in self.kinds)


def routes_of(sinks: Iterable[Sink | Route]) -> tuple[Route, ...]:
    """Return a route for every sink.

    Raises:
        ConfigurationError: one is no sink or has no name, or two have the same.
    """
    routes = tuple(each if isinstance(each, Route) else Route(each) for each in sinks)
    names = {route.name for route in routes}
    if len(names) < len(routes):
        raise ConfigurationError("two sinks have the same name; give each its own")
    return routes


def _send_of(sink: Sink) -> Callable[[Alert], object]:
    send = getattr(sink, "send", None)
    found: object = sink if send is None else send
    if callable(found) and not isinstance(sink, type):
        return found
    raise ConfigurationError(
        f"{_kind(sink)} is no sink: give an object with name and send(alert), or a function"
    )


def _kind(sink: object) -> str:
    return f"the class {sink.__name__}" if isinstance(sink, type) else type(sink).__name__


def _name_of(sink: Sink) -> Any:
    return getattr(sink, "name", getattr(sink, "__name__", None))


def _given(value: object, sink: Sink, name: str, default: object) -> Any:
    return getattr(sink, name, default) if value is None else value


def _severity(value: Severity | str) -> Severity:
    try:
        return Severity(value)
    except ValueError:
        raise ConfigurationError(
            f"min_severity must be one of {', '.join(LEVELS)}, not {value!r}"
        ) from None


def _kinds(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Collection):
        raise ConfigurationError("kinds must be a collection of the names of kinds")
    return frozenset(value)
