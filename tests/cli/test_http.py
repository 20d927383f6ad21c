"""How a command asks a service: within its time, and with a token that goes nowhere else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import pytest

from failstop.cli import main
from failstop.cli._http import Service, UnreachableError, read_token

Talk = Callable[[socket.socket], object]
TOKEN = "s3cret-" * 6


@contextmanager
def answering(talk: Talk) -> Iterator[str]:
    """Let `talk` answer one client; give the URL."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                talk(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


def answer(content: bytes, head: bytes = b"200 OK") -> Talk:
    whole = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(content), content)
    return lambda client: client.sendall(whole)


def silent(client: socket.socket) -> None:
    client.recv(1)


def dripping(client: socket.socket) -> None:
    """Send a byte at a time for ever: each comes within the time, the whole never."""
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(500):
        try:
            client.sendall(b" ")
        except OSError:
            return
        time.sleep(0.02)


@pytest.mark.parametrize("talk", [silent, dripping])
def test_an_answer_has_its_time(talk: Talk) -> None:
    with answering(talk) as url:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="did not answer in time"):
            Service(url, timeout=0.3).get("/x")
        assert time.monotonic() - began < 5.0


def endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            client.sendall(bytes(65536))
    except OSError:
        return


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (endless, "too long to be the service's"),
        (answer(b"<html>"), "no service of failstop"),
        (answer(b"[]"), "no service of failstop"),
        (answer(b"[" * 100_000), "no service of failstop"),
        (lambda client: client.sendall(b"hello\r\n\r\n"), "cannot be reached (BadStatusLine)"),
        (lambda client: client.close(), "cannot be reached"),
    ],
)
def test_what_is_no_answer_is_a_sentence(talk: Talk, said: str) -> None:
    with answering(talk) as url, pytest.raises(UnreachableError) as raised:
        Service(url, timeout=5.0).get("/x")
    assert said in str(raised.value)


def test_a_redirect_is_not_followed() -> None:
    """A token goes where it was meant to go, and nowhere else."""
    with answering(answer(b"{}", b"307 Moved\r\nLocation: http://127.0.0.1:1/")) as url:
        service = Service(url, timeout=5.0, token=TOKEN)
        assert service.post("/admin/halt", {}) == (307, {})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host/?a=b",
        "http://host/#a",
        "http://alice:hunter2@host",
        "http://ho st",
        "http://h\u00f6st",
        "http://host/\r\nX: y",
    ],
)
def test_what_is_no_url_of_a_service_is_wrong_usage(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--url", url]) == 2
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://service.example", "http://10.0.0.7:8000"])
def test_a_token_goes_over_no_open_network(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILSTOP_ADMIN_TOKEN", TOKEN)
    words = ["halt", "--url", url, "--actor", "alice", "--reason", "a rehearsal"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "unprotected; use https, or give --insecure" in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("url", "is_insecure"),
    [
        ("https://service.example", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
        ("http://service.example", True),
    ],
)
def test_a_token_may_go_where_nobody_listens_or_where_it_was_said(
    url: str, is_insecure: bool
) -> None:
    Service(url, timeout=1.0, token=TOKEN, is_insecure=is_insecure)


def test_the_file_of_a_token_goes_before_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, "another") == TOKEN
    assert read_token(None, f" {TOKEN}\n") == TOKEN
    assert read_token(None, None) is None


@pytest.mark.parametrize("content", ["", "\n", "two words", "two\nlines", "t\u00f6ken", "a\x00b"])
def test_what_is_no_token_is_wrong_usage(content: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(click.UsageError):
        read_token(file, None)


def test_a_token_file_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "nothing")]
    assert main(words) == 2
    assert "the token's file cannot be read (FileNotFoundError)" in capsys.readouterr().err
