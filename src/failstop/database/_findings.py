"""Which settings void a claim or weaken one: the table, and the verdict over the facts.

Pure: facts come in, findings go out. Never here: what asks an engine or a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

__all__ = ["ALLOW", "FORGETFUL", "Facts", "Finding", "Pooling", "Severity", "judge", "refusal"]

ALLOW = "failstop.allow"
"""The setting by which a server says itself what it may lose; a server for tests, mostly."""

FORGETFUL = frozenset({"fsync", "full_page_writes", "synchronous_commit"})
"""What `failstop.allow` can allow: the settings of the server that trade durability for speed."""


class Severity(StrEnum):
    """REFUSED makes a claim false, so the service does not start; WARNED makes one weaker."""

    REFUSED = "refused"
    WARNED = "warned"


class Pooling(StrEnum):
    """What stands between the engine and the server, as their answers show it."""

    NONE = "none"
    SESSION = "session"
    TRANSACTION = "transaction"


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting that voids or weakens a claim.

    `claim` is its number, such as "C5", or "C5, C6"; `cause` says in one sentence what goes wrong
    and `mend` what to do. None of them holds a secret.
    """

    setting: str
    claim: str
    severity: Severity
    cause: str
    mend: str

    @property
    def is_refused(self) -> bool:
        """True where the service must not start."""
        return self.severity is Severity.REFUSED

    def __str__(self) -> str:
        return f"{self.setting} ({self.claim}): {self.cause}; {self.mend}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine and its sessions at the server are set to.

    Args:
        dialect: the kind of database, as SQLAlchemy spells it.
        deadline: seconds for one call.
        is_pinged: whether an idle connection is tried before it is handed out, or none is kept.
        hosts: how many servers a connection may go to; 1 where that cannot be seen.
        session_attrs: which of them it may go to, as libpq spells it.
        retriers: where a retry library was found, in words.
        strangers: where code that is not SQLAlchemy's stands in its place, in words.
        pooling: what stands in between.
        settings: the settings of a session; times are in milliseconds.
        sources: where each comes from, as `pg_settings` spells it.
        allowed: the settings that the server says may cost durability.
        receipts: whether transactions write them.
        fence: whether transactions pass it.
        listens: whether halts and resets elsewhere are heard by these connections.
        missing: the tables and columns of failstop's own that are not there but needed.
    """

    dialect: str
    deadline: float
    is_pinged: bool = True
    hosts: int = 1
    session_attrs: str = "any"
    retriers: str = ""
    strangers: str = ""
    pooling: Pooling = Pooling.NONE
    settings: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    receipts: bool = True
    fence: bool = True
    listens: bool = False
    missing: tuple[str, ...] = ()

    def is_set(self, name: str, *values: str) -> bool:
        """Say whether a setting is one of `values`; one that is not there is none."""
        return self.settings.get(name) in values

    def is_shorter(self, name: str) -> bool:
        """Say whether a time ends before the deadline; 0 never ends."""
        return 0 < int(self.settings.get(name, "0")) < 1000 * self.deadline

    @property
    def missing_names(self) -> str:
        """What is missing, in words."""
        return ", ".join(self.missing)

    def is_of_session(self, name: str) -> bool:
        """Say whether the client set it for its session, so that a pooler may lose it."""
        return self.sources.get(name) in ("client", "session")


class _Rule(NamedTuple):
    setting: str
    claim: str
    severity: Severity
    applies: Callable[[Facts], bool]
    cause: str
    mend: str


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return what is wrong with `facts`: first what is refused, then what is warned of."""
    found = [_find(rule, facts) for rule in RULES if rule.applies(facts)]
    return tuple(sorted(found, key=lambda finding: not finding.is_refused))


