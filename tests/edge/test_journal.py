"""The journal keeps whole lines, whatever happens to the process or the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import full_disk

from loupe_edge.errors import JournalError, StationError
from loupe_edge.journal import JsonlJournal, last_epoch, read_journal
from loupe_edge.verdict import Verdict

MakeVerdict = Callable[..., Verdict]


def test_verdicts_come_back_as_they_were(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    journal = JsonlJournal(path)
    said = [make_verdict(seq=i, decision=d) for i, d in enumerate(["good", "defect", "unknown"])]
    for verdict in said:
        journal.append(verdict)
    assert list(read_journal(path)) == said  # each line is on the disk before the next
    journal.close()
    journal.close()


def test_a_journal_is_only_ever_appended_to(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    path = tmp_path / "journal.jsonl"
    for epoch in (100, 200):
        journal = JsonlJournal(path)
        journal.append(make_verdict(epoch=epoch))
        journal.close()
    assert [v.epoch for v in read_journal(path)] == [100, 200]
    assert last_epoch(path) == 200
    assert last_epoch(tmp_path / "absent") == 0


def test_a_torn_last_line_costs_only_itself(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    path = tmp_path / "journal.jsonl"
    journal = JsonlJournal(path)
    for seq in range(3):
        journal.append(make_verdict(epoch=7, seq=seq))
    journal.close()
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 20)
    assert last_epoch(path) == 7
    journal = JsonlJournal(path)
    journal.append(make_verdict(epoch=8, seq=0))
    journal.close()
    assert [(v.epoch, v.seq) for v in read_journal(path)] == [(7, 0), (7, 1), (8, 0)]


def test_a_place_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file/journal"):
        JsonlJournal(tmp_path / "file" / "journal.jsonl")


def test_a_full_disk_loses_no_verdict_once_there_is_space(
    tmp_path: Path, make_verdict: MakeVerdict
) -> None:
    path = tmp_path / "journal.jsonl"
    journal = JsonlJournal(path)
    journal.append(make_verdict(seq=0))
    line = path.stat().st_size
    with full_disk(line + line // 2):
        with pytest.raises(JournalError, match="1 verdicts wait in memory; free some space"):
            journal.append(make_verdict(seq=1))
        with pytest.raises(JournalError, match="2 verdicts wait"):
            journal.append(make_verdict(seq=2))
    journal.append(make_verdict(seq=3))
    journal.close()
    assert [v.seq for v in read_journal(path)] == [0, 1, 2, 3]


ENDLESS = """
import sys
from pathlib import Path
from loupe_edge.journal import JsonlJournal
from loupe_edge.verdict import Verdict
verdict = Verdict.model_validate_json(sys.stdin.readline())
journal = JsonlJournal(Path(sys.argv[1]))
for seq in range(10**9):
    journal.append(verdict.model_copy(update={"seq": seq}))
    if seq == 100:
        print("started", flush=True)
"""


def test_a_kill_leaves_a_contiguous_journal(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    path = tmp_path / "journal.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(make_verdict(seq=0).model_dump_json(by_alias=True) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "started\n"
        os.kill(process.pid, signal.SIGKILL)
    journal = JsonlJournal(path)
    journal.append(make_verdict(epoch=9, seq=0))
    journal.close()
    *before, after = read_journal(path)
    assert len(before) > 100
    assert [v.seq for v in before] == list(range(len(before)))
    assert after.epoch == 9


def test_two_stations_cannot_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = JsonlJournal(path)
    with pytest.raises(StationError, match=r"journal\.path: .* by another station"):
        JsonlJournal(path)
    first.close()
    JsonlJournal(path).close()
