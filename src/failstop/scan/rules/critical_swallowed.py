"""FS002: a swallowed CriticalError, in code that uses failstop."""

from __future__ import annotations

from collections.abc import Iterator

from failstop.scan._context import Attempt, Context, confidence_of
from failstop.scan._finding import Confidence, Finding


def find(context: Context) -> Iterator[Finding]:
    """Handlers around guarded calls that can take a CriticalError and do not raise again."""
    if not context.uses_failstop:
        return
    for attempt in context.attempts:
        if attempt.is_cleanup or not attempt.catch.is_critical or _raises(attempt):
            continue
        guarded = any(touch.kind == "guarded" for touch in attempt.touches)
        confidence = Confidence.HIGH if guarded else confidence_of(attempt.strength)
        yield context.finding(
            "FS002",
            attempt.handler or attempt.statement,
            confidence,
            f"{attempt.catch.text} takes the CriticalError of {attempt.flow_to('')[0]} and does "
            "not raise it again",
            flow=attempt.flow_to("goes on"),
            line=attempt.line,
            end_line=attempt.end_line,
        )


def _raises(attempt: Attempt) -> bool:
    """True where every way from the handler raises."""
    return bool(attempt.paths) and all(path.end == "raise" for path in attempt.paths)
