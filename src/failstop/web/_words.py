"""Times in words."""

from __future__ import annotations

__all__ = ["ago", "lasted"]

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def ago(seconds: float) -> str:
    """Return how long ago something was."""
    return "just now" if seconds < 1 else f"{lasted(seconds)} ago"


def lasted(seconds: float) -> str:
    """Return a time in its two greatest units, such as `2 h 5 min`."""
    if seconds < 1:
        return "less than 1 s"
    left, said = int(seconds), list[str]()
    for size, unit in UNITS:
        count, left = divmod(left, size)
        if count:
            said.append(f"{count} {unit}")
        elif said:
            break
    return " ".join(said[:2])
