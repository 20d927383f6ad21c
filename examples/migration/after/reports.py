"""The reports of the desk."""

from datetime import date

from sqlalchemy import Connection, Date, cast, update

from failstop import Database
from migration.after.store import orders


def freeze_day(database: Database, day: date) -> None:
    """Freeze the day's orders once; a failure is not a day without orders, so it is raised."""
    database.run_once(f"freeze-{day}", lambda connection: _freeze(connection, day))


def _freeze(connection: Connection, day: date) -> None:
    placed_on = cast(orders.c.placed_at, Date)
    connection.execute(update(orders).where(placed_on == day).values(state="frozen"))
