import logging

from failstop import Database


def settle(database: Database, trade):
    try:
        with database.transaction(key=f"settle-{trade.id}") as connection:
            connection.exec_driver_sql("SELECT settle(%s)", (trade.id,))
    except Exception:
        logging.exception("settlement of %s", trade.id)
        raise
