"""Arguments that several commands share, and how words on the command line are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loupe_calibration.errors import BadInputError
from loupe_edge.machine import MAX_THREADS, version

if TYPE_CHECKING:
    from loupe_edge.engines import EngineKind
    from loupe_models.manifest import Mode as ModeName
    from loupe_models.manifest import Precision

ENGINES: tuple[EngineKind, ...] = ("onnxruntime", "openvino", "tensorrt")
VARIANTS: tuple[Precision, ...] = ("fp32", "fp16")
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


def as_engine(engine: str, variant: str | None) -> tuple[EngineKind, Precision]:
    """Read --engine and --variant; a variant left out is what the engine is for.

    Raises:
        BadInputError: There is no such engine or variant.
    """
    kinds: dict[str, EngineKind] = {kind: kind for kind in ENGINES}
    if engine not in kinds:
        raise BadInputError(f"--engine {engine}: give {', '.join(kinds)}")
    variants: dict[str, Precision] = {name: name for name in VARIANTS}
    named = variant or ("fp16" if engine == "tensorrt" else "fp32")
    if named not in variants:
        raise BadInputError(f"--variant {named}: give {', '.join(variants)}")
    return kinds[engine], variants[named]


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
