"""What tests need: a real PostgreSQL that breaks on command, and doubles.

Importing it loads neither psutil nor a driver, since the pytest plugin does at every start.
"""

from failstop.testing._capture import CapturingSink
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
    "HttpAnswer",
    "HttpFault",
    "HttpReceiver",
    "HttpRequest",
    "PostgresDatabase",
    "PostgresServer",
    "PostgresServerError",
    "SinkConformance",
    "sample_alert",
]
