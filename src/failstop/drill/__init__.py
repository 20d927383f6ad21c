"""The proof test: a trading API on a real PostgreSQL that is broken in turn, and its books after.

Lives here: the drill and the small API that it drills. Never here: how it is shown, which is the
command line's.
"""

from failstop.drill._conductor import run_drill
from failstop.drill._report import ActReport, DrillReport, Moment, Reconciliation

__all__ = ["ActReport", "DrillReport", "Moment", "Reconciliation", "run_drill"]
