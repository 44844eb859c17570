"""What every benchmark shares: a figure is written with its command, its commit and its machine."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from loupe_edge.machine import describe_machine
from loupe_models.atomic import write_text

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
SAY_EVERY_S = 10.0

Sides = Mapping[str, Callable[[], object]]
TimesUs = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure and the most (or, for `is_least`, the least) it may be."""

    what: str
    figure: float
    limit: float
    unit: str
    is_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure keeps the limit; NaN does not."""
        return self.figure >= self.limit if self.is_least else self.figure <= self.limit


def take_turns(sides: Sides, n_rounds: int, n_warm_up: int, rest_s: float = 0.0) -> TimesUs:
    """Time one call of each side a round, in microseconds; every other round backwards.

    So all share the machine's moods, none always comes after the same other, and what one round
    gives belongs together.

    Args:
        sides: What is timed, by name.
        n_rounds: Kept.
        n_warm_up: Rounds before them.
        rest_s: Before each call, where threads that one side left spinning would slow the next.
    """
    times_us: TimesUs = {side: [] for side in sides}
    there, back = list(sides.items()), list(sides.items())[::-1]
    due_s = time.monotonic() + SAY_EVERY_S
    for n in range(-n_warm_up, n_rounds):
        if time.monotonic() > due_s:
            say(f"round {n} of {n_rounds}")
            due_s += SAY_EVERY_S
        for side, call in back if n % 2 else there:
            if rest_s:
                time.sleep(rest_s)
            began_ns = time.perf_counter_ns()
            call()
            spent_us = (time.perf_counter_ns() - began_ns) / 1e3
            if n >= 0:
                times_us[side].append(spent_us)
    return times_us


def paired_ratio(times_us: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Give the median over rounds of one side's time over another's in the same round."""
    return float(np.median(np.divide(times_us[one], times_us[other])))


def finish(name: str, figures: Mapping[str, object], budgets: list[Budget]) -> int:
    """Write `results/NAME.json` whole or not at all, and say how the budgets stand.

    Returns:
        The exit status: 1 where a budget does not hold.
    """
    document = {
        "benchmark": name,
        "command": _command(),
        "commit": _commit(),
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {**describe_machine(), **_mood()},
        "figures": figures,
        "budgets": [
            {
                "what": budget.what,
                "figure": round(budget.figure, 4),
                "at least" if budget.is_least else "at most": budget.limit,
                "unit": budget.unit,
                "holds": budget.holds,
            }
            for budget in budgets
        ],
    }
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps(document, indent=1) + "\n")
    for budget in budgets:
        verdict = "holds" if budget.holds else "DOES NOT HOLD"
        bound = "at least" if budget.is_least else "at most"
        figure = f"{budget.figure:.4g} {budget.unit}".rstrip()
        say(f"{budget.what}: {figure}, {bound} {budget.limit:g}: {verdict}")
    say(f"written: {path.relative_to(REPOSITORY)}")
    return 0 if all(budget.holds for budget in budgets) else 1


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _mood() -> dict[str, object]:
    """Say how busy the machine is, and how far this process goes before others (-20: first)."""
    return {"load_average": [round(n, 1) for n in os.getloadavg()], "niceness": os.nice(0)}


def _command() -> str:
    script = Path(sys.argv[0]).resolve()
    return shlex.join(["python", str(script.relative_to(REPOSITORY)), *sys.argv[1:]])


def _commit() -> dict[str, object]:
    """Name the commit, and whether tracked files differ from it (results apart)."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RESULTS}")
    return {"sha": _git("rev-parse", "HEAD"), "is_dirty": bool(changed)}


def _git(*words: str) -> str:
    told = subprocess.run(
        ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() if told.returncode == 0 else "unknown"
