"""`python -m worker DIRECTORY`: run until SIGTERM or SIGINT, then finish the message in hand."""

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event

from failstop import Database, FailSafe
from failstop.alerts import LoggingSink
from trading import TradeService
from worker import Spool, consume, make_handler


def main(directory: Path) -> None:
    logging.basicConfig(level=logging.INFO)
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    store = os.environ["FAILSTOP_STORE"]  # a trip outlives the process that saw it
    failsafe = FailSafe("order-worker", store=store, sinks=[LoggingSink()])
    database = Database.connect(os.environ.get("DATABASE_URL"), failsafe, deadline=2.0)
    with failsafe:
        handle = make_handler(failsafe, TradeService(database))
        consume(Spool(directory), failsafe, handle, stopping)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
