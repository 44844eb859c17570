"""What one modality gains from the other in CMDIAD: each alone, with distillation and without."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from harness import REPOSITORY, finish, say

from loupe_edge.simulate import Scenario, gate_spec, simulate
from loupe_models.gate import GateSpec, gate
from loupe_models.manifest import Mode
from loupe_models.preprocess import PreprocessSpec, Tensors, preprocess
from loupe_trainer.bootstrap import Floats, bootstrap
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.pothole import open_potholes
from loupe_trainer.data.recording import RecordingSet
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.config import CmdiadConfig
from loupe_trainer.methods.cmdiad.detector import CmdiadDetector
from loupe_trainer.methods.cmdiad.encoders import Encoders, Opening
from loupe_trainer.methods.cmdiad.judge import Judge, fit_fusion
from loupe_trainer.methods.cmdiad.learning import Learning
from loupe_trainer.methods.cmdiad.material import Material, divide
from loupe_trainer.methods.cmdiad.method import open_cmdiad
from loupe_trainer.progress import SilentProgress
from loupe_trainer.ranking import Ranking
from loupe_trainer.run import RunFolder

DATA = Path(os.environ.get("LOUPE_DATA", REPOSITORY.parent / "shared" / "data"))
POTHOLE = DATA / "pothole_rgbd_tiles"
PLACE = REPOSITORY / "runs" / "cmdiad_gain"
SEEDS = (1, 2, 3)
BOTH: tuple[Literal["rgb", "depth"], ...] = ("rgb", "depth")
N_PARTS, GOOD_SEED, EXAM_SEED, DEFECT_SHARE = 130, 1, 11, 0.6
DEFECTS = ("dent", "scratch", "stain")
QUIET = SilentProgress()
FIT: dict[str, Any] = {
    "rgb": {"kind": "pdn"},
    "distillation": {"epochs": 10, "batch": 8, "lr": 1e-3},
}
RELIEF = {"kind": "relief", "place_mm": 10}
SETTINGS = ("rgb", "rgb, distilled", "depth", "depth, distilled", "both")
WAYS = ("map peak", "map peak, banks added by an SVM", "published score")
Scores = Mapping[str, Mapping[str, float]]


class Frames(list[Tensors]):
    """What `preprocess` gave of some items, in order."""

    def __init__(self, seen: Iterable[tuple[Item, Tensors]]) -> None:
        pairs = list(seen)
        super().__init__(tensors for _, tensors in pairs)
        self.items: Sequence[Item] = [item for item, _ in pairs]


@dataclass(frozen=True, slots=True)
class Trial:
    """Frames to learn from and to be asked about."""

    good: Frames
    exam: Frames


def main() -> int:
    """Run every setting on every data set that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pothole", type=Path, default=POTHOLE, help="folder of the tiles")
    given = parser.parse_args()
    if not given.pothole.is_dir():
        parser.error(f"no {given.pothole}: set LOUPE_DATA to the folder that holds it")
    figures = {
        "belt": together("belt", belt),
        "pothole": together("pothole", partial(potholes, given.pothole)),
    }
    return finish("cmdiad_gain", figures, [])


def belt(
    seed: int, depth: Mapping[str, object] = RELIEF, mode: Mode = "rgbd"
) -> tuple[Trial, dict[str, Any]]:
    """Half of the simulated good parts, another half for each seed; an exam of dents and paint."""
    good, exam = recorded("good", GOOD_SEED, 0.0), recorded("exam", EXAM_SEED, DEFECT_SHARE)
    fit = FIT | {"depth": dict(depth), "bank": {"share": 0.005}, "border_px": 8}
    n_parts = len({item.part_id for item in good.items})
    chosen = drawn(good.items, round(0.55 * n_parts), seed)
    kept = [item for item in good.items if item.part_id in chosen]
    return trial(steps(fit, mode), (good, kept), (exam, list(exam.items)), gate_spec()), fit


def potholes(folder: Path, seed: int) -> tuple[Trial, dict[str, Any]]:
    """Learn from the good tiles of 12 pictures of roads, and be asked about the other 10."""
    data = open_potholes(folder, BOTH)
    depth = {"kind": "relief", "place_mm": 0, "remove_belt": False}
    fit = FIT | {"depth": depth, "bank": {"share": 0.02}}
    chosen = drawn(data.items, 12, seed)
    kept = [i for i in data.items if i.part_id in chosen and i.kind == "good"]
    asked = [i for i in data.items if i.part_id not in chosen]
    return trial(steps(fit, "rgbd"), (data, kept), (data, asked), GateSpec()), fit


