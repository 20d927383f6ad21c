"""What `nox` checks: a session a habit, all that runs by default in one go on any machine.

Not in the default run: `chaos` (the long tests), `bench` (the numbers), and the second Python.
Tests of what other programs do with this one skip where these are absent; on CI `programs` installs
them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
COVERED = PYTHONS[0]
BETWEEN = PYTHONS[1]
"""Left to `nox -s tests-…`: what breaks there breaks on the one before it or after it too."""
DATA = ".coverage"
APART = {
    "database": ("database",),
    "examples": ("examples",),
    "service": (
        "browser",
        "fleet",
        "monitoring",
        "recovery",
        "test_doorbell.py",
        "test_election.py",
        "test_workers.py",
        "web",
    ),
}
"""What has a session of its own on the first Python, beside the others."""
LONGEST = (
    "alerts",
    "database/test_connect.py",
    "database/test_deadline.py",
    "database/test_doctor.py",
    "database/test_failover.py",
    "database/test_fence_hosts.py",
    "database/test_matrix.py",
    "database/test_nemesis.py",
    "database/test_postgresql_facts.py",
    "drill",
    "scan",
    "test_dispatcher_crash.py",
    "testing",
)
"""What mostly waits, or what no Python changes: it runs on the first one only."""

PROGRAMS = ("chromium", "pgbouncer", "prometheus")
"""What some tests need and no wheel holds, as Debian names it."""

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [
    "programs",
    "lint",
    "typing",
    *(f"tests-{python}" for python in PYTHONS if python != BETWEEN),
    *("database", "service", "examples", "coverage", "docs", "drill"),
]
nox.options.parallel = 2
nox.options.allow_parallel = True

# pyenv leaves what it has installed off the PATH unless it is made global
_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
_interpreters = [each for python in PYTHONS for each in _pyenv.glob(f"versions/{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*map(str, _interpreters), os.environ["PATH"]])


def install(session: nox.Session, *groups: str) -> None:
    """Install the package as it stands, with every extra, and what the groups name."""
    session.install("-q", "-e", ".[all]", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session(venv_backend="none")
def programs(session: nox.Session) -> None:
    """What the tests skip without: installed on CI only, for a machine of its own is a person's."""
    if not os.environ.get("CI") or shutil.which("apt-get") is None or os.geteuid() != 0:
        session.skip("only on CI, as root, where apt-get is")
    session.run("apt-get", "update", "-qq", external=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "install", "-y", "-qq", *PROGRAMS, env=quiet, external=True, silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Rules and form."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Types inside, and the completeness of the types that users see."""
    install(session, "typing")
    session.run("mypy", "src", "tests", "examples")
    session.run("pyright", "--verifytypes", "failstop", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests on every Python: with their coverage on the first, but for the longest on others.

    What is apart has sessions of its own, beside it on the first.
    """
    install(session, "test")
    apart = [*APART["examples"], *APART["service"]]
    apart += APART["database"] if session.python == COVERED else LONGEST
    arguments = ("tests", *(f"--ignore=tests/{name}" for name in apart), *session.posargs)
    if session.python == COVERED:
        run_covered(session, *arguments)
    else:
        session.run("pytest", "-q", *arguments)


@nox.session(python=COVERED)
def database(session: nox.Session) -> None:
    """The guarded database, on every driver and under every fault."""
    install(session, "test")
    run_covered(session, *_apart(session), *session.posargs)


@nox.session(python=COVERED)
def service(session: nox.Session) -> None:
    """A whole service, broken and shown: recovery, workers, hosts, HTTP, metrics, the page."""
    install(session, "test")
    run_covered(session, *_apart(session), *session.posargs)


@nox.session(python=COVERED)
def examples(session: nox.Session) -> None:
    """The examples, started for real and broken."""
    install(session, "test")
    run_covered(session, *_apart(session), *session.posargs)


@nox.session(python=COVERED, requires=[f"tests-{COVERED}", *APART])
def coverage(session: nox.Session) -> None:
    """What the tests and the examples' tests reached, in every process they started."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "coverage"))
    session.run("coverage", "combine", "-q", "--keep", *map(str, Path.cwd().glob(f"{DATA}-*.*")))
    session.run("coverage", "report")


def _apart(session: nox.Session) -> list[str]:
    return [f"tests/{name}" for name in APART[session.name]]


def run_covered(session: nox.Session, *arguments: str) -> None:
    """Run pytest and keep what it reached for the session that adds it up."""
    env = {"COVERAGE_FILE": str(Path.cwd() / f"{DATA}-{session.name}")}
    session.run("coverage", "erase", env=env)
    session.run("coverage", "run", "-m", "pytest", "-q", *arguments, env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Run every code block of the README and the docs, then build the site strictly."""
    install(session, "test", "docs")
    session.run("pytest", "-q", "README.md", "docs")
    session.run("mkdocs", "build", "--strict", "--quiet", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def drill(session: nox.Session) -> None:
    """The proof test, from a wheel as a user installs it."""
    session.install("-q", ".[drill]")
    session.chdir(session.virtualenv.location)  # away from the sources
    session.run("failstop", "drill", *session.posargs)


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """The long tests: those marked `chaos`, which the other sessions leave out."""
    install(session, "test")
    session.run("pytest", "-q", "-m", "chaos", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The ratios to what others cost, in one run; `-- --fast` for a first look."""
    install(session, "test", "bench")
    session.run("python", "benchmarks/compare.py", *session.posargs)
    session.run("python", "benchmarks/monitor.py")
    session.run("python", "benchmarks/doorbell.py")
