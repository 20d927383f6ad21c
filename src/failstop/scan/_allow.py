"""The comment `# failstop: allow[FS001] reason`: a person's word that a finding is meant.

Lives here: reading the comments and leaving out what they allow. Never here: a rule.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace

from failstop.scan._finding import Finding

__all__ = ["without_allowed"]

_ALLOW = re.compile(r"#\s*failstop:\s*allow\[([^\]]*)\]:?\s*([^#]*)")


@dataclass(frozen=True, slots=True)
class _Comment:
    rules: frozenset[str]
    reason: str
    line: int
    above: int | None
    """The line it stands above, where it has a line of its own."""


def without_allowed(findings: list[Finding], text: str) -> tuple[list[Finding], int]:
    """The findings that no comment allows, and how many were left out.

    A comment without a reason allows nothing: its finding stays and says so.
    """
    if "failstop:" not in text:
        return findings, 0
    kept = {id(each): each for each in findings}
    for comment in _comments(text):
        for each in _meant(comment, findings):
            if comment.reason:
                kept.pop(id(each), None)
            elif id(each) in kept:
                told = f"{each.message} (the allow comment in line {comment.line} has no reason)"
                kept[id(each)] = replace(each, message=told)
    return list(kept.values()), len(findings) - len(kept)


def _meant(comment: _Comment, findings: list[Finding]) -> list[Finding]:
    """What stands in the comment's line or below it; else the innermost finding around it."""
    named = [each for each in findings if each.rule in comment.rules]
    direct = [each for each in named if each.line in (comment.line, comment.above)]
    around = [each for each in named if each.line <= comment.line <= each.end_line]
    return direct or sorted(around, key=lambda each: each.end_line - each.line)[:1]


def _comments(text: str) -> Iterator[_Comment]:
    """The comments, by the tokenizer: a string that looks like one is none."""
    waiting: list[tuple[re.Match[str], int]] = []
    for token in _tokens(text):
        if token.type == tokenize.COMMENT:
            match = _ALLOW.search(token.string)
            own_line = not token.line[: token.start[1]].strip()
            if match and own_line:
                waiting.append((match, token.start[0]))
            elif match:
                yield _comment(match, token.start[0], None)
        elif waiting and token.type not in _BLANK:
            yield from (_comment(match, line, token.start[0]) for match, line in waiting)
            waiting.clear()


_BLANK = frozenset({tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})


def _comment(match: re.Match[str], line: int, above: int | None) -> _Comment:
    rules = frozenset(part.strip() for part in match.group(1).split(","))
    return _Comment(rules, match.group(2).strip(), line, above)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of a text that was parsed before, as far as the tokenizer agrees."""
    try:
        yield from tokenize.generate_tokens(io.StringIO(text).readline)
    except (tokenize.TokenError, SyntaxError):
        return
