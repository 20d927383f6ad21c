"""PostgreSQL's protocol 3 as far as a proxy has to know it: where messages end, what they run.

Pure: bytes in, messages out. Nothing here knows a socket.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

__all__ = ["Conversation", "Framed", "Message", "Sender", "statements_of"]

Sender = Literal["client", "server"]

_FRONTEND = {
    "B": "Bind", "C": "Close", "D": "Describe", "E": "Execute", "F": "FunctionCall",
    "H": "Flush", "P": "Parse", "Q": "Query", "S": "Sync", "X": "Terminate",
    "c": "CopyDone", "d": "CopyData", "f": "CopyFail", "p": "Password",
}  # fmt: skip
_BACKEND = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "A": "NotificationResponse",
    "C": "CommandComplete", "D": "DataRow", "E": "ErrorResponse", "G": "CopyInResponse",
    "H": "CopyOutResponse", "I": "EmptyQueryResponse", "K": "BackendKeyData",
    "N": "NoticeResponse", "R": "Authentication", "S": "ParameterStatus", "T": "RowDescription",
    "V": "FunctionCallResponse", "W": "CopyBothResponse", "Z": "ReadyForQuery", "c": "CopyDone",
    "d": "CopyData", "n": "NoData", "s": "PortalSuspended", "t": "ParameterDescription",
    "v": "NegotiateProtocolVersion",
}  # fmt: skip
_REQUESTS = {80877102: "CancelRequest", 80877103: "SSLRequest", 80877104: "GSSENCRequest"}
_MOMENTS = {
    "CancelRequest": "CANCEL",
    "GSSENCRequest": "GSSENCREQUEST",
    "SSLRequest": "SSLREQUEST",
    "StartupMessage": "STARTUP",
    "Terminate": "TERMINATE",
}
_ENDS_FLIGHT = {"StartupMessage", "Query", "Sync", "FunctionCall"}  # each: one ReadyForQuery
_ENDS_TURN = {"Flush", "Terminate", *_REQUESTS.values()}
_TLS_HANDSHAKE = 0x16

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*(?:[^*]|\*(?!/))*(?:\*/|$) )
    | (?P<quoted>  [eE]'(?:[^'\\]|\\.|'')*(?:'|$) | '(?:[^']|'')*(?:'|$) | "(?:[^"]|"")*(?:"|$)
                 | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|$) )
    | (?P<end> ; )
    | (?P<other> \w[\w$]* | [\s(),.=*]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation.

    `text` is the SQL of a Query or Parse, the tag of a CommandComplete, the SQLSTATE of an error or
    a notice, the status of a ReadyForQuery, else empty. `runs` holds the statements that it makes
    the server run: those of a Query, or the one that an Execute's portal was bound to. `flight`
    counts what the server answers as one: the messages up to a Query or Sync, and their answer up
    to ReadyForQuery, have the same number.
    """

    connection: int
    sender: Sender
    kind: str
    text: str
    runs: tuple[str, ...]
    flight: int

    @property
    def ends_turn(self) -> bool:
        """Whether the client has said what it wants, and now waits or goes."""
        return self.kind in _ENDS_FLIGHT or self.kind in _ENDS_TURN


Framed = tuple[Message, bytes]


class _Phase(Enum):
    STARTUP = auto()
    ASKED = auto()  # SSLRequest or GSSENCRequest: the answer is one byte
    OPEN = auto()
    OPAQUE = auto()  # encrypted


