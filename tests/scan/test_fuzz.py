"""Made-up modules: the scan ends with findings that stand where they say, or with a word."""

from __future__ import annotations

import ast
from pathlib import Path

import hypothesmith
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failstop.scan import RULES, Finding, scan_source
from failstop.scan._engine import FileResult, scan_bytes
from failstop.scan._files import Source

SOURCE = Source("made.py", "made.py", "made.py")
CORPUS = sorted((Path(__file__).parent / "corpus").rglob("*.py"))

NAMES = st.sampled_from(
    [
        "session",
        "cursor",
        "connection",
        "engine",
        "db",
        "self.session",
        "order",
        "rows",
        "self",
        "cache",
        "venue",
        "logger",
    ]
)
EXPRESSIONS = st.one_of(
    NAMES,
    st.sampled_from(
        [
            "[]",
            "None",
            "0",
            "'pending'",
            "{}",
            "MOCK",
            "psycopg2.connect(dsn)",
            "create_engine(url)",
            "os.environ.get('DATABASE_URL', 'sqlite://')",
            "lambda: session.commit()",
            "(x := cursor.fetchall())",
            "*rows,",
            "f'{order!r:>{width}}'",
            "[r async for r in connection.fetch('SELECT 1')]",
        ]
    ),
    st.builds(
        "{}.{}({})".format,
        NAMES,
        st.sampled_from(
            [
                "execute",
                "commit",
                "rollback",
                "query",
                "add",
                "fetchall",
                "get",
                "post",
                "send",
                "save",
            ]
        ),
        st.sampled_from(["", "'SELECT 1'", "'INSERT INTO t VALUES (1)'", "order", "*args, **kw"]),
    ),
)
CLAUSES = st.sampled_from(
    [
        "except Exception:",
        "except Exception as error:",
        "except (psycopg2.Error, ValueError):",
        "except SQLAlchemyError:",
        "except IntegrityError:",
        "except CriticalError:",
    ]
)
CONTEXTS = st.sampled_from(
    [
        "engine.begin() as connection",
        "Session() as session, suppress(Exception)",
        "database.transaction(key='k') as connection",
        "session.begin_nested()",
        "open('x')",
    ]
)
HEADS = st.one_of(
    st.builds("if {}:".format, EXPRESSIONS),
    st.builds("while {}:".format, EXPRESSIONS),
    st.builds("for row in {}:".format, NAMES),
    st.builds("async for row in {}:".format, NAMES),
    st.builds("with {}:".format, CONTEXTS),
    st.builds("async with {}:".format, CONTEXTS),
    st.just("async with asyncio.timeout(2):"),
)
SIMPLE = st.one_of(
    EXPRESSIONS,
    st.builds("return {}".format, EXPRESSIONS),
    st.builds("rows = {}".format, EXPRESSIONS),
    st.builds("order.state = {}".format, EXPRESSIONS),
    st.builds("await asyncio.wait_for({}, 5)".format, EXPRESSIONS),
    st.sampled_from(["raise", "pass", "continue", "global rows", "logger.exception('x')", "del x"]),
)
HEADERS = st.sampled_from(
    [
        "def trades(session, dsn):",
        "async def trades(self, order):",
        "@app.get('/health')\ndef health():",
        "@retry(stop=stop_after_attempt(3))\ndef save(order):",
        "class Store(Base):",
        "if ENV == 'development':",
    ]
)
IMPORTS = (
    "import asyncio, os, psycopg2\nfrom tenacity import *\nfrom sqlalchemy import create_engine\n"
    "from sqlalchemy.orm import Session\nfrom failstop import CriticalError, Database\n"
)


def indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in block.splitlines())


def compound(blocks: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Statements with blocks in them: `try` in all its shapes, `match`, loops and contexts."""
    handler = st.builds(lambda clause, body: f"{clause}\n{indented(body)}", CLAUSES, blocks)
    ends = st.sampled_from(["", "else:\n    pass\n", "finally:\n    session.close()\n"])

    def attempt(body: str, handlers: list[str], end: str, star: str) -> str:
        taken = "".join(handlers).replace("except ", f"except{star} ")
        return f"try:\n{indented(body)}{taken}{end}"

    return st.one_of(
        st.builds(
            attempt,
            blocks,
            st.lists(handler, min_size=1, max_size=3),
            ends,
            st.sampled_from(["", "", "*"]),
        ),
        st.builds(lambda head, body: f"{head}\n{indented(body)}", HEADS, blocks),
        st.builds(lambda head, body: f"{head}\n{indented(body)}", HEADERS, blocks),
        st.builds(
            lambda subject, body: f"match {subject}:\n    case [*_]:\n{indented(indented(body))}",
            NAMES,
            blocks,
        ),
    )


BLOCKS = st.recursive(
    SIMPLE.map("{}\n".format),
    lambda inner: st.one_of(compound(inner), st.lists(inner, min_size=1, max_size=4).map("".join)),
    max_leaves=25,
)
MODULES = st.builds(
    lambda parts: IMPORTS + "".join(f"{head}\n{indented(body)}" for head, body in parts),
    st.lists(st.tuples(HEADERS, BLOCKS), min_size=1, max_size=4),
)


def check(findings: tuple[Finding, ...] | list[Finding], text: str) -> None:
    lines = text.count("\n") + 1
    for each in findings:
        assert each.rule in RULES
        assert 1 <= each.line <= each.end_line <= lines
        assert each.message
        assert each.flow
        assert len(each.fingerprint) == 16
    places = [each.line for each in findings]
    assert len(places) == len(set(places))


def scanned(data: bytes) -> FileResult:
    result = scan_bytes(data, SOURCE)
    assert not (result.skipped and result.findings)
    return result


@given(text=MODULES)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_modules_full_of_handlers_are_scanned(text: str) -> None:
    try:
        ast.parse(text)
    except SyntaxError:
        assert scanned(text.encode()).skipped.startswith("syntax error")
    else:
        result = scanned(text.encode())
        assert not result.skipped
        check(result.findings, text)
        assert scan_source(text, SOURCE.name) == list(result.findings)


@given(text=hypothesmith.from_node())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_modules_of_any_syntax_are_scanned(text: str) -> None:
    data = f"import psycopg2\n{text}".encode("utf-8", "replace")
    check(scanned(data).findings, data.decode())


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_result_or_a_word(data: bytes) -> None:
    scanned(data)
    scanned(b"import psycopg2\n" + data)


@given(
    file=st.sampled_from(CORPUS),
    start=st.integers(0, 200),
    count=st.integers(1, 6),
    line=st.sampled_from(["", "    pass\n", "try:\n", "        return []\n", "\f\x0c\n"]),
)
@settings(max_examples=200, deadline=None)
def test_real_code_with_lines_cut_out_gives_a_result_or_a_word(
    file: Path, start: int, count: int, line: str
) -> None:
    lines = file.read_text("utf-8").splitlines(keepends=True)
    begin = start % len(lines)
    text = "".join([*lines[:begin], line, *lines[begin + count :]])
    check(scanned(text.encode()).findings, text)
