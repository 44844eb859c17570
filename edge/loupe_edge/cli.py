"""`loupe-edge`: what a person types at a station. Each command parses, calls, and prints.

Commands import what they run when they run, so that `--help` answers at once and a command works
without the extras of another.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loupe_calibration.errors import BadInputError, LoupeError
from loupe_calibration.os_errors import explained
from loupe_edge.arguments import (
    AsJson,
    Bundle,
    Cache,
    Engine,
    Front,
    Mode,
    Threads,
    Variant,
    Version,
    as_engine,
    as_mode,
    as_parts,
    as_streams,
)

app = typer.Typer(
    name="loupe-edge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Inspect parts at a station: good, defect or unknown, before the part leaves.\n\n"
    "Exit status: 0 done, 1 a fault, 2 bad input (the message says what to do), 130 interrupted.",
)
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

STATION, PICTURES, MEASURE = "At the station", "Recordings and pictures", "This machine"


def main() -> None:
    """Run the command line; a fault or bad input is one message, never a traceback."""
    logging.getLogger("loupe_edge").addHandler(logging.NullHandler())  # only `run` keeps a log
    try:
        app()
    except (LoupeError, OSError) as error:
        told = explained(error) if isinstance(error, OSError) else error
        err.print(f"loupe-edge: {told}", style="red", markup=False, soft_wrap=True)
        sys.exit(told.exit_status)


@app.callback()
def _root(_: Version = False) -> None: ...


@app.command(rich_help_panel=STATION)
def run(
    config: Annotated[Path, typer.Argument(help="The station's TOML file.")],
) -> None:
    """Run a station until it is stopped: camera in, verdicts out over ZeroMQ.

    Checks everything that `check` checks first, and refuses to start on any doubt. SIGTERM ends
    it cleanly.

    Example: `loupe-edge run /etc/loupe/press-3.toml`
    """
    from loupe_edge.run import run_station

    raise typer.Exit(run_station(config))


@app.command(rich_help_panel=STATION)
def check(
    config: Annotated[Path, typer.Argument(help="The station's TOML file.")],
) -> None:
    """Check a station's file, and its bundle on this machine, without the camera.

    A problem is told as `file: key: reason`. Otherwise it says what `run` would run.

    Example: `loupe-edge check press-3.toml`
    """
    from loupe_edge.check import check as check_station
    from loupe_edge.check import checked_table

    checked = check_station(config)
    out.print(checked_table(checked))
    for warning in checked.gate.warnings:
        err.print(f"warning: {warning}", style="yellow", soft_wrap=True)


@app.command(rich_help_panel=STATION)
def build(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle's manifest.json.")],
    mode: Mode = None,
    cache: Cache = None,
) -> None:
    """Build a bundle's TensorRT plans on this device, prove them, and keep them.

    A plan serves one graph on one GPU, driver and TensorRT, and takes minutes to build on a small
    device. `run` builds what is missing; with the plan there it starts in seconds. A plan that is
    there already is proved again and left alone; a mode without an fp16 graph is left out, with the
    reason. Ctrl-C keeps nothing half-built.

    Example: `loupe-edge build bundle/`
    """
    from loupe_edge.build import build_plans, left_out
    from loupe_models.bundle import load_bundle

    loaded, only = load_bundle(bundle), as_mode(mode)
    for built in build_plans(loaded, only, cache):
        out.print(built.told, markup=False, soft_wrap=True)
    for missing in left_out(loaded, only):
        out.print(missing.told, markup=False, soft_wrap=True)


@app.command(rich_help_panel=STATION)
def listen(
    endpoint: Annotated[str, typer.Argument(help="Where the station publishes.")],
    station: Annotated[str, typer.Option(help="Only this station; all by default.")] = "",
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this long.")] = None,
    as_json: AsJson = False,
) -> None:
    """Listen to stations: every verdict, and whatever goes wrong with them.

    Tells gaps in the sequence, verdicts that came too late, silence (no heartbeat for a second),
    restarts and messages it cannot read. With --json, a verdict is a line as it came over the
    wire, and anything else a line with the key `event`.

    Examples:
    - `loupe-edge listen tcp://127.0.0.1:5555`
    - `loupe-edge listen tcp://press-3.local:5555 --json >> verdicts.jsonl`
    """
    from loupe_edge.listen import as_json as json_line
    from loupe_edge.listen import as_text, hear, summary_table
    from loupe_edge.watcher import Watcher

    watcher = Watcher()
    try:
        with closing(hear(endpoint, watcher, station, seconds)) as events:
            for event in events:
                if event.kind == "heartbeat":
                    continue
                if as_json:
                    print(json_line(event), flush=True)
                else:
                    out.print(as_text(event), soft_wrap=True)
    finally:
        if not as_json and watcher.has_begun:
            out.print(summary_table(watcher.summary(), watcher.n_malformed))


@app.command(rich_help_panel=PICTURES)
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle's manifest.json.")],
    pictures: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    into: Annotated[Path, typer.Option("--out", help="Receives verdicts.jsonl and overlays/.")],
    whole: Annotated[
        bool, typer.Option("--whole", help="Inspect each picture whole, whatever the gate says.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Instead of the bundle's own threshold.")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Give plain pictures a verdict and an overlay each, without a camera.

    They are judged in the bundle's mode rgb. The bundle is proved on this machine first.

    Example: `loupe-edge inspect bundle/ photographs/ --out inspected/`
    """
    from loupe_edge.engine_settings import EngineSettings
    from loupe_edge.inspect_pictures import (
        MODE,
        VERDICTS,
        inspect_pictures,
        require_colour,
        verdicts_table,
    )
    from loupe_edge.inspector import Inspector
    from loupe_edge.progress import progress
    from loupe_edge.proved import open_proved
    from loupe_models.bundle import load_bundle
    from loupe_models.gate import GateSpec

    loaded = load_bundle(bundle)
    require_colour(loaded)
    settings = EngineSettings(threads=threads)
    with open_proved(loaded, MODE, settings) as proved, progress("inspecting") as report:
        gate = GateSpec() if whole else None
        inspector = Inspector(loaded, MODE, proved.engine, gate=gate, threshold=threshold)
        verdicts = inspect_pictures(inspector, pictures, into, report)
    out.print(verdicts_table(verdicts))
    out.print(f"Overlays: {into / 'overlays'}   verdicts: {into / VERDICTS}", soft_wrap=True)


