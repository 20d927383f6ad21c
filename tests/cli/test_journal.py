"""`failstop journal`: it works with the service dead, and finds what was changed."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from failstop import FailSafe
from failstop._chain import canonical, make_row
from failstop.cli import main
from failstop.journal import rows
from failstop.recovery import Recovery

Captured = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Tamper = Callable[..., None]

NOWHERE = "0" * 64
"""A head that no journal has."""


# Showing


def test_show_tells_what_happened(store: Path, run: Run) -> None:
    done = run("journal", "show", store)
    assert done.returncode == 0
    [halted] = [line for line in done.stdout.splitlines() if "Halted" in line]
    assert "actor alice" in halted
    assert "reason a rehearsal" in halted


def test_show_gives_the_latest_rows_as_json(store: Path, capsys: Captured) -> None:
    assert main(["journal", "show", str(store), "--last", "1", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    [row] = rows(store, last=1)
    assert json.loads(line) == {**row.facts, "hash": row.hash}


def test_show_gives_the_rows_after_a_number(store: Path, capsys: Captured) -> None:
    assert main(["journal", "show", str(store), "--after", "1", "--json"]) == 0
    told = [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]
    assert told == [row.seq for row in rows(store)][1:]


@pytest.mark.parametrize("body", ["no JSON at all", "[1]", "7"])
def test_show_shows_a_row_that_was_changed_into_something_else(
    body: str, store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, f"UPDATE journal SET body = '{body}' WHERE seq = 2")
    assert main(["journal", "show", str(store)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:2] == ["2", "?"]
    assert body in line
    assert main(["journal", "show", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[1])
    assert (told["seq"], told["text"]) == (2, body)


def test_a_changed_row_cannot_move_the_cursor(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, r"""UPDATE journal SET body = '{"event":"\u001b[2J"}' WHERE seq = 2""")
    assert main(["journal", "show", str(store)]) == 0
    assert "\x1b" not in capsys.readouterr().out


# Verifying


def head_of(store: Path, capsys: Captured) -> str:
    main(["journal", "verify", str(store), "--json"])
    return str(json.loads(capsys.readouterr().out)["head"])


def test_an_untouched_journal_is_intact_and_its_head_is_printed(store: Path, run: Run) -> None:
    done = run("journal", "verify", store)
    last = rows(store)[-1]
    assert done.returncode == 0
    assert done.stdout.startswith(f"intact: {last.seq} rows, 1 to {last.seq}\nhead: {last.hash}\n")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET body = replace(body, 'alice', 'bob')",
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET seq = 1000 - seq WHERE seq IN (2, 3)",
        "DELETE FROM journal WHERE seq = (SELECT MAX(seq) FROM journal)",
    ],
    ids=["edited", "deleted", "moved", "cut"],
)
def test_a_changed_journal_is_exit_code_1(
    statement: str, store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, statement)
    assert main(["journal", "verify", str(store)]) == 1
    assert "broken: " in capsys.readouterr().out
    assert main(["journal", "verify", str(store), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["is_intact"] is False


def test_a_head_that_was_kept_elsewhere_must_be_there(store: Path, capsys: Captured) -> None:
    head = head_of(store, capsys)
    with FailSafe("trading", store=store) as failsafe:
        failsafe.reset(actor="alice", reason="the rehearsal is over")
    assert main(["journal", "verify", str(store), "--head", head.upper()]) == 0
    assert main(["journal", "verify", str(store), "--head", NOWHERE]) == 1
    assert "no row with the given head" in capsys.readouterr().out


def test_a_cut_that_mends_the_end_is_found_by_the_head(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    head = head_of(store, capsys)
    last = rows(store)[-2]
    tamper(
        store,
        f"DELETE FROM journal WHERE seq > {last.seq}",
        f"UPDATE standing SET head_seq = {last.seq}, head_hash = '{last.hash}'",
    )
    assert main(["journal", "verify", str(store)]) == 0
    assert main(["journal", "verify", str(store), "--head", head]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--head", "12"], "64 digits"),
        (["--previous", NOWHERE], "--previous goes with --export"),
        (["--export", "--sealed-elsewhere"], "--sealed-elsewhere goes with a store"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    options: list[str], said: str, store: Path, capsys: Captured
) -> None:
    assert main(["journal", "verify", str(store), *options]) == 2
    assert said in capsys.readouterr().err


# Exporting


def test_an_export_goes_to_standard_output_and_its_verdict_beside_it(store: Path, run: Run) -> None:
    done = run("journal", "export", store)
    assert done.returncode == 0
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert facts == [{**row.facts, "hash": row.hash} for row in rows(store)]
    assert f"head: {facts[-1]['hash']}" in done.stderr


def test_an_export_can_be_verified_alone(store: Path, tmp_path: Path, capsys: Captured) -> None:
    exported = tmp_path / "journal.jsonl"
    words = ["journal", "export", str(store), "--output", str(exported), "--json"]
    assert main(words) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    verify = ["journal", "verify", "--export", str(exported)]
    assert main([*verify, "--head", head]) == 0
    assert main([*verify, "--head", NOWHERE]) == 1
    assert main([*verify, "--previous", NOWHERE]) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("alice", "bob"),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"seq":2', '"seq":1e999'),
        lambda text: "[" * 100_000,
        lambda text: "",
        lambda text: text.replace("alice", "al\udcffice"),
    ],
    ids=["edited", "cut", "endless number", "endless nesting", "emptied", "no text"],
)
def test_a_changed_export_is_exit_code_1_whatever_is_in_it(
    spoil: Callable[[str], str], store: Path, tmp_path: Path, capsys: Captured
) -> None:
    exported = tmp_path / "journal.jsonl"
    main(["journal", "export", str(store), "--output", str(exported)])
    capsys.readouterr()
    exported.write_bytes(spoil(exported.read_text()).encode("utf-8", "surrogateescape"))
    assert main(["journal", "verify", "--export", str(exported)]) == 1
    assert capsys.readouterr().out.startswith("broken: ")


def test_an_export_of_a_changed_journal_says_so(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, "UPDATE journal SET body = replace(body, 'alice', 'bob')")
    assert main(["journal", "export", str(store)]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == len(rows(store))
    assert "broken: " in told.err


def test_a_row_that_is_no_json_ends_an_export_in_a_sentence(
    store: Path, tamper: Tamper, capsys: Captured
) -> None:
    tamper(store, "UPDATE journal SET body = 'no JSON' WHERE seq = 2")
    assert main(["journal", "export", str(store)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "a row is no JSON any more" in told.err


def test_an_export_is_written_over_no_file(store: Path, capsys: Captured) -> None:
    before = store.read_bytes()
    assert main(["journal", "export", str(store), "--output", str(store)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert store.read_bytes() == before


def test_an_export_that_cannot_be_written_is_exit_code_1(
    store: Path, tmp_path: Path, capsys: Captured
) -> None:
    place = tmp_path / "nowhere" / "journal.jsonl"
    assert main(["journal", "export", str(store), "--output", str(place)]) == 1
    assert "cannot be written (FileNotFoundError); give another place" in capsys.readouterr().err


def test_an_export_to_whoever_has_enough_is_no_error(store: Path) -> None:
    with FailSafe("trading", store=store, recovery=Recovery(probe_interval=60.0)) as failsafe:
        for number in range(60):
            failsafe.halt(actor="alice", reason=f"{number} and more" * 200)
    program = Path(sysconfig.get_path("scripts")) / "failstop"
    command = [str(program), "journal", "export", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


# Sealing


@pytest.fixture
def sealed(store: Path) -> tuple[Path, list[Path]]:
    """The store with its rows but two in two segments beside it."""
    with FailSafe("trading", store=store, recovery=Recovery(probe_interval=60.0)) as failsafe:
        for number in range(6):
            failsafe.halt(actor="alice", reason=f"number {number}")
    for keep in (5, 2):
        assert main(["journal", "seal", str(store), "--keep", str(keep)]) == 0
    return store, sorted(store.parent.glob("*.jsonl"))


def test_a_seal_says_what_it_moved(store: Path, capsys: Captured) -> None:
    before = rows(store)
    assert main(["journal", "seal", str(store), "--keep", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    [segment] = store.parent.glob("*.jsonl")
    assert (told["file"], told["rows"], told["head"]) == (
        segment.name,
        len(before),
        before[-1].hash,
    )
    assert main(["journal", "seal", str(store)]) == 0
    assert capsys.readouterr().out == "nothing to seal\n"


def test_a_broken_journal_is_not_sealed(store: Path, tamper: Tamper, capsys: Captured) -> None:
    tamper(store, "UPDATE journal SET body = replace(body, 'alice', 'bob')")
    assert main(["journal", "seal", str(store), "--keep", "0"]) == 1
    assert "is not intact: row " in capsys.readouterr().err
    assert not list(store.parent.glob("*.jsonl"))


def test_the_sealed_segments_are_verified_with_the_store(
    sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    store, segments = sealed
    capsys.readouterr()
    assert main(["journal", "verify", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["file"] for each in told["sealed"]] == [each.name for each in segments[::-1]]
    assert told["sealed"][-1]["first"] == 1


def test_a_head_from_before_a_seal_is_found_in_its_segment(
    sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    store, segments = sealed
    head = json.loads(segments[0].read_text().splitlines()[1])["hash"]
    assert main(["journal", "verify", str(store), "--head", head]) == 0
    segments[0].unlink()
    words = ["journal", "verify", str(store), "--sealed-elsewhere"]
    assert main(words) == 0
    assert main([*words, "--head", head]) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_changed_segment_is_found(
    which: int, sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    store, segments = sealed
    segments[which].write_text(segments[which].read_text().replace("alice", "bob"))
    capsys.readouterr()
    assert main(["journal", "verify", str(store)]) == 1
    assert f"broken: {segments[which].name}: row " in capsys.readouterr().out


def test_a_segment_whose_whole_chain_was_made_again_is_found(
    sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    store, (first, _) = sealed
    lines, previous = [], json.loads(first.read_text().splitlines()[0])["prev"]
    for line in first.read_text().replace("alice", "bob").splitlines():
        facts = json.loads(line)
        del facts["hash"]
        row = make_row(facts["seq"], previous, facts)
        lines.append(canonical({**row.facts, "hash": row.hash}) + "\n")
        previous = row.hash
    first.write_text("".join(lines))
    assert main(["journal", "verify", "--export", str(first)]) == 0
    assert main(["journal", "verify", str(store)]) == 1
    assert "the last row is not the given head" in capsys.readouterr().out


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_segment_is_found_unless_it_is_said_to_be_elsewhere(
    which: int, sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    store, segments = sealed
    segments[which].unlink()
    capsys.readouterr()
    assert main(["journal", "verify", str(store)]) == 1
    assert f"{segments[which].name} is not beside the store" in capsys.readouterr().out
    assert main(["journal", "verify", str(store), "--sealed-elsewhere"]) == 0
    assert f"{segments[which].name}, not here" in capsys.readouterr().out


def test_a_segment_in_the_place_of_another_is_found(sealed: tuple[Path, list[Path]]) -> None:
    store, segments = sealed
    segments[1].write_bytes(segments[0].read_bytes())
    assert main(["journal", "verify", str(store)]) == 1


def test_a_segment_whose_beginning_was_cut_is_found(sealed: tuple[Path, list[Path]]) -> None:
    store, segments = sealed
    lines = segments[0].read_text().splitlines(keepends=True)
    segments[0].write_text("".join(lines[1:]))
    assert main(["journal", "verify", str(store)]) == 1


def test_a_segment_can_be_verified_alone_and_after_the_one_before(
    sealed: tuple[Path, list[Path]], capsys: Captured
) -> None:
    _, (first, second) = sealed
    capsys.readouterr()
    assert main(["journal", "verify", "--export", str(first), "--json"]) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    verify = ["journal", "verify", "--export", str(second)]
    assert main([*verify, "--previous", head]) == 0
    assert main([*verify, "--previous", NOWHERE]) == 1


def test_an_export_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: Captured) -> None:
    assert main(["journal", "verify", "--export", str(tmp_path / "nothing.jsonl")]) == 2
    assert "there is no file 'nothing.jsonl'" in capsys.readouterr().err
