"""The page that is handed on: opened in a real browser, and held against odd tests."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.errors import EngineError
from loupe_edge.proof import ProofReport, prove
from loupe_edge.protocols import Engine, Outputs
from loupe_edge.verdict import Decision
from loupe_models.bundle import Bundle
from loupe_models.preprocess import Tensors
from loupe_trainer.data.item import Kind
from loupe_trainer.evaluate import Evaluation
from loupe_trainer.evaluating import evaluate_bundle
from loupe_trainer.outcomes import Outcome
from loupe_trainer.progress import SilentProgress
from loupe_trainer.reporting.worst import Case, title, worst_false_rejects, worst_misses
from loupe_trainer.run import RunFolder
from loupe_trainer.train import train

QUIET = SilentProgress()
WINDOW_WH = (1200, 2400)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VOID = frozenset({"meta", "img", "br"})
GOOD_RGB, DEFECT_RGB = (0, 114, 178), (213, 94, 0)


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page."""

    dom: str
    complaints: list[str]
    requests: list[str]
    screen: npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    return found


def look_at(browser: str, page: Path, folder: Path) -> Seen:
    """Open a page with no network in reach, and note what it asks of one all the same."""
    width, height = WINDOW_WH
    log, shot = folder / "net.json", folder / "screen.png"
    switches = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},{height}",
    ]  # fmt: skip
    told = [
        subprocess.run(
            [browser, *switches, *more, page.as_uri()], capture_output=True, text=True, timeout=60,
            check=True,
        )
        for more in ([f"--log-net-log={log}", "--dump-dom"], [f"--screenshot={shot}"])
    ]  # fmt: skip
    events = [event.get("params") for event in json.loads(log.read_text())["events"]]
    ours = [p for p in events if p and "file://" in str(p.get("network_isolation_key"))]
    screen = cv2.imread(str(shot))
    assert screen is not None
    return Seen(
        dom=told[0].stdout,
        complaints=[line for line in told[0].stderr.splitlines() if "CONSOLE" in line],
        requests=[p["url"] for p in ours if "url" in p],
        screen=np.asarray(screen[..., ::-1], dtype=np.uint8),
    )


def has_colour(screen: npt.NDArray[np.uint8], rgb: tuple[int, int, int]) -> bool:
    return bool((screen == np.array(rgb, np.uint8)).all(axis=2).any())


@pytest.fixture
def run(spots: object, mvtec_folder: Path, recipe_file: Path, tmp_path: Path) -> RunFolder:
    assert spots
    return train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)


def test_a_browser_opens_it_without_script_or_network(
    run: RunFolder, browser: str, tmp_path: Path
) -> None:
    page = run.evaluation / "report.html"
    seen = look_at(browser, page, tmp_path)
    assert seen.complaints == []
    assert seen.requests == []
    assert "<script" not in seen.dom
    assert seen.dom.rstrip().endswith("</html>")
    assert seen.dom.count("<img") == page.read_text().count("<img") >= 50
    assert seen.screen.shape == (WINDOW_WH[1], WINDOW_WH[0], 3)
    assert has_colour(seen.screen, GOOD_RGB)  # the bars of the histogram
    assert has_colour(seen.screen, DEFECT_RGB)
    assert (seen.screen[:, -8:] == 255).all()  # nothing runs over the margin