@app.command(rich_help_panel=PICTURES)
def simulate(  # noqa: PLR0913  (as many as there are options)
    recording: Annotated[Path, typer.Argument(help="The .db3 to write.")],
    parts: Annotated[
        int, typer.Option(min=1, max=100_000, help="Parts that pass the camera.")
    ] = 20,
    defects: Annotated[
        float, typer.Option(min=0, max=1, help="Share of parts that carry one defect each.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same frames.")] = 0,
    width: Annotated[int, typer.Option(min=160, max=1920, help="Pixels across.")] = 640,
    height: Annotated[int, typer.Option(min=120, max=1440, help="Pixels down.")] = 480,
    depth_off: Annotated[
        str | None,
        typer.Option(help="Parts without depth, counted from 0.", metavar="FROM:TO"),
    ] = None,
) -> None:
    """Write a recording of a simulated belt, with the truth beside it.

    Ray-cast parts under varying light, with the noise, holes and edge shadows of a RealSense.
    Beside OUT.db3 lie its labels, masks and belt. Ctrl-C leaves nothing half-written.

    Examples:
    - `loupe-edge simulate good.db3 --parts 150 --seed 1`
    - `loupe-edge simulate test.db3 --parts 100 --seed 7 --defects 0.5`
    - `loupe-edge simulate fails.db3 --parts 60 --depth-off 20:40`
    """
    from loupe_edge.progress import progress
    from loupe_edge.simulate import Scenario
    from loupe_edge.simulate import simulate as write_simulation

    scenario = Scenario(
        n_parts=parts,
        defect_share=defects,
        seed=seed,
        width_px=width,
        height_px=height,
        depth_off=as_parts(depth_off),
    )
    with progress("simulating") as report:
        write_simulation(scenario, recording, report)
    out.print(f"Recording: {recording}", soft_wrap=True)


