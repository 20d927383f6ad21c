"""The service that a command asks over HTTP: its endpoints, within a time, and nothing else.

No redirect is followed and no proxy is used, so that a token goes where it was meant to go. Never
here: what an answer means to a command.
"""

from __future__ import annotations

import ipaddress
import json
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

__all__ = ["Answer", "Service", "UnreachableError", "read_token"]

LONGEST = 4 * 1024 * 1024
"""Bytes that are read of one answer."""
PIECE = 65_536
LONGEST_TOKEN = 4096

STRANGE = "what answers there is no service of failstop; look at --url"

Answer = tuple[int, dict[str, Any]]
"""An HTTP status and the JSON object that came with it; empty for a refusal that is none."""


class UnreachableError(Exception):
    """The service gave no answer that can be read; the text says the mend."""


class Service:
    """The service at `url`, which must answer within `timeout` seconds.

    Raises:
        click.UsageError: the URL is none, or the token would go over the network unprotected.
    """

    def __init__(
        self, url: str, *, timeout: float, token: str | None = None, is_insecure: bool = False
    ) -> None:
        self._parts = _parts_of(url)
        self._timeout = timeout
        self._token = token
        is_open = self._parts.scheme == "http" and not _is_loopback(str(self._parts.hostname))
        if token is not None and is_open and not is_insecure:
            raise click.UsageError(
                "the token would go over the network unprotected; use https, or give --insecure"
            )

    def get(self, path: str) -> Answer:
        """Return what the service answers.

        Raises:
            UnreachableError: nothing that can be read, in time.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, facts: dict[str, Any]) -> Answer:
        """Send `facts` as JSON and return what the service answers.

        Raises:
            UnreachableError: nothing that can be read, in time; it may have acted.
        """
        return self._ask("POST", path, json.dumps(facts).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        limit = time.monotonic() + self._timeout
        connection = self._connection()
        try:
            connection.request(method, self._parts.path + path, body, self._headers(body))
            with closing(connection.getresponse()) as response:
                found = _object(_content(response, limit))
                if found is None and response.status < 400:
                    raise UnreachableError(STRANGE)
                return response.status, found or {}
        except TimeoutError:
            raise UnreachableError("the service did not answer in time; see --timeout") from None
        except (OSError, HTTPException) as error:
            what = f"the service cannot be reached ({type(error).__name__})"
            raise UnreachableError(f"{what}; use --store on its host") from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout)

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "failstop"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


def _content(response: HTTPResponse, limit: float) -> bytes:
    """Read the whole answer, which may come in drops, until its time is up."""
    found = bytearray()
    while piece := response.read1(PIECE):
        found += piece
        if len(found) > LONGEST:
            raise UnreachableError("the answer is too long to be the service's; look at --url")
        if time.monotonic() > limit:
            raise TimeoutError
    return bytes(found)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.rstrip("/"))
        is_right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_right, parts = False, urlsplit("")
    is_clean = url.isascii() and url.isprintable() and " " not in url
    if not is_right or not is_clean or parts.query or parts.fragment:
        raise click.UsageError("--url takes where the service is, such as https://host:8000")
    if parts.username is not None:
        raise click.UsageError("--url takes no password; see --token-file")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path | None, given: str | None) -> str | None:
    """Return the token of the file, else the one of the environment, without its line's end.

    Raises:
        click.UsageError: the file cannot be read, or holds no token.
    """
    try:
        found = given if path is None else path.read_text("ascii")[:LONGEST_TOKEN]
    except (OSError, ValueError) as error:
        sentence = f"the token's file cannot be read ({type(error).__name__})"
        raise click.UsageError(sentence) from None
    if found is None:
        return None
    token = found.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("a token is one word; look at --token-file")
    return token
