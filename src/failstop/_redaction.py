"""The one place that makes foreign text safe for output: alerts, journal, responses, logs.

Foreign is every text this library did not write itself: a person's reason, an error's message, a
check's detail. Removed are URLs and DSNs, credentials, SQL with its data, and characters that could
forge a line. In doubt it removes: a reader can ask, but a secret cannot be called back. Never here:
which text goes where.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LONGEST", "redact"]

LONGEST: Final = 16_384
"""Characters that are kept of one text."""

CUT = "… (cut)"

# Every pattern is linear in the text: it starts at a word's start, and what it skips is bounded.

_START = r"(?:\b|(?<=\\[nrt]))"
"""Where a word starts, also behind a line break that Python's repr spelled out."""

_SQL = re.compile(
    rf"""
      \[(?:SQL|parameters):                       # the blocks of SQLAlchemy's errors
    | (?-i:(?<![A-Z_])(?:DETAIL|LINE[ ]\d+|CONTEXT|STATEMENT|QUERY|WHERE)):   # PostgreSQL's
    | \bKey\s\([^)]{{0,500}}\)=\( | \bFailing\srow\scontains\b
    | (?-i:(?<![A-Z_])(?:SELECT|INSERT|UPDATE|DELETE|MERGE|ALTER|COPY))(?=[\s/*(])\s*[\w"'*(/$%]
    | {_START}(?:
        select\s+(?:(?:distinct|all)\s+)?(?:[\d*'(:$%]|[\w."]++\s*(?:[,(:]|\bfrom\b|\bas\b))
      | (?:insert|merge)\s+into\b
      | delete\s+from\b
      | update\s+(?:only\s+)?[\w."]++\s+(?:as\s+\w++\s+)?set\b
      | with\s+(?:recursive\s+)?\w++\s+as\s*\(
      | values\s*\(
      | (?:create|alter|drop)\s+(?:or\s+replace\s+)?(?:\w++\s+)?
        (?:table|index|role|user|database|schema|view|function|procedure|sequence|type)\b
      | copy\s+[\w."]++\s*(?:\([^)]{{0,500}}\)\s*)?(?:from|to)\b
      | (?:call|execute)\s+[\w."]++\s*\(
      )
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Where SQL or its data begins; all that follows goes too, as nobody can tell where it ends."""

_VALUE = r"""(?:(?:'(?:[^'\\]|\\.|'')*+'?|"(?:[^"\\]|\\.|"")*+"?)?(?:\\.|\S)*+)"""
"""A value as libpq, JSON, Python and query strings write one: quoted or not, closed or not."""

_TELLTALE = (
    r"pass(?:word|wd|phrase|code|file|(?![a-z]))|pwd|secret|token|credential|signature|"
    r"(?:api|access|auth|private|routing|integration|signing|encryption|account|shared)[_-]?key"
)
_DSN_NAME = "host|hostaddr|port|dbname|user|username|service|sslkey|sslcert"

_RULES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), substitute)
    for pattern, substitute in (
        (r"-----BEGIN [a-z ]{0,40}-----.*?(?:-----END [a-z ]{0,40}-----|\Z)", "***"),
        (r"(?<![\w+.-])[\w+.-]*+:/{2,3}(?:[^\n]{0,512}@)?\S*", "[url]"),
        (r"\b((?:proxy-)?authorization|(?:set-)?cookie)['\"]?\s*[:=][^\n]*", r"\1: ***"),
        (rf"{_START}(bearer)\s+\S+", r"\1 ***"),
        (r"\b(basic|digest)\s+[a-z\d+/=]{12,}", r"\1 ***"),
        (
            rf"(?<![\w-])(?=[\w-]*(?:{_TELLTALE}))([\w-]++)['\"]?\s*(?:=>|[:=])\s*{_VALUE}",
            r"\1=***",
        ),
        (rf"\b({_DSN_NAME})\s?=\s?{_VALUE}", r"\1=***"),
        (r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?", "***"),
        (r"\b(?:xox[a-z]-|xapp-|gh[a-z]_|github_pat_|glpat-|sk_live_|whsec_|AKIA)[\w+/=-]+", "***"),
    )
)


def redact(text: str) -> str:
    """Return `text` without URLs, credentials, SQL and unprintable characters.

    The answer is one line of about `LONGEST` characters at most. It is a net, no proof: a secret
    that reads like prose cannot be told from prose. So what this library writes itself holds no
    foreign error's text in the first place.
    """
    kept = "".join(each if each.isprintable() or each == "\n" else " " for each in text[:LONGEST])
    found = _SQL.search(kept)
    if found is not None:
        kept = kept[: found.start()] + "[sql]"
    for pattern, substitute in _RULES:
        kept = pattern.sub(substitute, kept)
    kept = kept.replace("\n", " ")
    return kept + CUT if len(text) > LONGEST else kept
