"""The store's table of safety actions: which has begun for which incident, and how it ended.

An action is claimed by its first row, so that it begins once for all the processes of a host and
is not repeated by one that comes after. Never here: the action, an alert, the journal, or a
transaction of its own.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from failstop._process import is_gone, is_of_here
from failstop._storefile import problem
from failstop.events import ActionBegan, ActionEnded, ActionFailed, ActionState
from failstop.status import ActionStatus

__all__ = ["actions_of", "claim", "empty", "interrupted", "settle"]


def claim(connection: sqlite3.Connection, event: ActionBegan, runner: str) -> bool:
    """Write that an action begins; False where it has begun already. Older incidents are dropped.

    An older action that has not ended stays, until it is known how it did.
    """
    connection.execute(
        "DELETE FROM action WHERE incident != ? AND state != ?",
        (event.incident_id, ActionState.BEGUN.value),
    )
    done = connection.execute(
        "INSERT INTO action (incident, name, state, since, runner) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (incident, name) DO NOTHING",
        (
            event.incident_id,
            event.action,
            ActionState.BEGUN.value,
            event.occurred_at.isoformat(),
            runner,
        ),
    )
    return done.rowcount == 1


def settle(connection: sqlite3.Connection, event: ActionEnded | ActionFailed) -> bool:
    """Write how an action ended; False for an interruption that is written already."""
    state, error = ActionState.ENDED, None
    if isinstance(event, ActionFailed):
        state, error = event.state, event.error
    done = connection.execute(
        "UPDATE action SET state = ?, since = ?, error = ? WHERE incident = ? AND name = ? "
        "AND (state = ? OR ? != ?)",
        (
            state.value,
            event.occurred_at.isoformat(),
            error,
            event.incident_id,
            event.action,
            ActionState.BEGUN.value,
            state.value,
            ActionState.INTERRUPTED.value,
        ),
    )
    return done.rowcount == 1 or state is not ActionState.INTERRUPTED


def interrupted(connection: sqlite3.Connection, overdue: datetime) -> tuple[tuple[str, str], ...]:
    """Return incident and name of each action whose process is gone before it ended.

    Of a process in another container nothing is known: it counts as gone where its action began
    before `overdue`, for it would have said by now how that ended.
    """
    rows = connection.execute(
        "SELECT incident, name, runner, since < ? FROM action WHERE state = ? ORDER BY rowid",
        (overdue.isoformat(), ActionState.BEGUN.value),
    ).fetchall()
    found = ((*action, runner.partition("#")[0], is_late) for *action, runner, is_late in rows)
    return tuple(
        (incident, name)
        for incident, name, runner, is_late in found
        if is_gone(runner) or (is_late and not is_of_here(runner))
    )


def actions_of(
    connection: sqlite3.Connection, name: str, incident_id: str
) -> tuple[ActionStatus, ...]:
    """Return the actions of an incident, in the order in which they began.

    Raises:
        StoreError: a row makes no sense.
    """
    rows = connection.execute(
        "SELECT name, state, since, error FROM action WHERE incident = ? ORDER BY rowid",
        (incident_id,),
    ).fetchall()
    try:
        return tuple(
            ActionStatus(action, ActionState(state), datetime.fromisoformat(since), error)
            for action, state, since, error in rows
        )
    except (TypeError, ValueError) as error:
        raise problem("store_corrupt", name, "holds a safety action that makes no sense") from error


def empty(connection: sqlite3.Connection) -> None:
    """In a forked child with a store in memory: what has not ended is the parent's to end."""
    connection.execute("DELETE FROM action WHERE state = ?", (ActionState.BEGUN.value,))
