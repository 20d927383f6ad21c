"""What an exception means: whether it trips, under which code, and what an operator does."""

from failstop.diagnosis._diagnoser import Diagnoser, Diagnosis, diagnose, explain, to_error
from failstop.diagnosis._rules import Phase
from failstop.diagnosis._runbook import RUNBOOK, kinds, runbook
from failstop.diagnosis._table import Verdict

__all__ = [
    "RUNBOOK",
    "Diagnoser",
    "Diagnosis",
    "Phase",
    "Verdict",
    "diagnose",
    "explain",
    "kinds",
    "runbook",
    "to_error",
]
