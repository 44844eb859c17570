"""The watcher, fed by hand: every way in which a stream of verdicts can go wrong."""

from __future__ import annotations

import json

import pytest
from wire import good_document

from loupe_edge.watcher import Event, Moment, Watcher

S_NS = 1_000_000_000
EPOCH = 1_700_000_000 * S_NS


def at(seconds: float) -> Moment:
    return Moment(EPOCH + int(seconds * S_NS), int(seconds * S_NS))


def verdict_document(seq: int, *, epoch: int = EPOCH, sent_s: float = 0.0) -> dict[str, object]:
    sent_ns = EPOCH + int(sent_s * S_NS)
    times = {"captured_at_ns": 0, "published_at_ns": S_NS // 50, "expires_at_ns": S_NS // 2}
    document = good_document(seq) | {k: sent_ns + ns for k, ns in times.items()} | {"epoch": epoch}
    return document | ({"decision": "defect", "score": 1.5} if seq % 2 else {})


def verdict(seq: int, *, epoch: int = EPOCH, sent_s: float = 0.0) -> list[bytes]:
    document = verdict_document(seq, epoch=epoch, sent_s=sent_s)
    return [b"verdict/press-3/", json.dumps(document).encode()]


def heartbeat(seq: int, *, state: str = "ready", epoch: int = EPOCH) -> list[bytes]:
    document = {
        "schema": 1,
        "station": "press-3",
        "epoch": epoch,
        "seq": seq,
        "state": state,
        "reason": "",
        "at_ns": EPOCH,
    }
    return [b"heartbeat/press-3/", json.dumps(document).encode()]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_contiguous_verdicts_raise_no_alarm() -> None:
    watcher = Watcher()
    heard = [kinds(watcher.receive(verdict(seq), at(0.1))) for seq in range(3)]
    assert heard == [["joined", "verdict"], ["verdict"], ["verdict"]]
    (summary,) = watcher.summary()
    assert (summary.n["good"], summary.n["defect"], summary.n_lost) == (2, 1, 0)
    assert summary.latency_ms == (20.0, 20.0)


def test_joining_midway_is_no_gap() -> None:
    watcher = Watcher()
    assert kinds(watcher.receive(verdict(41), at(0))) == ["joined", "verdict"]
    assert watcher.summary()[0].n_lost == 0


@pytest.mark.parametrize(
    ("seq", "says"), [(41, "joined after verdict 41"), (-1, "joined before any verdict")]
)
def test_joining_at_a_heartbeat_names_the_last_verdict_where_there_is_one(
    seq: int, says: str
) -> None:
    joined, *_ = Watcher().receive(heartbeat(seq), at(0))
    assert (joined.kind, joined.text) == ("joined", says)


def test_a_gap_counts_what_is_missing() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0), at(0))
    gap, arrived = watcher.receive(verdict(4), at(0))
    assert (gap.kind, gap.n_lost, arrived.kind) == ("gap", 3, "verdict")
    assert "verdicts 1 to 3" in gap.text
    assert watcher.summary()[0].n_lost == 3


def test_the_last_verdicts_lost_are_noticed_by_heartbeat() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0), at(0))
    assert "gap" not in kinds(watcher.receive(heartbeat(2), at(0.1)))
    late = watcher.receive(heartbeat(2), at(0.35))
    assert [event.n_lost for event in late if event.kind == "gap"] == [2]
    assert "gap" not in kinds(watcher.receive(heartbeat(2), at(0.38)))
    assert kinds(watcher.receive(verdict(3), at(0.4))) == ["verdict"]


def test_a_heartbeat_may_overtake_its_verdict() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0), at(0))
    watcher.receive(heartbeat(1), at(0.1))
    watcher.receive(verdict(1), at(0.11))
    assert kinds(watcher.receive(heartbeat(1), at(0.35))) == ["heartbeat"]


def test_the_first_verdict_lost_after_a_starting_heartbeat() -> None:
    watcher = Watcher()
    watcher.receive(heartbeat(-1, state="starting"), at(0))
    assert kinds(watcher.receive(verdict(1), at(0.1))) == ["gap", "verdict"]


@pytest.mark.parametrize(("now_s", "late"), [(0.5, False), (0.501, True)])
def test_expiry_is_told(now_s: float, late: bool) -> None:
    events = Watcher().receive(verdict(0), at(now_s))
    assert ("expired" in kinds(events)) is late


def test_silence_is_told_once_and_ended_once() -> None:
    watcher = Watcher()
    watcher.receive(heartbeat(-1), at(0))
    assert watcher.tick(at(1.0)) == []
    (silence,) = watcher.tick(at(1.1))
    assert (silence.kind, silence.station) == ("silence", "press-3")
    assert watcher.tick(at(5.0)) == []
    assert kinds(watcher.receive(heartbeat(-1), at(6.0))) == ["back", "heartbeat"]
    assert watcher.tick(at(6.5)) == []
    assert kinds(watcher.tick(at(7.1))) == ["silence"]
    assert watcher.summary()[0].n["silence"] == 2


def test_verdicts_without_heartbeats_do_not_break_the_silence() -> None:
    watcher = Watcher()
    watcher.receive(heartbeat(-1), at(0))
    watcher.receive(verdict(0, sent_s=1.0), at(1.0))
    assert kinds(watcher.tick(at(1.2))) == ["silence"]