def test_the_browser_would_have_told(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://example.com/a.png"><script>console.error("no")</script>')
    seen = look_at(browser, page, tmp_path)
    assert len(seen.complaints) >= 1
    assert seen.requests == ["http://example.com/a.png"]


def test_what_a_reader_looks_for_is_there(run: RunFolder) -> None:
    words = _words(run.evaluation / "report.html")
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    low, high = metrics["au_pro_30_interval"]
    for wanted in (
        "0 of 12 defective parts escaped",
        "between 0.0 and 26.5 %",  # exact: 1 - 0.025 ** (1 / 12)
        "0 of 10 good parts were rejected falsely",
        "at most 10 % of good parts are rejected, with 95% confidence, from 44 good parts",
        "No part of the test was learnt from",
        f"{metrics['au_pro_30']:.3f} {low:.3f} to {high:.3f}",
        "The test's own labels choose that cut",
        "No misses, and the 10 caught by the least margin",
        "No false rejects, and the 10 passed by the least margin",
        "infer",
        metrics["test_data_sha256"],
        run.read()["data_sha256"],
    ):
        assert str(wanted) in words, wanted


class Nesting(HTMLParser):
    """Keeps account of what is open, and of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        assert all(not (v or "").startswith(("http", "//")) for k, v in attrs if k != "alt")

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def _words(page: Path) -> str:
    reader = Nesting()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    return re.sub(r"\s+", " ", " ".join(reader.words))


def _subset(run: RunFolder, good: int, bad: int, has_masks: bool) -> Path:
    """Write an index of a few test pictures."""
    lines = [json.loads(text) for text in (run.split / "test.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["label"] == 0][:good]
    kept += [line for line in lines if line["label"] == 1][:bad]
    for line in kept:
        if not has_masks:
            line.pop("maskname", None)
    index = run.path / "subset.jsonl"
    index.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return index


@pytest.mark.parametrize(
    ("good", "bad", "has_masks", "says"),
    [
        (3, 0, True, ["No defective part was tested", "nothing is known of escapes",
                      "holds no defect", "No ROC curve", "No region-overlap curve"]),
        (0, 3, True, ["No good part was tested", "nothing is known of false rejects",
                      "No ROC curve"]),
        (3, 3, False, ["no tested defect has a truth mask", "nobody drew a mask",
                       "No region-overlap curve"]),
        (1, 1, True, ["rests on a single part of one kind", "too few parts for an interval"]),
    ],
)  # fmt: skip
def test_a_test_that_lacks_something_says_so(
    run: RunFolder, good: int, bad: int, has_masks: bool, says: list[str]
) -> None:
    out = run.path / "odd"
    metrics = evaluate_bundle(run.bundle, _subset(run, good, bad, has_masks), out, None, QUIET)
    words = _words(out / "report.html")
    assert "nan" not in words
    assert "NaN" not in (out / "metrics.json").read_text()
    for wanted in says:
        assert wanted in words, wanted
    assert metrics["image_auroc_interval"] is None or min(good, bad) > 1


def test_nothing_could_be_measured(
    run: RunFolder, browser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: OnnxRuntimeEngine, tensors: Tensors) -> Outputs:  # noqa: ARG001
        raise EngineError("out of <memory>")

    def prove_then_fail(bundle: Bundle, mode: str, engine: Engine) -> ProofReport:
        proof = prove(bundle, mode, engine)
        monkeypatch.setattr(OnnxRuntimeEngine, "infer", fails)
        return proof

    monkeypatch.setattr("loupe_trainer.evaluate.prove", prove_then_fail)
    evaluate_bundle(run.bundle, run.split / "test.jsonl", run.path / "odd", None, QUIET)
    words = _words(run.path / "odd" / "report.html")
    assert "22 parts could not be judged and were called unknown" in words
    assert "This test breaks that promise" in words
    assert "No frame was scored" in words
    assert "out of <memory>" in words
    assert look_at(browser, run.path / "odd" / "report.html", tmp_path).complaints == []


def test_a_bundle_without_its_run_is_not_vouched_for(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.bundle, tmp_path / "alone" / "bundle")
    metrics = evaluate_bundle(
        tmp_path / "alone" / "bundle", run.split / "fit.jsonl", tmp_path / "e", None, QUIET
    )
    assert metrics["is_checked_against_learnt"] is False
    assert "Not checked:" in _words(tmp_path / "e" / "report.html")


def test_wrong_answers_come_first_the_worst_before_all() -> None:
    cut = 0.5
    parts = [
        _part("far miss", "defect", 0.1, cut),
        _part("caught", "defect", 0.6, cut),
        _part("near miss", "defect", 0.4, cut),
        _part("well caught", "defect", 0.9, cut),
        _part("unseen defect", "defect", None, cut),
        _part("passed", "good", 0.3, cut),
        _part("rejected", "good", 0.6, cut),
        _part("unseen good", "good", None, cut),
        _part("badly rejected", "good", 0.8, cut),
    ]
    evaluation = Evaluation("rgb", 0, cut, tuple(parts), tuple(parts), (), (), ())
    misses = [(c.part.name, c.is_wrong) for c in worst_misses(evaluation)]
    assert misses == [
        ("far miss", True), ("near miss", True), ("caught", False), ("well caught", False),
    ]  # fmt: skip
    rejects = [(c.part.name, c.is_wrong) for c in worst_false_rejects(evaluation)]
    assert rejects == [
        ("unseen good", True), ("badly rejected", True), ("rejected", True), ("passed", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("n_wrong", "n_right", "says"),
    [
        (10, 0, "The 10 worst misses"),
        (4, 0, "4 misses"),
        (1, 9, "1 miss, and the 9 caught by the least margin"),
        (0, 10, "No misses, and the 10 caught by the least margin"),
        (0, 0, "No misses"),
    ],
)
def test_a_title_counts_the_mistakes_below_it(n_wrong: int, n_right: int, says: str) -> None:
    part = _part("any", "defect", 0.1, 0.5)
    cases = [Case(part, None, is_wrong=i < n_wrong) for i in range(n_wrong + n_right)]
    assert title(cases, "miss", "misses", "caught") == says


def _part(name: str, kind: Kind, score: float | None, cut: float) -> Outcome:
    decision: Decision = "unknown" if score is None else "defect" if score > cut else "good"
    defect = "dent" if kind == "defect" else None
    return Outcome(name, name, "", kind, defect, decision, "", score)
