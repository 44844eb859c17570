"""Simulate, learn, replay, listen: the public commands in a row, then a table and a gallery."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from loupe_calibration.errors import FaultError, LoupeError
from loupe_trainer.demo.acts import FirstAct, SecondAct
from loupe_trainer.demo.failover import show_failover, write_station
from loupe_trainer.demo.gallery import write_page
from loupe_trainer.demo.outcome import read_outcome
from loupe_trainer.demo.show import show
from loupe_trainer.demo.table import print_failover, print_tables
from loupe_trainer.errors import StoppedError
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.pretrain import TEACHER

OUT = Path("demo")
RECIPE = Path("trainer/recipes/demo.toml")
N_GOOD_PARTS, GOOD_SEED = 150, 1
N_TEST_PARTS, TEST_SEED, DEFECT_SHARE = 100, 7, 0.5
FAILOVER_RECIPE = Path("trainer/recipes/cmdiad_demo.toml")
N_FAILOVER_PARTS, FAILOVER_SEED, DEPTH_OFF = 60, 8, (20, 40)


def main() -> int:
    """Run the demo; give the exit status."""
    console = Console()
    began = time.monotonic()
    try:
        _demo(console)
    except LoupeError as error:
        console.print(f"[red]demo: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        console.print("\ndemo: interrupted; the next one begins anew")
        return StoppedError.exit_status
    console.print(f"The whole demo took {(time.monotonic() - began) / 60:.1f} minutes.")
    return 0


def _demo(console: Console) -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    good = OUT / "good.db3"
    first, second = _first_act(console, good), _second_act(console, good)
    gallery = write_page(OUT, first, second)
    console.print(f"Gallery: {gallery.resolve()}")


def _first_act(console: Console, good: Path) -> FirstAct:
    test, run = OUT / "test.db3", OUT / "run"
    _say(console, "1. Good parts pass the camera")
    _call("loupe-edge", "simulate", good, "--parts", N_GOOD_PARTS, "--seed", GOOD_SEED)
    _say(console, "2. The trainer learns from them and exports a bundle")
    _call("loupe-trainer", "train", RECIPE, "--data", good, "--out", run)
    _say(console, "3. Other parts pass, half of them with a defect")
    _call("loupe-edge", "simulate", test, "--parts", N_TEST_PARTS, "--seed", TEST_SEED,
          "--defects", DEFECT_SHARE)  # fmt: skip
    _say(
        console, "4. The edge inspects them and publishes; a subscriber in another process listens"
    )
    received = OUT / "received.jsonl"
    _replay(run / "bundle", test, received)
    _say(console, "5. What came of it")
    outcome = read_outcome(received, test)
    shown = show(RunFolder(run), test, outcome)
    print_tables(console, outcome, shown.gaussian_auroc)
    return shown


def _second_act(console: Console, good: Path) -> SecondAct:
    fails, run, station = OUT / "fails.db3", OUT / "run_rgbd", OUT / "station.toml"
    _say(
        console, "6. The same good parts, learnt from in colour and depth: one bundle, three modes"
    )
    teacher = RunFolder(OUT / "run").checkpoints / TEACHER  # of step 2: made once, used twice
    _call("loupe-trainer", "train", FAILOVER_RECIPE, "--data", good, "--out", run,
          "--set", f"fit.rgb.teacher={teacher.resolve()}")  # fmt: skip
    _say(console, "7. More parts pass, and for a third of them the camera's depth is off")
    _call("loupe-edge", "simulate", fails, "--parts", N_FAILOVER_PARTS, "--seed", FAILOVER_SEED,
          "--defects", DEFECT_SHARE, "--depth-off", ":".join(map(str, DEPTH_OFF)))  # fmt: skip
    _say(console, "8. The edge looks with both; without depth, with colour alone")
    received = OUT / "received_rgbd.jsonl"
    write_station(station, run / "bundle", fails)
    _replay(run / "bundle", fails, received, "--station", station)
    _say(console, "9. What came of it")
    outcome = read_outcome(received, fails)
    print_failover(console, outcome)
    return show_failover(RunFolder(run), fails, outcome)


def _replay(bundle: Path, recording: Path, received: Path, *more: object) -> None:
    """Replay to a subscriber in another process, which writes what it received."""
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    with _subscriber(endpoint, received):
        _call("loupe-edge", "replay", "--bundle", bundle, "--recording", recording, *more,
              "--publish", endpoint)  # fmt: skip


def _say(console: Console, what: str) -> None:
    console.print(f"\n[bold]{what}")


def _call(*words: object) -> None:
    """Run one of the public commands, shown as a user would type it."""
    command = [str(word) for word in words]
    Console().print(f"[dim]$ {' '.join(command)}", highlight=False)
    status = subprocess.run([_installed(command[0]), *command[1:]], check=False).returncode
    if status:
        raise FaultError(f"{' '.join(command)} ended with status {status}")


def _installed(name: str) -> str:
    """Find a command of ours beside the interpreter that runs this, on the path or not."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def _subscriber(endpoint: str, received: Path) -> Iterator[None]:
    command = [_installed("loupe-edge"), "listen", endpoint, "--json"]
    with received.open("wb") as stream, subprocess.Popen(command, stdout=stream) as process:
        try:
            yield
            time.sleep(0.5)  # what is on the wire arrives
        finally:
            process.send_signal(signal.SIGINT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
