"""What tests need: a real PostgreSQL that breaks on command, and doubles.

Importing it loads neither psutil nor a driver, since the pytest plugin does at every start.
"""

from failstop.testing._capture import CapturingSink
from failstop.testing._history import (
    History,
    HistoryEntry,
    Invocation,
    Operation,
    Verdict,
    check_bank,
    check_ledger,
    told_by,
)
from failstop.testing._protocol import Message
from failstop.testing._proxy import FaultProxy, Moment, Strike
from failstop.testing._server import PostgresDatabase, PostgresServer, PostgresServerError
from failstop.testing._sinks import (
    HttpAnswer,
    HttpFault,
    HttpReceiver,
    HttpRequest,
    SinkConformance,
    sample_alert,
)
from failstop.testing._standby import PostgresStandby

__all__ = [
    "CapturingSink",
    "FaultProxy",
    "History",
    "HistoryEntry",
    "HttpAnswer",
    "HttpFault",
    "HttpReceiver",
    "HttpRequest",
    "Invocation",
    "Message",
    "Moment",
    "Operation",
    "PostgresDatabase",
    "PostgresServer",
    "PostgresServerError",
    "PostgresStandby",
    "SinkConformance",
    "Strike",
    "Verdict",
    "check_bank",
    "check_ledger",
    "sample_alert",
    "told_by",
]
