"""Where PostgreSQL's messages end and what they run, without a socket."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failstop.testing._protocol import Conversation, Message, statements_of


def frame(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return frame("Q", sql.encode() + b"\0")


def request(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!ii", len(body) + 8, code) + body


SSL, GSSENC, CANCEL = request(80877103), request(80877104), request(80877102, b"8bytes!!")
STARTUP = request(196608, b"user\0postgres\0\0")
READY = frame("Z", b"I")


@pytest.fixture
def talk() -> Conversation:
    return Conversation(1)


def opened() -> Conversation:
    talk = Conversation(1)
    talk.from_client(STARTUP)
    talk.from_server(frame("R", b"\0\0\0\0") + READY)
    return talk


def client(talk: Conversation, data: bytes) -> list[Message]:
    return [message for message, _ in talk.from_client(data)]


def server(talk: Conversation, data: bytes) -> list[Message]:
    return [message for message, _ in talk.from_server(data)]


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("COMMIT", ["COMMIT"]),
        ("COMMIT;", ["COMMIT"]),
        ("BEGIN; LOCK TABLE f IN ROW SHARE MODE;SELECT 1", None),
        ("  begin\n\tisolation  level serializable ", ["begin isolation level serializable"]),
        ("-- a comment; no end\nCOMMIT -- ;", ["COMMIT"]),
        ("/* ; */ COMMIT /* ; ", ["COMMIT"]),
        ("SELECT '; COMMIT'", ["SELECT '; COMMIT'"]),
        ("SELECT 'it''s; COMMIT'; ROLLBACK", ["SELECT 'it''s; COMMIT'", "ROLLBACK"]),
        (r"SELECT E'\'; COMMIT'", [r"SELECT E'\'; COMMIT'"]),
        ('SELECT "a;b"', ['SELECT "a;b"']),
        ("DO $$ BEGIN; COMMIT; END $$; COMMIT", ["DO $$ BEGIN; COMMIT; END $$", "COMMIT"]),
        ("DO $x$ a; $$; b $x$", ["DO $x$ a; $$; b $x$"]),
        ("SELECT $1; SELECT $2", ["SELECT $1", "SELECT $2"]),
        ("SELECT 'open; COMMIT", ["SELECT 'open; COMMIT"]),
        (" ; ;; ", []),
        ("", []),
    ],
)
def test_statements_end_at_semicolons_that_are_no_part_of_one(
    sql: str, statements: list[str] | None
) -> None:
    expected = statements
    if expected is None:
        expected = ["BEGIN", "LOCK TABLE f IN ROW SHARE MODE", "SELECT 1"]
    assert list(statements_of(sql)) == expected


def test_a_query_runs_every_statement_in_it() -> None:
    [message] = client(opened(), query("BEGIN; SELECT 1"))
    assert (message.kind, message.text) == ("Query", "BEGIN; SELECT 1")
    assert message.runs == ("BEGIN", "SELECT 1")


def test_an_execute_runs_what_its_portal_was_bound_to() -> None:
    talk = opened()
    client(talk, frame("P", b"s1\0COMMIT\0\0\0") + frame("P", b"s2\0SELECT 1\0\0\0"))
    client(talk, frame("B", b"p\0s1\0") + frame("B", b"\0s2\0"))
    executed = client(talk, frame("E", b"p\0\0\0\0\0") + frame("E", b"\0\0\0\0\0"))
    assert [message.runs for message in executed] == [("COMMIT",), ("SELECT 1",)]


def test_a_prepared_statement_is_known_when_it_is_bound_again() -> None:
    talk = opened()
    client(talk, frame("P", b"s1\0COMMIT\0\0\0") + frame("S"))
    _, execute = client(talk, frame("B", b"\0s1\0") + frame("E", b"\0\0\0\0\0"))
    assert execute.runs == ("COMMIT",)


def test_an_answer_has_the_flight_of_what_it_answers() -> None:
    talk = opened()
    asked = client(talk, query("SELECT 1") + query("SELECT 2"))
    told = server(talk, frame("C", b"SELECT 1\0") + READY + frame("C", b"SELECT 2\0") + READY)
    assert [message.flight for message in asked] == [1, 2]
    assert [message.flight for message in told] == [1, 1, 2, 2]
    assert told[0].text == "SELECT 1"


def test_the_sync_that_a_copy_swallows_is_not_counted() -> None:
    talk = opened()
    client(talk, frame("P", b"\0COPY t FROM STDIN\0\0\0") + frame("E", b"\0") + frame("S"))
    server(talk, frame("G", b"\0\0\0"))
    client(talk, frame("d", b"row") + frame("c") + frame("S"))
    server(talk, frame("C", b"COPY 1\0") + READY)
    [asked] = client(talk, query("SELECT 1"))
    [told] = server(talk, frame("C", b"SELECT 1\0"))
    assert asked.flight == told.flight


def test_the_sqlstate_of_an_error_is_its_text() -> None:
    [message] = server(opened(), frame("E", b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"))
    assert (message.kind, message.text) == ("ErrorResponse", "57P01")


def test_no_password_is_kept() -> None:
    talk = Conversation(1)
    client(talk, STARTUP)
    [message] = client(talk, frame("p", b"secret\0"))
    assert message.kind == "Password"
    assert "secret" not in repr(message)


@pytest.mark.parametrize("ask", [SSL, GSSENC])
def test_a_refused_encryption_is_followed_by_the_startup(talk: Conversation, ask: bytes) -> None:
    [asked] = client(talk, ask)
    [answer] = server(talk, b"N")
    [startup] = client(talk, STARTUP)
    assert (asked.kind, answer.kind) in {
        ("SSLRequest", "EncryptionAnswer"),
        ("GSSENCRequest", "EncryptionAnswer"),
    }
    assert startup.runs == ("STARTUP",)


def test_encrypted_bytes_pass_untouched_both_ways(talk: Conversation) -> None:
    talk.from_client(SSL)
    talk.from_server(b"S")
    assert talk.from_client(b"Q\0\0")[0][1] == b"Q\0\0"
    assert talk.from_server(b"Z\xff")[0][1] == b"Z\xff"


def test_encryption_may_begin_without_asking(talk: Conversation) -> None:
    [(message, raw)] = talk.from_client(b"\x16\x03\x01hello")
    assert (message.kind, raw) == ("Opaque", b"\x16\x03\x01hello")


def test_an_error_in_place_of_the_encryption_answer_is_a_message(talk: Conversation) -> None:
    talk.from_client(SSL)
    [message] = server(talk, frame("E", b"SFATAL\0C53300\0\0"))
    assert (message.kind, message.text) == ("ErrorResponse", "53300")


def test_a_cancel_is_a_moment(talk: Conversation) -> None:
    [message] = client(talk, CANCEL)
    assert message.runs == ("CANCEL",)
    assert message.ends_turn


CLIENT_BYTES = SSL + STARTUP + query("BEGIN; SELECT 1") + frame("P", b"s\0COMMIT\0\0\0")
CLIENT_BYTES += frame("B", b"\0s\0") + frame("E", b"\0\0\0\0\0") + frame("S") + frame("X")
SERVER_BYTES = b"N" + frame("R", b"\0\0\0\0") + READY + frame("C", b"BEGIN\0") + READY


@given(st.lists(st.integers(1, 30), max_size=40), st.lists(st.integers(1, 30), max_size=40))
def test_the_pieces_in_which_bytes_come_change_nothing(ups: list[int], downs: list[int]) -> None:
    def cut(data: bytes, sizes: list[int]) -> list[bytes]:
        pieces = []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        return [*pieces, data]

    def talk_in(ups: list[int], downs: list[int]) -> list[tuple[Message, bytes]]:
        talk = Conversation(1)
        begun = talk.from_client(CLIENT_BYTES[: len(SSL)])
        begun += talk.from_server(SERVER_BYTES[:1])
        for piece in cut(CLIENT_BYTES[len(SSL) :], ups):
            begun += talk.from_client(piece)
        for piece in cut(SERVER_BYTES[1:], downs):
            begun += talk.from_server(piece)
        return begun

    assert talk_in(ups, downs) == talk_in([], [])
    passed = b"".join(raw for message, raw in talk_in(ups, downs) if message.sender == "client")
    assert passed == CLIENT_BYTES


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_raise_and_none_are_changed(up: bytes, down: bytes) -> None:
    talk = Conversation(1)
    passed_up = b"".join(raw for _, raw in talk.from_client(up))
    passed_down = b"".join(raw for _, raw in talk.from_server(down))
    assert up.startswith(passed_up)
    assert down.startswith(passed_down)
