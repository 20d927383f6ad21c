"""The tokens that entitle a person to halt and reset: told apart by name, never shown.

Only their hashes are kept, so none can be printed by mistake. Never here: a request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from failstop.errors import ConfigurationError

__all__ = ["AdminToken", "Tokens"]

SHORTEST = 32
VISIBLE = re.compile(r"[\x21-\x7e]+")
ONLY = "admin"
"""The name of a token that has none."""

AdminToken: TypeAlias = "str | Mapping[str, str] | Tokens | None"


class Tokens:
    """The tokens of one service.

    Args:
        given: one token, or several by name, so that one can be replaced while the other is used
            and the journal knows whose it was.

    Raises:
        ConfigurationError: there is none, one is too short, or two are the same.
    """

    def __init__(self, given: str | Mapping[str, str]) -> None:
        named: Any = {ONLY: given} if isinstance(given, str) else given
        if not isinstance(named, Mapping) or not named:
            raise ConfigurationError("admin_token must be a text, or a mapping of names to texts")
        self._digests = {_checked_name(name): _checked(token) for name, token in named.items()}
        if len(set(self._digests.values())) < len(self._digests):
            raise ConfigurationError("admin_token has one token under two names; make another")

    @classmethod
    def of(cls, given: AdminToken) -> Tokens | None:
        """Return the tokens of a setting, None where there is none.

        Raises:
            ConfigurationError: the setting is wrong.
        """
        return given if given is None or isinstance(given, Tokens) else cls(given)

    def __repr__(self) -> str:
        return f"<Tokens {', '.join(self._digests)}>"

    def name_of(self, presented: str) -> str | None:
        """Return the name of a token, None where it is none; takes as long for each."""
        digest, found = _digest(presented), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigurationError("the name of an admin_token must be a text that is not empty")
    return name


def _checked(token: object) -> bytes:
    if not isinstance(token, str) or not VISIBLE.fullmatch(token):
        raise ConfigurationError("an admin_token must be a text of visible ASCII without spaces")
    if len(token) < SHORTEST:
        raise ConfigurationError(
            f"an admin_token must have {SHORTEST} characters at least; make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return _digest(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
