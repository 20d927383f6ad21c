"""The finder of dangerous fallbacks, for code that has never heard of failstop.

Lives here: the face of `failstop.scan`. Never here: the running of scanned code; it is only parsed.
"""

from failstop.scan._engine import FileResult, Report, scan_paths, scan_source
from failstop.scan._finding import PRECEDENCE, RULES, Confidence, Finding, Rule
from failstop.scan._settings import Settings
from failstop.scan._source import Skipped

__all__ = [
    "PRECEDENCE",
    "RULES",
    "Confidence",
    "FileResult",
    "Finding",
    "Report",
    "Rule",
    "Settings",
    "Skipped",
    "scan_paths",
    "scan_source",
]