def _find(rule: _Rule, facts: Facts) -> Finding:
    cause = rule.cause.format(facts=facts)
    finding = Finding(rule.setting, rule.claim, rule.severity, cause, rule.mend)
    if rule.setting in FORGETFUL & facts.allowed:
        allowed = f"{cause}, which the server allows itself by {ALLOW}"
        return replace(finding, severity=Severity.WARNED, cause=allowed)
    return finding


def refusal(name: str, findings: tuple[Finding, ...]) -> str | None:
    """Return one sentence that names what is refused, each with its mend; None where nothing is."""
    refused = [str(finding) for finding in findings if finding.is_refused]
    if not refused:
        return None
    return f"database {name!r} has settings that void a claim: {' | '.join(refused)}"


def _outlasts_deadline(facts: Facts) -> bool:
    ended_at = int(facts.settings.get("statement_timeout", "0"))
    return facts.dialect == "postgresql" and not 0 < ended_at <= 1000 * facts.deadline


def _is_pooled(facts: Facts) -> bool:
    return facts.pooling is Pooling.TRANSACTION


def _has_many_hosts(facts: Facts) -> bool:
    return facts.hosts > 1 and facts.session_attrs not in ("read-write", "primary")


def _has_weak_standbys(facts: Facts) -> bool:
    is_weak = facts.is_set("synchronous_commit", "local", "remote_write")
    return is_weak and not facts.is_set("synchronous_standby_names", "")


def _is_in_memory(facts: Facts) -> bool:
    return facts.is_set("file", "")


REFUSED, WARNED = Severity.REFUSED, Severity.WARNED

