"""The flake8 plugin: the same findings, high and medium, as flake8 tells them.

Lives here: the class that flake8 loads. Never here: a rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from failstop.scan._engine import scan_source
from failstop.scan._finding import Confidence
from failstop.scan._source import Skipped

__all__ = ["Plugin"]


class Plugin:
    """The entry point `FS` under `flake8.extension`; it needs no setting and reads none."""

    def __init__(self, tree: ast.AST, lines: list[str], filename: str = "<source>") -> None:
        self.text = "".join(lines)
        self.filename = filename

    def run(self) -> Iterator[tuple[int, int, str, type[Plugin]]]:
        """Line, column, text and this class, as flake8 wants each finding."""
        try:
            findings = scan_source(self.text, self.filename)
        except (Skipped, RecursionError):
            return
        for each in findings:
            if each.confidence is not Confidence.LOW:
                yield each.line, each.column - 1, f"{each.rule} {each.message}", type(self)
