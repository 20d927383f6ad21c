"""`python -m worker DIRECTORY`: run until SIGTERM or SIGINT, then finish the message in hand.

When an incident opens it leaves with code 70: let a supervisor start it anew (systemd's
`Restart=on-failure`, a container's restart policy). Then it waits for the recovery.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

from failstop import Database, FailSafe
from failstop.alerts import LoggingSink
from failstop.events import Incident
from trading import Exchange, TradeService
from worker import Spool, consume, make_handler


def main(directory: Path) -> None:
    logging.basicConfig(level=logging.INFO)
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    store = os.environ["FAILSTOP_STORE"]  # a trip outlives the process that saw it
    exchange = Exchange(os.environ["EXCHANGE_URL"])
    failsafe = FailSafe("order-worker", store=store, sinks=[LoggingSink()], on_trip="exit")
    database = Database.connect(os.environ.get("DATABASE_URL"), failsafe, deadline=2.0)

    @failsafe.on_trip(timeout=10.0)
    def cancel_open_orders(incident: Incident) -> None:
        exchange.cancel_all()

    with failsafe:
        handle = make_handler(failsafe, TradeService(database))
        consume(Spool(directory), failsafe, handle, stopping)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