RULES = (
    # what tells whether a transaction was committed
    _Rule(
        "schema",
        "C5, C6, C7",
        REFUSED,
        lambda facts: bool(facts.missing),
        "no transaction can leave its receipt or pass the fence, for there is no "
        "{facts.missing_names}",
        "run failstop schema apply with DATABASE_URL set, as a role that may create tables there",
    ),
    _Rule(
        "receipts",
        "C5, C6",
        WARNED,
        lambda facts: not facts.receipts,
        "receipts are off: claims C5 and C6 are void",
        "make the database with receipts=True",
    ),
    _Rule(
        "fence",
        "C7",
        WARNED,
        lambda facts: not facts.fence,
        "the fence is off: claim C7 is void, and a halt stops this host only",
        "make the database with fence=True",
    ),
    # what the server does with what it has acknowledged
    _Rule(
        "fsync",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("fsync", "off"),
        "a crash of the machine loses commits that were acknowledged, and may ruin the rest",
        "set fsync to on at the server",
    ),
    _Rule(
        "full_page_writes",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("full_page_writes", "off"),
        "a page that a crash has torn cannot be restored, nor the commits in it",
        f"set full_page_writes to on at the server, or name it in {ALLOW} where its file system "
        "never tears a page",
    ),
    _Rule(
        "synchronous_commit",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("synchronous_commit", "off"),
        "a commit is acknowledged before it is on disk, and a crash loses it",
        "set synchronous_commit to on for the role of the service",
    ),
    _Rule(
        "synchronous_commit",
        "C8",
        WARNED,
        _has_weak_standbys,
        "a commit is acknowledged before the synchronous standby has it on disk, and a failover "
        "may lose it",
        "set synchronous_commit to on for the role of the service",
    ),
    _Rule(
        "default_transaction_read_only",
        "C8",
        REFUSED,
        lambda facts: facts.is_set("default_transaction_read_only", "on"),
        "every write of this session is refused, so nothing is proven by a connection that works",
        "take the setting off the server, the database, the role and the URL of the service",
    ),
    _Rule(
        "target_session_attrs",
        "C8",
        REFUSED,
        _has_many_hosts,
        "of several hosts whichever answers is taken, so what one proves says nothing of another",
        "add target_session_attrs=read-write to the URL",
    ),
    # what ends in time, and who says so
    _Rule(
        "statement_timeout",
        "C4",
        REFUSED,
        _outlasts_deadline,
        "the server ends a slow statement after {facts.settings[statement_timeout]} ms (0 is "
        "never), so at the deadline of {facts.deadline:g} s a slow report passes for an outage",
        "let failstop set it: connect to the server itself, take it out of the URL and of the "
        "connection's options, and have a creator of your own set less than the deadline",
    ),
    _Rule(
        "pooling",
        "C4",
        REFUSED,
        lambda facts: _is_pooled(facts) and facts.is_of_session("statement_timeout"),
        "a pooler hands a server connection to another client after each transaction, and the "
        "settings of the session with it",
        "connect to the server itself or to a pool in session mode, or set the timeouts for the "
        "role at the server",
    ),
    _Rule(
        "pooling",
        "C4",
        WARNED,
        lambda facts: _is_pooled(facts) and not facts.is_of_session("statement_timeout"),
        "a pooler hands the server connection to another client after each transaction, so a "
        "statement that the driver has prepared may be unknown, and that looks like an outage",
        "connect to the server itself or to a pool in session mode",
    ),
    _Rule(
        "listen_url",
        "C12",
        REFUSED,
        lambda facts: _is_pooled(facts) and facts.listens,
        "a pooler hands the server connection to another client after each transaction, so this "
        "host hears of no halt and of no reset on another one",
        "give the database listen_url=, the URL of the server itself or of a pool in session mode",
    ),
    _Rule(
        "idle_in_transaction_session_timeout",
        "C6",
        WARNED,
        lambda facts: facts.is_set("idle_in_transaction_session_timeout", "0"),
        "a transaction whose client has vanished keeps its locks, and whoever asks about its "
        "outcome waits",
        "let failstop set it, or set it to more than the deadline for the role of the service",
    ),
    _Rule(
        "idle_in_transaction_session_timeout",
        "C4",
        WARNED,
        lambda facts: facts.is_shorter("idle_in_transaction_session_timeout"),
        "the server ends a transaction that thinks for {facts.settings"
        "[idle_in_transaction_session_timeout]} ms, and that looks like an outage",
        "set it to more than the deadline for the role of the service",
    ),
    _Rule(
        "pool_pre_ping",
        "C4",
        WARNED,
        lambda facts: not facts.is_pinged and facts.dialect == "postgresql",
        "an idle connection that the network or a restart has cut trips the service at its next "
        "use",
        "make the engine with pool_pre_ping=True",
    ),
    # who repeats, or may
    _Rule(
        "retry",
        "C2",
        REFUSED,
        lambda facts: bool(facts.retriers),
        "{facts.retriers}: a failure that is repeated there is never seen by the guard",
        "take the retry off; repeat whole units of work with run_once() only",
    ),
    _Rule(
        "wrapper",
        "C2",
        WARNED,
        lambda facts: bool(facts.strangers),
        "{facts.strangers}: whether failures are repeated or hidden there cannot be seen",
        "guard a plain engine of SQLAlchemy",
    ),
    # SQLite
    _Rule(
        "synchronous",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("synchronous", "0"),
        "a crash of the machine loses commits that were acknowledged, and may ruin the file",
        "set PRAGMA synchronous to FULL on every connection",
    ),
    _Rule(
        "synchronous",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("synchronous", "1") and facts.is_set("journal_mode", "wal"),
        "with a write-ahead log, NORMAL acknowledges a commit before it is on disk",
        "set PRAGMA synchronous to FULL on every connection",
    ),
    _Rule(
        "journal_mode",
        "C5",
        REFUSED,
        lambda facts: facts.is_set("journal_mode", "off", "memory") and not _is_in_memory(facts),
        "a process that dies in a transaction leaves half of it in the file",
        "set PRAGMA journal_mode to WAL on every connection",
    ),
    _Rule(
        "memory",
        "C5",
        WARNED,
        _is_in_memory,
        "the database is gone with its process",
        "use a database that outlives the process, save in tests",
    ),
)
"""Every rule; the values of the facts may stand in a cause."""
