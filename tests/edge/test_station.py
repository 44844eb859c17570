"""A station's file is right as a whole, or every mistake in it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loupe_calibration.transform import Transform
from loupe_edge.errors import StationError
from loupe_edge.gate_fit import gate_fit
from loupe_edge.labels import label_lines, labels_path
from loupe_edge.station import Station, load_station
from loupe_edge.station_fit import check_fit
from loupe_models.bundle import Bundle
from loupe_models.frame import Label, Rect

LEAST = """
station = "line-1"
bundle = "bundles/b"
[camera]
serial = "123"
"""


def write_manifest(bundle: Path) -> None:
    """Make a folder look like a bundle."""
    bundle.mkdir(parents=True)
    told = {"schema_version": 1, "modes": {}, "files": {}}
    (bundle / "manifest.json").write_text(json.dumps(told), encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "station.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_valid(repository: Path) -> None:
    example = repository / "edge" / "edge.example.toml"
    station = load_station(example)
    assert station.station == "line-1"
    told = example.read_text(encoding="utf-8")
    sections = [
        name for name in Station.model_fields if f"{name} = " in told or f"[{name}]" in told
    ]
    assert sections == list(Station.model_fields)


def test_what_the_example_leaves_out_by_comment_is_valid_too(
    repository: Path, tmp_path: Path
) -> None:
    lines = (repository / "edge" / "edge.example.toml").read_text(encoding="utf-8").splitlines()
    rest = lines.index("# The rest is optional.")
    optional = [line.removeprefix("# ") for line in lines[rest + 1 :] if "file = " not in line]
    station = load_station(written(tmp_path, "\n".join(lines[:rest] + optional)))
    assert station.gate is not None
    assert station.belt_from_camera() is not None
    assert station.threshold is not None
    assert station.metrics is not None


@pytest.mark.parametrize(
    ("said", "variant"),
    [('kind = "tensorrt"', "fp16"), ('kind = "tensorrt"\nvariant = "fp32"', "fp32"), ("", "fp32")],
)
def test_tensorrt_takes_the_typed_graph_unless_told(
    tmp_path: Path, said: str, variant: str
) -> None:
    text = LEAST + f'[engine]\n{said}\ncache = "plans"\n'
    station = load_station(written(tmp_path, text))
    assert station.engine.variant == variant
    assert station.engine.cache == tmp_path / "plans"


def test_an_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"engine\.kind: .*tensorrt.*got \"tensorflow\""):
        load_station(written(tmp_path, LEAST + '[engine]\nkind = "tensorflow"\n'))


def test_the_gpu_front_is_for_tensorrt(tmp_path: Path) -> None:
    chosen = '[engine]\nkind = "{}"\nfront = "gpu"\n'
    station = load_station(written(tmp_path, LEAST + chosen.format("tensorrt")))
    assert station.engine.front == "gpu"
    with pytest.raises(StationError, match=r'engine\.front: .*choose kind = "tensorrt", or front'):
        load_station(written(tmp_path, LEAST + chosen.format("openvino")))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = LEAST + '[journal]\npath = "j.jsonl"\n[record]\nfolder = "/var/evidence"\n'
    station = load_station(written(tmp_path, text))
    assert station.bundle == tmp_path / "bundles" / "b"
    assert station.journal is not None
    assert station.journal.path == tmp_path / "j.jsonl"
    assert station.record is not None
    assert station.record.folder == Path("/var/evidence")


def test_every_mistake_is_named_on_its_own_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'statoin = "x"\nbundle = "b"\nmode = "thermal"\n[camera]\nserial = "1"\n'
        '[limits]\ndeadline_ms = 0\n[publish]\nheartbeats_ms = 5\nendpoint = "5555"\n',
    )
    with pytest.raises(StationError) as caught:
        load_station(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    named = {line.removeprefix(f"{path}: ").split(":")[0] for line in lines}
    assert named == {
        "station",
        "statoin",
        "mode",
        "limits.deadline_ms",
        "publish.heartbeats_ms",
        "publish.endpoint",
    }
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("station = ", "not valid TOML"),
        (LEAST + "[belt]\n", "belt: .*give either file, or normal and point_m"),
        (LEAST + "[belt]\nnormal = [0, 0, 1]\n", "give either file"),
        (LEAST + "[belt]\nnormal = [0, 0, 0]\npoint_m = [0, 0, 1]\n", "belt: .*no length"),
        (LEAST + '[belt]\nfile = "absent.json"\n', "belt.file: .*absent.json"),
        (LEAST.replace('"123"', "123"), "camera.serial"),
        (LEAST.replace('"line-1"', '"line/1"'), "station: "),
        (LEAST.replace('serial = "123"', ""), "camera"),
        (LEAST + "start_timeout_s = inf\n", "camera.start_timeout_s: "),
        (LEAST + "read_timeout_s = 1e300\n", "camera.read_timeout_s: "),
        (LEAST + "width_px = 1000000000000\n", "camera.width_px: "),
        (LEAST + 'streams = ["rgb", "rgb"]\n', "camera.streams: .*twice"),
        (LEAST + '[publish]\nendpoint = "tcp://*:70000"\n', "publish.endpoint: .*65535"),
        (LEAST + '[publish]\nendpoint = "tcp://127.0.0.1"\n', "publish.endpoint: .*host:port"),
        (LEAST + "[metrics]\nport = 5555\n", "metrics: .*that of publish.endpoint"),
        (LEAST + "[gate]\nregion_px = [-1, 0, 9, 9]\n", "gate.region_px.*: "),
        (LEAST + "[gate]\nregion_px = [0, 0, 0, 9]\n", "gate.region_px.*: "),
        (LEAST + "[limits]\ndeadline_ms = 9999999999\n", "limits.deadline_ms: "),
        (LEAST + "[limits]\ndeadline_ms = true\n", "limits.deadline_ms: .*integer, got true"),
        (LEAST + "[limits]\nmin_depth_valid = true\n", "min_depth_valid: .*number, got true"),
        (LEAST + '[limits]\ndeadline_ms = "5"\n', 'limits.deadline_ms: .*integer, got "5"'),
        (LEAST + "[gate]\nregion_px = [0, 0, true, 9]\n", "gate.region_px.*: .*got true"),
        (LEAST + "align = 1\n", "camera.align: .*boolean, got 1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StationError, match=message):
        load_station(written(tmp_path, text))


def test_a_reason_is_told_without_the_section_it_concerns(tmp_path: Path) -> None:
    path = written(tmp_path, LEAST.replace('serial = "123"', ""))
    with pytest.raises(StationError) as caught:
        load_station(path)
    assert str(caught.value) == f"{path}: camera: give either serial or recording"


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"absent\.toml: No such file"):
        load_station(tmp_path / "absent.toml")


def test_a_belts_file_is_read(tmp_path: Path, tiny_belt: Transform) -> None:
    belt = {"rotation": tiny_belt.rotation, "translation_m": tiny_belt.translation_m}
    (tmp_path / "belt.json").write_text(json.dumps(belt), encoding="utf-8")
    station = load_station(written(tmp_path, LEAST + '[belt]\nfile = "belt.json"\n'))
    assert station.belt_from_camera() == tiny_belt
    named = station.calibration_id()
    assert named is not None
    assert named.startswith("belt-")


@pytest.mark.parametrize("content", ["{", '{"rotation": 1}', "[]", "\xff"])
def test_a_belts_file_that_is_no_transform_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "belt.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StationError, match=r"belt\.file: .*calibrate the belt again"):
        load_station(written(tmp_path, LEAST + '[belt]\nfile = "belt.json"\n'))


def test_a_station_that_does_not_fit_its_bundle_is_told_everything(
    tiny_bundle: Bundle, make_station: Callable[..., Station]
) -> None:
    check_fit(make_station("rgbd"), tiny_bundle)
    poor = make_station(
        "rgbd",
        camera={"serial": "1", "streams": ("rgb",)},
        belt=None,
        gate={"occupied": {"by": "height"}},
        engine={"variant": "fp16"},
    )
    with pytest.raises(StationError) as caught:
        check_fit(poor, tiny_bundle)
    keys = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["engine.variant", "camera.streams", "belt"]
    assert 'give [belt] file = "NAME.belt.json"' in str(caught.value)


def test_a_mode_that_the_bundle_lacks_is_told_by_its_key(
    tiny_bundle: Bundle, make_station: Callable[..., Station]
) -> None:
    modes = {"rgb": tiny_bundle.mode("rgb")}
    manifest = tiny_bundle.manifest.model_copy(update={"modes": modes})
    with pytest.raises(StationError, match=r"^mode: tiny serves rgb, not rgbd; give one of these$"):
        check_fit(make_station("rgbd"), replace(tiny_bundle, manifest=manifest))


def test_a_belt_beside_the_recording_is_named_where_one_is_missing(
    tiny_bundle: Bundle, make_station: Callable[..., Station], tmp_path: Path
) -> None:
    (tmp_path / "absent.belt.json").write_text("{}", encoding="utf-8")
    station = make_station("rgb", belt=None, gate={"occupied": {"by": "height"}})
    with pytest.raises(StationError, match=r'give \[belt\] file = ".*/absent\.belt\.json", which'):
        check_fit(station, tiny_bundle)


def test_a_region_beyond_a_live_cameras_frame_is_refused(
    tiny_bundle: Bundle, make_station: Callable[..., Station]
) -> None:
    camera = {"serial": "1", "width_px": 640, "height_px": 480}
    check_fit(make_station(camera=camera, gate={"region_px": (540, 380, 100, 100)}), tiny_bundle)
    beyond = make_station(camera=camera, gate={"region_px": (541, 380, 100, 100)})
    with pytest.raises(
        StationError,
        match=r"gate\.region_px: the station's gate \[.* reaches to 641x480, .* 640x480",
    ):
        check_fit(beyond, tiny_bundle)


def test_a_bundles_gate_beyond_a_recordings_frame_is_refused(
    tiny_bundle: Bundle, make_station: Callable[..., Station], tiny_recording: Path, tmp_path: Path
) -> None:
    recording = Path(shutil.copy(tiny_recording, tmp_path / "part.db3"))
    contract = tiny_bundle.mode("rgb")
    gate = contract.gate.model_copy(update={"region_px": Rect(0, 0, 97, 80)})
    modes = {"rgb": contract.model_copy(update={"gate": gate})}
    wide = replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"modes": modes}))
    station = make_station(camera={"recording": recording})
    check_fit(station, tiny_bundle)
    says = r"the bundle's gate \[0, 0, 97, 80\] reaches to 97x80, the recording's frame is 96x80"
    with pytest.raises(StationError, match=says):
        check_fit(station, wide)
    where = label_lines([(0, 0, Label(rect_px=Rect(0, 0, 9, 9)))])
    labels_path(recording).write_text(where, encoding="utf-8")
    check_fit(station, wide)  # the labels say where to look
    assert gate_fit(station, wide).is_labelled


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"region_px": (0, 0, 64, 56)}, ""),  # moved, not rescaled
        ({"region_px": (0, 0, 96, 80)}, "96x80 instead of 64x56"),
        ({}, "96x80 instead of 64x56"),
        (None, ""),
    ],
)
def test_a_gate_of_another_size_than_was_learnt_is_warned_of(
    tiny_bundle: Bundle,
    make_station: Callable[..., Station],
    tiny_recording: Path,
    tmp_path: Path,
    gate: dict[str, object] | None,
    says: str,
) -> None:
    recording = Path(shutil.copy(tiny_recording, tmp_path / "part.db3"))
    station = make_station(camera={"recording": recording}, gate=gate)
    told = gate_fit(station, tiny_bundle).rescaled.get("rgb", "")
    assert says in told
    assert bool(told) == bool(says)
    where = label_lines([(0, 0, Label(rect_px=Rect(0, 0, 9, 9)))])
    labels_path(recording).write_text(where, encoding="utf-8")
    assert gate_fit(station, tiny_bundle).warnings == []  # no gate counts


def test_a_whole_frame_was_learnt_at_the_golden_frames_size(
    tiny_bundle: Bundle, make_station: Callable[..., Station]
) -> None:
    contract = tiny_bundle.mode("rgb")
    gate = contract.gate.model_copy(update={"region_px": None})
    modes = {"rgb": contract.model_copy(update={"gate": gate})}
    whole = replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"modes": modes}))
    camera = {"serial": "1", "width_px": 96, "height_px": 80}
    same = make_station(camera=camera, gate={"region_px": (9, 9, 64, 56)})
    assert gate_fit(same, whole).rescaled == {}
    other = make_station(camera=camera, gate={"region_px": (9, 9, 32, 28)})
    assert "32x28 instead of 64x56" in gate_fit(other, whole).rescaled["rgb"]


@pytest.mark.parametrize("endpoint", ["tcp://*:*", "tcp://[::1]:5555", "ipc:///run/loupe/v"])
def test_endpoints_of_every_kind_pass(make_station: Callable[..., Station], endpoint: str) -> None:
    assert make_station(publish={"endpoint": endpoint}).publish.endpoint == endpoint


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("bundles/b", "is or holds the bundle"),
        ("bundles", "is or holds the bundle"),
        ("other/../bundles", "is or holds the bundle"),
        ("bundles/b/evidence", "lies in the bundle"),
        ("journals", "is or holds the journal.path"),
        ("recordings", "is or holds the camera.recording"),
        ("station.toml", "is a file; name a folder"),
    ],
)
def test_evidence_needs_a_folder_of_its_own(tmp_path: Path, folder: str, says: str) -> None:
    write_manifest(tmp_path / "bundles" / "b")
    text = LEAST.replace('serial = "123"', 'recording = "recordings/a.db3"')
    text += f'[journal]\npath = "journals/j.jsonl"\n[record]\nfolder = "{folder}"\n'
    with pytest.raises(StationError, match=r"station\.toml: record\.folder: .*" + says):
        load_station(written(tmp_path, text))


def test_a_journal_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(
        StationError, match=r"journal\.path: .* is no plain file; give the name of one"
    ):
        load_station(written(tmp_path, LEAST + '[journal]\npath = "."\n'))


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("journal.path", '[journal]\npath = "{0}/rgb.fp32.onnx"\n'),
        ("journal.path", '[journal]\npath = "{0}/new/j.jsonl"\n'),
        ("record.folder", '[record]\nfolder = "{0}/evidence"\n'),
        ("engine.cache", '[engine]\nkind = "tensorrt"\ncache = "{0}"\n'),
        ("publish.endpoint", '[publish]\nendpoint = "ipc://{0}/v"\n'),
    ],
)
@pytest.mark.parametrize("bundle", ["bundles/b", "bundles/another"])
def test_nothing_is_written_into_a_bundle(
    tmp_path: Path, key: str, section: str, bundle: str
) -> None:
    write_manifest(tmp_path / bundle)
    with pytest.raises(StationError, match=f"{key}: .* lies in the bundle .*, which must not"):
        load_station(written(tmp_path, LEAST + section.format(tmp_path / bundle)))


@pytest.mark.parametrize(
    ("journal", "what"),
    [
        ("station.toml", "station's own file"),
        ("./a.db3", "camera.recording"),
        ("a.labels.jsonl", "labels file of camera.recording"),
        ("a.belt.json", "belt file of camera.recording"),
        ("belt.json", "belt.file"),
        ("v", "socket of publish.endpoint"),
    ],
)
def test_a_journal_is_no_other_file_of_the_station(
    tmp_path: Path, tiny_belt: Transform, journal: str, what: str
) -> None:
    (tmp_path / "a.db3").touch()
    belt = {"rotation": tiny_belt.rotation, "translation_m": tiny_belt.translation_m}
    (tmp_path / "belt.json").write_text(json.dumps(belt), encoding="utf-8")
    text = LEAST.replace('serial = "123"', 'recording = "a.db3"') + (
        f'[belt]\nfile = "belt.json"\n[publish]\nendpoint = "ipc://{tmp_path}/v"\n[journal]\n'
    )
    assert load_station(written(tmp_path, text + 'path = "j.jsonl"\n')).journal is not None
    with pytest.raises(StationError, match=rf"journal\.path: .* is the {what}; name a file of its"):
        load_station(written(tmp_path, text + f'path = "{journal}"\n'))
