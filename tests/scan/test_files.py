"""Which files are read: each once, links without circles, and a word for what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from failstop.scan import Settings
from failstop.scan._files import discover


def names(tree: Path, **settings: object) -> list[str]:
    found = discover([str(tree)], Settings().changed(**settings))
    return [source.below for source in found.sources]


def make(tree: Path, *paths: str) -> None:
    for path in paths:
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_python_files_below_a_directory_are_found_in_order(tmp_path: Path) -> None:
    folders = [f"{letter}/x.py" for letter in "hcfagdbe"]
    make(tmp_path, "b.py", "a.pyw", "pkg/data.json", "README.md", "script", *folders)
    assert names(tmp_path) == ["a.pyw", "b.py", *sorted(folders)]


def test_a_file_that_is_named_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    make(tmp_path, "script")
    found = discover([str(tmp_path / "script")], Settings())
    assert [source.name for source in found.sources] == [str(tmp_path / "script")]


def test_what_is_nobodys_code_is_not_entered(tmp_path: Path) -> None:
    make(tmp_path, "app.py", ".git/x.py", "node_modules/x.py", "x.egg-info/x.py", "env/ours.py")
    make(tmp_path, "myenv/pyvenv.cfg", "myenv/lib/x.py")
    assert names(tmp_path) == ["app.py", "env/ours.py"]


def test_what_is_named_is_read_even_if_it_would_not_be_entered(tmp_path: Path) -> None:
    make(tmp_path, "venv/pyvenv.cfg", "venv/lib/x.py")
    assert names(tmp_path / "venv") == ["lib/x.py"]


def test_a_path_given_twice_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "app.py")
    found = discover([str(tmp_path), str(tmp_path / "app.py"), str(tmp_path)], Settings())
    assert len(found.sources) == 1


@pytest.mark.timeout(20)
def test_links_in_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "pkg/app.py")
    (tmp_path / "pkg" / "self").symlink_to(tmp_path / "pkg")
    (tmp_path / "pkg" / "up").symlink_to(tmp_path)
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "round.py").symlink_to(tmp_path / "round.py")
    found = discover([str(tmp_path)], Settings())
    assert [source.below for source in found.sources] == ["pkg/app.py"]
    assert found.skipped == [(str(tmp_path / "round.py"), "not a regular file")]


def test_a_link_to_code_elsewhere_is_followed(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/app.py", "tree/x.py")
    (tmp_path / "tree" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "tree") == ["x.py", "linked/app.py"]


@pytest.mark.timeout(20)
def test_what_is_no_file_is_skipped_with_a_word(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "dead.py").symlink_to(tmp_path / "gone.py")
    make(tmp_path, "book.ipynb")
    found = discover([str(tmp_path)], Settings())
    assert found.sources == []
    assert [word for _, word in found.skipped] == [
        "a notebook",
        "not a regular file",
        "not a regular file",
    ]


def test_a_notebook_that_is_named_is_skipped_with_a_word(tmp_path: Path) -> None:
    make(tmp_path, "book.ipynb")
    found = discover([str(tmp_path / "book.ipynb")], Settings())
    assert found.skipped == [(str(tmp_path / "book.ipynb"), "a notebook")]


def test_excluded_paths_are_left_out_below_the_root_and_as_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "app.py", "gen/a.py", "gen/deep/b.py")
    assert names(tmp_path, exclude=("gen",)) == ["app.py"]
    monkeypatch.chdir(tmp_path)
    found = discover(["gen/a.py", "app.py"], Settings(exclude=("gen/*",)))
    assert [source.name for source in found.sources] == ["app.py"]


def test_a_name_that_is_no_utf8_can_be_shown(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.py")).touch()
    found = discover([str(tmp_path)], Settings())
    (source,) = found.sources
    assert source.name == f"{tmp_path}/b\\xff.py"
    assert Path(source.path).exists()
