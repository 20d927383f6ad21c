"""Settings checked at construction, with the mend in the text."""

from __future__ import annotations

import math

from failstop.errors import ConfigurationError

__all__ = ["require_seconds", "require_text"]


def require_seconds(name: str, value: object) -> float:
    """Return `value` as seconds.

    Raises:
        ConfigurationError: it is not a finite number above zero.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be a finite number of seconds above zero")
    return float(value)


def require_text(name: str, value: object) -> str:
    """Return `value`.

    Raises:
        ConfigurationError: it is no text, or empty.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} must be a text that is not empty")
    return value
