import logging

from failstop import Database, FailSafe

log = logging.getLogger(__name__)
failsafe = FailSafe("orders", store="var/failstop.db")
database = Database.connect("postgresql+psycopg://db/orders", failsafe, deadline=2.0)


def audit(event):
    try:
        with database.transaction(key=f"audit-{event.id}") as connection:
            connection.exec_driver_sql("SELECT append_audit(%s)", (event.id,))
        event.sent = notify(event)
    except Exception:  # expect: FS011
        log.exception("audit lost")


def notify(event):
    return bool(event)
