"""Run the code blocks of the README and the docs: a page is one story, told from top to bottom.

A block that is not for running stands under `<!--- skip: next -->`. And a run that cannot end says
where it hangs, and ends.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from failstop.testing import PostgresDatabase, PostgresServer

LAST_SECONDS = 60


def pytest_unconfigure() -> None:
    """Let what a test left behind not keep the process for ever once all tests are done."""
    faulthandler.dump_traceback_later(LAST_SECONDS, exit=True, file=2)


@pytest.fixture(scope="module")
def page_database(
    postgres_server: PostgresServer, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[PostgresDatabase]:
    """What every page takes for granted: a database in DATABASE_URL, with a table of trades."""
    with postgres_server.fresh_database() as database:
        database.execute("CREATE TABLE trades (id text PRIMARY KEY, quantity integer NOT NULL)")
        monkeypatch_module.setenv("DATABASE_URL", database.url())
        yield database


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """Give a monkeypatch that lasts for a whole page."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    fixtures=["page_database"],
).pytest()