def test_nothing_heard_at_all_is_told_once() -> None:
    watcher = Watcher()
    assert watcher.tick(at(0)) == []
    assert watcher.tick(at(0.9)) == []
    assert kinds(watcher.tick(at(1.1))) == ["silence"]
    assert watcher.tick(at(9)) == []


def test_a_restart_begins_a_new_count() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0), at(0))
    watcher.receive(verdict(1), at(0))
    assert kinds(watcher.receive(verdict(0, epoch=EPOCH + 1), at(0))) == ["restart", "verdict"]
    assert kinds(watcher.receive(verdict(2, epoch=EPOCH + 1), at(0))) == ["gap", "verdict"]


def test_dropped_frames_are_summed_over_restarts() -> None:
    watcher = Watcher()
    for seq, epoch, n_dropped in ((0, EPOCH, 2), (1, EPOCH, 5), (0, EPOCH + 1, 3)):
        document = verdict_document(seq, epoch=epoch) | {"dropped_frames": n_dropped}
        watcher.receive([b"verdict/press-3/", json.dumps(document).encode()], at(0))
    assert watcher.summary()[0].n_dropped == 8


def test_a_message_of_an_earlier_epoch_is_refused() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0, epoch=EPOCH + 1), at(0))
    assert kinds(watcher.receive(verdict(5, epoch=EPOCH), at(0))) == ["stale"]


def test_a_repeated_verdict_counts_once() -> None:
    watcher = Watcher()
    watcher.receive(verdict(0), at(0))
    assert kinds(watcher.receive(verdict(0), at(0))) == ["repeat"]
    assert watcher.summary()[0].n["good"] == 1


def test_a_change_of_state_is_told_once() -> None:
    watcher = Watcher()
    assert kinds(watcher.receive(heartbeat(-1), at(0)))[1:] == ["state", "heartbeat"]
    assert kinds(watcher.receive(heartbeat(-1), at(0.2))) == ["heartbeat"]
    (state, _) = watcher.receive(heartbeat(-1, state="fault"), at(0.4))
    assert (state.kind, state.text) == ("state", "fault")


def without(key: str) -> bytes:
    document = verdict_document(0)
    del document[key]
    return json.dumps(document).encode()


def with_(key: str, value: object) -> bytes:
    return json.dumps(verdict_document(0) | {key: value}).encode()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "0 message part"),
        ([b"verdict/press-3/"], "1 message part"),
        ([b"weather/press-3/", b"{}"], "topic"),
        ([b"verdict/press-3", b"{}"], "topic"),
        ([b"\xff\xfe", b"{}"], "topic"),
        ([b"verdict/press-3/", b"{"], "not JSON"),
        ([b"verdict/press-3/", b"\xff"], "not JSON"),
        ([b"verdict/press-3/", b'{"score": NaN}'], "not JSON"),
        ([b"verdict/press-3/", b"[]"], "schema None"),
        ([b"verdict/press-3/", with_("schema", 2)], "schema 2"),
        ([b"verdict/press-3/", without("seq")], "seq"),
        ([b"verdict/press-3/", with_("extra", 1)], "extra"),
        ([b"verdict/press-3/", with_("decision", "ok")], "decision"),
        ([b"verdict/press-3/", with_("station", "other")], "other"),
        ([b"verdict/press-3/", with_("schema", True)], "schema True"),
        ([b"verdict/press-3/", with_("seq", True)], "seq"),
        ([b"verdict/press-3/", with_("seq", "1")], "seq"),
        ([b"verdict/press-3/", with_("seq", 2**63)], "seq"),
        ([b"verdict/press-3/", with_("captured_at_ns", 10**30)], "captured_at_ns"),
        ([b"verdict/press-3/", with_("captured_at_ns", -1)], "captured_at_ns"),
        ([b"verdict/press-3/", with_("expires_at_ns", 10**400)], "expires_at_ns"),
        ([b"verdict/press-3/", with_("stage_us", {"infer": 10**400})], "stage_us.infer"),
        ([b"verdict/press-3/", with_("part_id", "\ud800")], "not JSON"),
        ([b"verdict/press-3/", with_("score", None)], "good without a score"),
        ([b"verdict/press-3/", with_("score", 1.1)], "good with score 1.1 at threshold 1.0"),
        ([b"verdict/press-3/", with_("decision", "defect")], "defect with score 0.5"),
        ([b"verdict/press-3/", with_("decision", "unknown")], "unknown without a reason"),
        ([b"verdict/" + b"x" * 100_000, b"{}"], "topic 'verdict/xxx"),
    ],
)
def test_malformed_messages_are_told_and_change_nothing(parts: list[bytes], says: str) -> None:
    watcher = Watcher()
    (event,) = watcher.receive(parts, at(0))
    assert event.kind == "malformed"
    assert says in event.text
    assert len(event.text) < 400
    assert watcher.n_malformed == 1
    assert watcher.summary() == []


def test_image_parts_after_the_header_are_allowed() -> None:
    assert "verdict" in kinds(Watcher().receive([*verdict(0), b"\x89PNG"], at(0)))
