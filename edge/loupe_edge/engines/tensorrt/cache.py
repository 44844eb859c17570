"""Where plans are kept: outside the bundle, each under everything that it depends on.

FOLDER/plans/DIGEST/engine.plan, plan.json      one plan, and what it is of
FOLDER/timing/DIGEST.timing                     what TensorRT measured on one device
FOLDER/kernels/front-ARCH-DIGEST.cubin          the GPU front's kernels, compiled
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loupe_edge.engines.tensorrt.key import DeviceKey, PlanKey
from loupe_edge.errors import PlanCacheError
from loupe_models.atomic import put_folder, write_bytes
from loupe_models.bundle import refuse_inside_bundle
from loupe_models.making import hold
from loupe_models.strict_json import loads

PLAN, RECORD = "engine.plan", "plan.json"
MAX_PLANS: Final = 32  # the newest; a bundle that comes back after so many is built again
POLL_S: Final = 0.2

log = logging.getLogger(__name__)

Keep = Callable[[bytes], None]


def default_cache() -> Path:
    """Give the folder of this user's or this service's plans.

    Raises:
        PlanCacheError: The user has no home, and nobody named a folder.
    """
    if told := os.environ.get("CACHE_DIRECTORY"):  # systemd's CacheDirectory=
        return Path(told.partition(":")[0])
    if told := os.environ.get("XDG_CACHE_HOME"):
        return Path(told) / "loupe"
    try:
        return Path.home() / ".cache" / "loupe"
    except RuntimeError as error:
        raise PlanCacheError(
            "this user has no home to keep TensorRT's plans in; set CacheDirectory=loupe in the "
            "unit, or name a folder: [engine] cache in the station's file, --cache on the "
            "command line"
        ) from error


class PlanCache:
    """Plans in a folder; only what is whole and was made for the very same key is given out.

    Raises:
        BundleError: The folder is a bundle or lies in one, where nothing may be added.
    """

    def __init__(self, folder: Path) -> None:
        refuse_inside_bundle(folder)
        self.folder = folder
        self.kernels = folder / "kernels"

    def load(self, key: PlanKey) -> bytes | None:
        """Give a plan; None, with the reason in the log, where none can be believed."""
        place = self.place(key)
        if not place.exists():
            return None
        try:
            record = loads((place / RECORD).read_bytes())
            plan = (place / PLAN).read_bytes()
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s): it is built again", place, error)
            return None
        if not isinstance(record, dict) or record.get("key") != key.document:
            log.warning("%s was made for another device or graph: it is built again", place)
            return None
        if record.get("sha256") != hashlib.sha256(plan).hexdigest():
            log.warning("%s is damaged (sha256 differs): it is built again", place)
            return None
        return plan

    @contextmanager
    def making(self, key: PlanKey) -> Iterator[Keep]:
        """Hold the place of one plan; waits while another process builds it.

        Gives what keeps the plan, whole or not at all. Without that call nothing is kept.

        Raises:
            PlanCacheError: The folder cannot be written.
        """
        making = self.folder / "plans" / f".{key.digest}.making"
        with self._explained():
            making.parent.mkdir(parents=True, exist_ok=True)
            handle = _held(making)
        is_kept = False

        def keep(plan: bytes) -> None:
            nonlocal is_kept
            digest = hashlib.sha256(plan).hexdigest()
            record = {"key": key.document, "sha256": digest, "n_bytes": len(plan)}
            with self._explained():
                write_bytes(making / PLAN, plan)
                write_bytes(making / RECORD, json.dumps(record, indent=1).encode())
                put_folder(making, self.place(key))
            is_kept = True
            self._forget_oldest()

        try:
            yield keep
        finally:
            if not is_kept:
                shutil.rmtree(making, ignore_errors=True)
            os.close(handle)

    def timing(self, device: DeviceKey) -> bytes:
        """Give what TensorRT measured on this device before; empty where nothing is kept."""
        try:
            return self._timing(device).read_bytes()
        except OSError:
            return b""

    def keep_timing(self, device: DeviceKey, measured: bytes) -> None:
        """Keep what TensorRT measured on this device, so that the next build is quicker.

        Raises:
            PlanCacheError: The folder cannot be written.
        """
        with self._explained():
            write_bytes(self._timing(device), measured)

    def place(self, key: PlanKey) -> Path:
        """Give the folder of a plan, which need not exist."""
        return self.folder / "plans" / key.digest

    def _timing(self, device: DeviceKey) -> Path:
        return self.folder / "timing" / f"{device.digest}.timing"

    def _forget_oldest(self) -> None:
        plans = [place for place in (self.folder / "plans").iterdir() if place.name[0] != "."]
        plans.sort(key=lambda place: place.stat().st_mtime_ns, reverse=True)
        for place in plans[MAX_PLANS:]:
            shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PlanCacheError(
                f"{self.folder}: TensorRT's plans cannot be kept there ({error.strerror}); let "
                f"the service's user write there (CacheDirectory=loupe in the unit), or name "
                f"another folder: [engine] cache in the station's file, --cache on the command "
                f"line. A folder that can only be read serves plans that are built already, for "
                f"this graph, GPU, driver and TensorRT"
            ) from error


def _held(making: Path) -> int:
    is_told = False
    while True:
        try:
            return hold(making)
        except BlockingIOError:
            if not is_told:
                log.info("another process builds this plan: waiting for it")
            is_told = True
            time.sleep(POLL_S)
