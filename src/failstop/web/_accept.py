"""Content negotiation (RFC 9110, section 12.5.1): which of some media types a client wants most."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["HEALTH", "HTML", "JSON", "preferred"]

JSON = "application/json"
HEALTH = "application/health+json"
HTML = "text/html"

MOST_RANGES = 64
QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
RANGE = re.compile(r"([!#$%&'*+.^_`|~\w-]+)/([!#$%&'*+.^_`|~\w-]+)")


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type of `offered` that the client wants most, the first where it is equal.

    Also the first where it wants none of them: a status that can be read beats none.
    """
    ranges = _ranges(accept or "*/*")
    return max(offered, key=lambda media: _quality(media, ranges))


def _ranges(accept: str) -> dict[str, float]:
    """Return the quality of each media range; one that makes no sense is none."""
    found: dict[str, float] = {}
    for text in accept.split(",")[:MOST_RANGES]:
        media, *parameters = (part.strip().lower() for part in text.split(";"))
        quality = next((each[2:].strip() for each in parameters if each.startswith("q=")), "1")
        if RANGE.fullmatch(media) and QUALITY.fullmatch(quality):
            found[media] = max(float(quality), found.get(media, 0.0))
    return found


def _quality(media: str, ranges: dict[str, float]) -> float:
    """Return what the most specific range that fits says."""
    kind = media.partition("/")[0]
    fitting = (ranges.get(each) for each in (media, f"{kind}/*", "*/*"))
    return next((quality for quality in fitting if quality is not None), 0.0)
