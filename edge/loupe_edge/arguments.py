"""Arguments that several commands share, and how words on the command line are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from loupe_calibration.errors import BadInputError
from loupe_edge.machine import MAX_THREADS, version

if TYPE_CHECKING:
    from loupe_edge.engine_settings import EngineSettings
    from loupe_models.manifest import Mode as ModeName

VARIANTS = ("fp32", "fp16")
MODES: tuple[ModeName, ...] = ("rgb", "depth", "rgbd")


def say_version(is_asked: bool) -> None:
    """Print the version and leave, where it is asked for."""
    if is_asked:
        typer.echo(f"loupe {version('loupe')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=say_version, is_eager=True, help="Say it and exit.")
]
Bundle = Annotated[Path, typer.Option("--bundle", help="Folder with the bundle's manifest.json.")]
Mode = Annotated[
    str | None,
    typer.Option(help="rgb, depth or rgbd; needed only where the bundle serves several."),
]
Engine = Annotated[str, typer.Option(help="onnxruntime, openvino or tensorrt.")]
Variant = Annotated[
    str | None, typer.Option(help="fp32 or fp16; left out, fp16 for tensorrt and fp32 otherwise.")
]
Threads = Annotated[
    int, typer.Option(min=1, max=MAX_THREADS, help="CPU threads one inference may use.")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Where plans are kept; as [engine] cache in a station's file."),
]
Front = Annotated[str, typer.Option(help="What prepares tensors: cpu, or gpu for tensorrt.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for scripts.")]


def as_mode(said: str | None) -> ModeName | None:
    """Read --mode.

    Raises:
        BadInputError: There is no such mode.
    """
    modes: dict[str | None, ModeName | None] = {None: None, **{mode: mode for mode in MODES}}
    if said not in modes:
        raise BadInputError(f"--mode {said}: give rgb, depth or rgbd")
    return modes[said]


def as_engine(
    engine: str, variant: str | None, threads: int, cache: Path | None, front: str
) -> EngineSettings:
    """Read the options of an engine; a variant left out is what the engine is for.

    Raises:
        BadInputError: There is no such engine, variant or front, or the engine has no such front
            or no plans.
    """
    from loupe_edge.engine_settings import EngineKind, EngineSettings, FrontKind

    offered = {
        "--engine": (engine, get_args(EngineKind)),
        "--variant": (variant or VARIANTS[0], VARIANTS),
        "--front": (front, get_args(FrontKind)),
    }
    for option, (said, words) in offered.items():
        if said not in words:
            raise BadInputError(f"{option} {said}: give {', '.join(words)}")
    if front == "gpu" and engine != "tensorrt":
        raise BadInputError(
            "--front gpu works in TensorRT's context: choose --engine tensorrt, or --front cpu"
        )
    if cache is not None and engine != "tensorrt":
        raise BadInputError(
            "--cache is for TensorRT's plans: choose --engine tensorrt, or leave it out"
        )
    told = {"kind": engine, "threads": threads, "cache": cache, "front": front}
    return EngineSettings.model_validate(told | ({"variant": variant} if variant else {}))


def as_streams(said: str) -> tuple[str, ...]:
    """Read --streams.

    Raises:
        BadInputError: There is no such stream.
    """
    streams = tuple(word.strip() for word in said.split(","))
    if not set(streams) <= {"rgb", "depth"}:
        raise BadInputError(f"--streams {said}: give rgb, depth, or rgb,depth")
    return streams


def as_parts(said: str | None) -> tuple[int, int] | None:
    """Read --depth-off.

    Raises:
        BadInputError: Not FROM:TO.
    """
    if said is None:
        return None
    first, _, end = said.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise BadInputError(
            f"--depth-off {said}: give the first part without depth and the first with it again, "
            f"such as 20:40"
        )
    return int(first), int(end)
