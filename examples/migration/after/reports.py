"""The reports of the desk."""

from datetime import date

from sqlalchemy import Date, cast, update

from failstop import Database
from migration.after.store import orders


def freeze_day(database: Database, day: date) -> None:
    """Freeze the day's orders; a failure is not a day without orders, so it is raised.

    An order that is being placed stays for `Desk.reconcile()`. A second call freezes what is left.
    """
    placed_on = cast(orders.c.placed_at, Date)
    known = update(orders).where(placed_on == day, orders.c.state != "placing")
    with database.transaction() as connection:
        connection.execute(known.values(state="frozen"))
