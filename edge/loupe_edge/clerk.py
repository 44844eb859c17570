"""The clerk numbers and dates whatever the station says."""

from __future__ import annotations

import time

from loupe_edge.aggregate import Look
from loupe_edge.verdict import Verdict, WireBundle, WireSync, WireTime, encodable
from loupe_models.bundle import Bundle


class Clerk:
    """Writes verdicts; `seq` is contiguous from 0, so that a listener sees what it missed."""

    def __init__(
        self,
        station: str,
        epoch: int,
        bundle: Bundle,
        *,
        expires_after_ms: int,
        calibration_id: str | None,
    ) -> None:
        self.station = station
        self.epoch = epoch
        self._bundle = WireBundle(id=bundle.manifest.id, sha256=bundle.sha256)
        self._expires_after_ns = expires_after_ms * 1_000_000
        self._calibration_id = calibration_id
        self._next_seq = 0

    @property
    def last_seq(self) -> int:
        """Number of the last verdict written; -1 before the first."""
        return self._next_seq - 1

    def write(self, look: Look, dropped_frames: int) -> Verdict:
        """Write the verdict of a frame."""
        frame, found = look.frame, look.inspection
        stamp, sync = frame.camera_time, frame.sync
        return self._sign(
            frame.captured_at_ns,
            {
                "part_id": frame.part_id,
                "frame_id": frame.frame_id,
                "camera_time": WireTime(ns=stamp.ns, domain=stamp.domain),
                "decision": found.decision,
                "reason": encodable(found.reason),
                "score": found.score,
                "mode": found.mode,
                "threshold": found.threshold,
                "p_value": found.p_value,
                "regions": found.regions,
                "sync": sync and WireSync(delta_us=sync.delta_us, domain=sync.domain),
                "depth_valid_fraction": found.depth_valid_fraction,
                "stage_us": found.stage_us,
                "dropped_frames": dropped_frames,
            },
        )

    def write_trouble(
        self, reason: str, mode: str, threshold: float, dropped_frames: int
    ) -> Verdict:
        """Write `unknown` where there was no frame to look at; the mode is the one in force."""
        return self._sign(
            time.time_ns(),
            {
                "part_id": None,
                "frame_id": None,
                "camera_time": None,
                "decision": "unknown",
                "reason": encodable(reason),
                "score": None,
                "mode": mode,
                "threshold": threshold,
                "p_value": None,
                "regions": (),
                "sync": None,
                "depth_valid_fraction": None,
                "stage_us": {},
                "dropped_frames": dropped_frames,
            },
        )

    def _sign(self, captured_at_ns: int, said: dict[str, object]) -> Verdict:
        """Number and date it; a number is spent only on a verdict that is one."""
        verdict = Verdict.model_validate(
            {
                **said,
                "station": self.station,
                "epoch": self.epoch,
                "seq": self._next_seq,
                "captured_at_ns": captured_at_ns,
                "published_at_ns": time.time_ns(),
                "expires_at_ns": captured_at_ns + self._expires_after_ns,
                "bundle": self._bundle,
                "calibration_id": self._calibration_id,
            }
        )
        self._next_seq += 1
        return verdict