def drawn(items: Sequence[Item], n: int, seed: int) -> set[str]:
    """Draw n parts."""
    parts = sorted({item.part_id for item in items})
    return {parts[i] for i in np.random.default_rng(seed).permutation(len(parts))[:n]}


def recorded(name: str, seed: int, share: float) -> RecordingSet:
    """Open a recording of the belt, made at the first call."""
    path = PLACE / f"{name}-{seed}.db3"
    if not path.exists():
        say(f"simulating {path.name}")
        PLACE.mkdir(parents=True, exist_ok=True)
        scenario = Scenario(n_parts=N_PARTS, seed=seed, defect_share=share, defects=DEFECTS)
        simulate(scenario, path, lambda *_: None)
    return RecordingSet.open(path, BOTH, gate_spec(), None)


def steps(fit: dict[str, Any], mode: Mode) -> tuple[PreprocessSpec, PreprocessSpec]:
    """Give what is learnt from, and what a mode is asked about."""
    method = open_cmdiad(fit, 0, Path(), (mode,))
    return method.learnt_from(), method.preprocess(mode)


def trial(
    specs: tuple[PreprocessSpec, PreprocessSpec], good: tuple[DataSet, list[Item]],
    exam: tuple[DataSet, list[Item]], spec: GateSpec,
) -> Trial:  # fmt: skip
    """Prepare both halves."""
    learnt, asked_of = specs
    return Trial(Frames(seen(learnt, *good, spec)), Frames(seen(asked_of, *exam, spec)))


def seen(
    steps: PreprocessSpec, data: DataSet, items: list[Item], spec: GateSpec
) -> Iterator[tuple[Item, Tensors]]:
    """Gate and preprocess, as the edge does."""
    for item, frame in data.frames(items):
        region = gate(frame, spec, data.belt_from_camera)
        if region is not None:
            yield item, preprocess(frame, region, steps, data.belt_from_camera).tensors


def together(
    name: str, open_trial: Callable[[int], tuple[Trial, dict[str, Any]]]
) -> dict[str, Any]:
    """Learn and ask with every seed; then numbers with intervals, by defect."""
    found: dict[str, Any] = {}
    for seed in SEEDS:
        one, fit = open_trial(seed)
        folder = PLACE / f"{name}-{seed}"
        said = asked(one, fit, seed, RunFolder(folder))
        found[f"seed {seed}"] = {way: compared(one.exam.items, of) for way, of in said.items()}
        say(f"{name}, seed {seed}: {found[f'seed {seed}']['map peak']}")
    return found


def asked(one: Trial, fit: dict[str, Any], seed: int, run: RunFolder) -> Mapping[str, Scores]:
    """Give each frame's score in every setting, by each of the WAYS."""
    torch.set_num_threads(1)
    config = CmdiadConfig.model_validate(fit)
    material = divide(one.good, config.fusion_share, seed)
    encoders = Opening(config, seed, Path(), material, run, QUIET).encoders(BOTH)
    learning = Learning(config, seed, encoders, run, QUIET)
    detectors = learning.detectors(material, ("rgb", "depth", "rgbd"))
    judges = published_judges(detectors, encoders, material, config)
    said: dict[str, dict[str, dict[str, float]]] = {
        way: {name: {} for name in SETTINGS} for way in WAYS
    }
    for item, tensors in zip(one.exam.items, one.exam, strict=True):
        for name, scores in answers(detectors, judges, encoders, tensors).items():
            for way, score in zip(WAYS, scores, strict=True):
                said[way][name][item.key] = float(score)
    return said


def published_judges(
    detectors: Mapping[Mode, CmdiadDetector], encoders: Encoders, material: Material,
    config: CmdiadConfig,
) -> dict[Mode, Judge]:  # fmt: skip
    """Fit what is published beside what is ours, on the same banks and the same frames."""
    judges: dict[Mode, Judge] = {}
    kept = (material.samples[int(material.order[i])] for i in material.for_fusion)
    seen_by = [described(encoders, tensors) for tensors in kept]
    for mode, detector in detectors.items():
        banks = [bank for bank in detector.judge.banks if isinstance(bank, MemoryBank)]
        judges[mode] = Judge(banks, config.size_px, config.border_px, paper=True)
        fit_fusion(judges[mode], (tokens_of(mode, detectors, one) for one in seen_by))
    return judges