class Conversation:
    """Cut both directions of one connection into messages."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._phase = _Phase.STARTUP
        self._pending = {"client": bytearray(), "server": bytearray()}
        self._flights = {"client": 0, "server": 0}
        self._ended_by = ""
        self._statements: dict[bytes, tuple[str, ...]] = {}
        self._portals: dict[bytes, tuple[str, ...]] = {}

    def from_client(self, data: bytes) -> list[Framed]:
        """Return the messages that `data` completes."""
        self._pending["client"] += data
        return list(self._cut_client())

    def from_server(self, data: bytes) -> list[Framed]:
        """Return the messages that `data` completes."""
        self._pending["server"] += data
        return list(self._cut_server())

    def _cut_client(self) -> Iterator[Framed]:
        pending = self._pending["client"]
        while pending:
            if self._phase is _Phase.STARTUP and pending[0] == _TLS_HANDSHAKE:
                self._phase = _Phase.OPAQUE  # sslnegotiation=direct
            if self._phase is _Phase.OPAQUE:
                yield self._message("client", "Opaque", self._take("client", len(pending)))
            elif self._phase is _Phase.OPEN:
                if not (raw := self._take_frame("client", 1)):
                    return
                yield self._frontend(raw)
            else:
                if not (raw := self._take_frame("client", 0)):
                    return
                yield self._startup(raw)

    def _cut_server(self) -> Iterator[Framed]:
        pending = self._pending["server"]
        while pending:
            if self._phase is _Phase.OPAQUE:
                yield self._message("server", "Opaque", self._take("server", len(pending)))
            elif self._phase is _Phase.ASKED and pending[0] != ord("E"):
                yield self._answer(self._take("server", 1))
            else:
                if not (raw := self._take_frame("server", 1)):
                    return
                yield self._backend(raw)

    def _startup(self, raw: bytes) -> Framed:
        code = struct.unpack_from("!i", raw, 4)[0] if len(raw) > 7 else 0
        kind = _REQUESTS.get(code, "StartupMessage")
        self._phase = _Phase.OPEN if kind == "StartupMessage" else _Phase.ASKED
        return self._message("client", kind, raw)

    def _answer(self, raw: bytes) -> Framed:
        self._phase = _Phase.OPAQUE if raw in {b"S", b"G"} else _Phase.STARTUP
        return self._message("server", "EncryptionAnswer", raw, raw.decode("latin-1"))

    def _frontend(self, raw: bytes) -> Framed:
        kind = _FRONTEND.get(chr(raw[0]), "Unknown")
        if kind == "Query":
            text = _text(raw[5:])
            return self._message("client", kind, raw, text, statements_of(text))
        if kind == "Parse":
            name, sql = _fields(raw, 2)
            text = sql.decode(errors="replace")
            self._statements[name] = statements_of(text)
            return self._message("client", kind, raw, text)
        if kind == "Bind":
            portal, name = _fields(raw, 2)
            self._portals[portal] = self._statements.get(name, ())
        if kind == "Execute":
            return self._message("client", kind, raw, "", self._portals.get(_fields(raw, 1)[0], ()))
        return self._message("client", kind, raw)

    def _backend(self, raw: bytes) -> Framed:
        kind = _BACKEND.get(chr(raw[0]), "Unknown")
        text = ""
        if kind in {"CommandComplete", "ReadyForQuery"}:
            text = _text(raw[5:])
        if kind in {"ErrorResponse", "NoticeResponse"}:
            text = _sqlstate(raw)
        return self._message("server", kind, raw, text)

    def _message(
        self, sender: Sender, kind: str, raw: bytes, text: str = "", runs: tuple[str, ...] = ()
    ) -> Framed:
        runs = runs or ((_MOMENTS[kind],) if kind in _MOMENTS else ())
        flight = 0 if kind == "Password" else self._flights[sender]
        if sender == "client" and kind in _ENDS_FLIGHT:
            self._flights["client"] += 1
            self._ended_by = kind
        swallowed = kind == "CopyInResponse" and self._ended_by == "Sync"
        if kind == "ReadyForQuery" or swallowed:  # in COPY the server ignores that Sync
            self._flights["server"] += 1
        return Message(self._connection, sender, kind, text, runs, flight), raw

    def _take_frame(self, sender: Sender, offset: int) -> bytes:
        """Take one message off, nothing where it is not whole; its length is at `offset`."""
        pending = self._pending[sender]
        if len(pending) < offset + 4:
            return b""
        length = offset + max(4, struct.unpack_from("!i", pending, offset)[0])
        return self._take(sender, length) if len(pending) >= length else b""

    def _take(self, sender: Sender, length: int) -> bytes:
        taken = bytes(self._pending[sender][:length])
        del self._pending[sender][:length]
        return taken


def statements_of(sql: str) -> tuple[str, ...]:
    """Split SQL at the semicolons that end a statement, without comments, in single spaces."""
    statements = [""]
    for token in _TOKEN.finditer(sql):
        if token["end"]:
            statements.append("")
        else:
            statements[-1] += " " if token["comment"] else token[0]
    found = (" ".join(statement.split()) for statement in statements)
    return tuple(statement for statement in found if statement)


def _fields(raw: bytes, count: int) -> list[bytes]:
    return (raw[5:].split(b"\0", count) + [b""] * count)[:count]


def _text(body: bytes) -> str:
    return body.rstrip(b"\0").decode(errors="replace")


def _sqlstate(raw: bytes) -> str:
    codes = [field[1:] for field in raw[5:].split(b"\0") if field[:1] == b"C"]
    return codes[0].decode(errors="replace") if codes else ""
