"""What tests need: a real PostgreSQL that breaks on command, and doubles.

Importing it loads neither psutil nor a driver, since the pytest plugin does at every start.
"""

from failstop.testing._capture import CapturingSink
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

__all__ = [
    "CapturingSink",
    "FaultProxy",
    "HttpAnswer",
    "HttpFault",
    "HttpReceiver",
    "HttpRequest",
    "Message",
    "Moment",
    "PostgresDatabase",
    "PostgresServer",
    "PostgresServerError",
    "SinkConformance",
    "Strike",
    "sample_alert",
]