@torch.no_grad()
def described(encoders: Encoders, tensors: Tensors) -> dict[str, torch.Tensor]:
    """Run both encoders once."""
    rgb = torch.from_numpy(np.array(tensors["rgb"])).permute(0, 3, 1, 2).float()
    cloud = (torch.from_numpy(np.array(tensors[name])) for name in ("xyz", "valid"))
    return {"rgb": encoders.of("rgb")(rgb), "depth": encoders.of("depth")(*cloud)}


@torch.no_grad()
def tokens_of(
    mode: Mode, detectors: Mapping[Mode, CmdiadDetector], seen_by: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what a mode's two banks are asked about."""
    if mode == "rgbd":
        return seen_by["rgb"], seen_by["depth"]
    tokens = seen_by[mode]
    return tokens, detectors[mode].get_submodule("hallucination")(tokens, None)


@torch.no_grad()
def answers(
    detectors: Mapping[Mode, CmdiadDetector], judges: Mapping[Mode, Judge], encoders: Encoders,
    tensors: Tensors,
) -> dict[str, Sequence[torch.Tensor]]:  # fmt: skip
    """Give every setting's scores, one for each of the WAYS; each bank is searched once.

    Without distillation a modality has the same bank of what it sees, and nothing beside it.
    """
    said: dict[str, Sequence[torch.Tensor]] = {}
    tokens, alone = described(encoders, tensors), {}
    for mode in BOTH:
        maps, scores = judges[mode].apart(tokens_of(mode, detectors, tokens))
        alone[mode] = maps[:, :1], scores[:, :1]
        peak = maps[:, :1].max()
        said[mode] = peak, peak, scores[:, :1]
        said[f"{mode}, distilled"] = joined(detectors[mode].judge, judges[mode], maps, scores)
    maps, scores = (torch.cat([alone[mode][i] for mode in BOTH], dim=1) for i in (0, 1))
    return said | {"both": joined(detectors["rgbd"].judge, judges["rgbd"], maps, scores)}


def joined(
    ours: Judge, theirs: Judge, maps: torch.Tensor, scores: torch.Tensor
) -> Sequence[torch.Tensor]:
    """Join what banks say, in each of the WAYS."""
    if theirs.published is None:
        raise TypeError("this judge's score is its map's peak")
    return ours.fusion(maps).max(), theirs.fusion(maps).max(), theirs.published.fused(scores)


def compared(items: Sequence[Item], scores: Scores) -> dict[str, Any]:
    """Give AUROC of each setting and gain of any distillation, with intervals over parts."""
    by_defect: dict[str, Any] = {}
    for defect in sorted({item.defect or "" for item in items if item.kind == "defect"}):
        rows = [i for i in items if i.kind == "good" or (i.defect or "") == defect]
        tops = {name: highest(rows, of) for name, of in scores.items()}
        names = list(next(iter(tops.values())))
        parts, is_defect = [n.split("|")[0] for n in names], [n.endswith("|1") for n in names]
        ranked = {
            name: Ranking.of([top[n] for n in names], is_defect) for name, top in tops.items()
        }

        def measure(weights: Floats, of: Mapping[str, Ranking] = ranked) -> dict[str, Floats]:
            got = {name: ranking.measure(weights)["auroc"] for name, ranking in of.items()}
            for mode in BOTH:
                if f"{mode}, distilled" in got:
                    got[f"gain of {mode}"] = got[f"{mode}, distilled"] - got[mode]
            return got

        point = measure(np.ones((1, len(names))))
        ranges = bootstrap(parts, is_defect, measure)
        by_defect[defect or "any"] = {
            name: [round(float(value[0]), 3), *(round(x, 3) for x in ranges.get(name) or ())]
            for name, value in point.items()
        }
    return by_defect


def highest(items: Sequence[Item], of: Mapping[str, float]) -> dict[str, float]:
    """Give a belt part's highest score; tiles of one road are each asked about by themselves."""
    tops: dict[str, float] = {}
    for item in items:
        tile = item.key if item.stamp is None else ""
        name = f"{item.part_id}|{tile}|{int(item.kind == 'defect')}"
        tops[name] = max(of[item.key], tops.get(name, -np.inf))
    return tops


if __name__ == "__main__":
    sys.exit(main())