@app.command(rich_help_panel=PICTURES)
def replay(  # noqa: PLR0913  (as many as there are options)
    bundle: Bundle,
    recording: Annotated[Path, typer.Option(help="The .db3 to look at.")],
    mode: Mode = None,
    station: Annotated[
        Path | None,
        typer.Option(help="A station's file, for belt, limits and gate (labels win over it)."),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Behave as live: frames may be dropped.")
    ] = False,
    publish: Annotated[
        str | None, typer.Option(help="Also publish there, such as tcp://127.0.0.1:5555.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a recording through the code that runs on the line; one verdict a line.

    In lock-step, which is the default, nothing is dropped, and the same recording gives the same
    verdicts. The belt of a simulated recording (NAME.belt.json) is used where it is present and
    no --station is given.

    Examples:
    - `loupe-edge replay --bundle bundle/ --recording test.db3 --json > verdicts.jsonl`
    - `loupe-edge replay --bundle bundle/ --recording test.db3 --publish tcp://127.0.0.1:5555`
    """
    from loupe_edge.listen import verdict_line
    from loupe_edge.progress import progress
    from loupe_edge.replaying import Request, replayed

    request = Request(bundle, recording, as_mode(mode), station, publish, is_real_time=real_time)
    counts: Counter[str] = Counter()

    def tell(line: str) -> None:
        err.print(line, style="yellow", soft_wrap=True)

    with progress("replaying") as report, closing(replayed(request, tell)) as verdicts:
        for verdict in verdicts:
            counts[verdict.decision] += 1
            if as_json:
                print(verdict.model_dump_json(by_alias=True), flush=True)
            elif publish is None:
                out.print(verdict_line(verdict), soft_wrap=True)
            report(counts.total(), 0)
    if not as_json:
        said = ", ".join(f"{counts[d]} {d}" for d in ("good", "defect", "unknown"))
        out.print(f"{counts.total()} verdicts: {said}")
    if not counts:
        err.print("no verdict: the gate saw no part in any frame", style="yellow")


@app.command(rich_help_panel=PICTURES)
def record(
    recording: Annotated[Path, typer.Argument(help="The .db3 to write.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Pictures, RGB-D frames, or an INDEX.jsonl; else a camera."),
    ] = None,
    intrinsics: Annotated[
        Path | None, typer.Option(help="Of RGB-D frames; found beside them where not given.")
    ] = None,
    serial: Annotated[str | None, typer.Option(help="The camera's serial number.")] = None,
    streams: Annotated[
        str, typer.Option(help="Of the camera: rgb, depth or rgb,depth.", metavar="STREAMS")
    ] = "rgb,depth",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long a camera records.")] = 10.0,
) -> None:
    """Write a recording from a live camera, or from pictures and RGB-D frames.

    Pictures of any size are placed unscaled in a fixed canvas, and the labels file beside the
    recording says where. An index is JSON Lines with filename, label, label_name, clsname and,
    optionally, maskname and part.

    Examples:
    - `loupe-edge record line.db3 --serial 123456789012 --seconds 60`
    - `loupe-edge record tiles.db3 --from photographs/`
    - `loupe-edge record tiles.db3 --from index.jsonl`
    """
    from loupe_edge.camera_settings import CameraSettings
    from loupe_edge.progress import progress
    from loupe_edge.record_from import record_from, record_live

    if (source is None) == (serial is None):
        raise BadInputError("record what? give --from with pictures or frames, or a --serial")
    if source is not None:
        with progress("recording") as report:
            n_frames = record_from(source, recording, intrinsics, report)
    else:
        settings = CameraSettings.model_validate({"serial": serial, "streams": as_streams(streams)})
        n_frames, counters = record_live(settings, recording, seconds)
        out.print(f"The camera dropped {counters.dropped_frames} frames.")
    out.print(f"Recording: {recording}, {n_frames} frames", soft_wrap=True)


@app.command(rich_help_panel=MEASURE)
def bench(  # noqa: PLR0913  (as many as there are options)
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle's manifest.json.")],
    recording: Annotated[
        Path | None, typer.Option(help="A .db3; the bundle's golden frames by default.")
    ] = None,
    mode: Mode = None,
    engine: Engine = "onnxruntime",
    variant: Variant = None,
    frames: Annotated[int, typer.Option(min=1, max=1_000_000, help="Frames to time.")] = 200,
    warm_up: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Frames before them, not counted.")
    ] = 20,
    threads: Threads = 2,
    cache: Cache = None,
    front: Front = "cpu",
    as_json: AsJson = False,
) -> None:
    """Time every stage on this machine: p50, p90 and p99. The bundle is proved here first.

    Examples:
    - `loupe-edge bench bundle/`
    - `loupe-edge bench bundle/ --recording test.db3 --json`
    - `loupe-edge bench bundle/ --engine tensorrt --json | jq -r .row`
    """
    from loupe_edge.bench import BenchRequest, bench_table
    from loupe_edge.bench import bench as run_bench

    settings = as_engine(engine, variant, threads, cache, front)
    request = BenchRequest(bundle, recording, as_mode(mode), settings, frames, warm_up)
    inspector, report = run_bench(request)
    if as_json:
        print(json.dumps(report.document(inspector, request), indent=1))
    else:
        out.print(bench_table(report, f"{bundle}"))


@app.command(rich_help_panel=MEASURE)
def doctor(
    folder: Annotated[Path, typer.Option(help="Where journal and evidence are written.")] = Path(),
    serial: Annotated[str | None, typer.Option(help="The camera that must be there.")] = None,
) -> None:
    """Look whether this machine can be a station, and say what to do where it cannot.

    OK, WARN or FAIL a line; exit status 1 where something that a station needs fails.

    Example: `loupe-edge doctor --serial 123456789012`
    """
    from loupe_edge.doctor import examine, findings_table, is_fit

    findings = list(examine(folder, serial))
    out.print(findings_table(findings))
    raise typer.Exit(0 if is_fit(findings) else 1)
