"""The first module that was moved to failstop, and then left half-way."""

import logging

from failstop import Database, FailSafe

from migration.before.store import engine

logger = logging.getLogger(__name__)
failsafe = FailSafe("trading-reports")
database = Database(engine, failsafe)


def freeze_day(day):
    """Freeze the day's orders; the caller goes on with the reports."""
    try:
        with database.transaction() as connection:
            _freeze(connection, day)
    except Exception as error:
        notify(f"day {day} not frozen: {type(error).__name__}")


def _freeze(connection, day):
    connection.exec_driver_sql(
        "UPDATE orders SET state = 'frozen' WHERE placed_at::date = %(day)s", {"day": day}
    )


def notify(text):
    """Tell the desk."""
    logger.warning(text)
