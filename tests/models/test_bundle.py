"""A bundle is written at once or not at all, and believed only when whole."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from loupe_models.bundle import MANIFEST, Bundle, load_bundle, refuse_inside_bundle, write_bundle
from loupe_models.errors import BundleError, GraphError
from loupe_models.manifest import Manifest

GRAPH = "rgb.fp32.onnx"


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle whose files may be spoilt."""
    path = tmp_path / "copy"
    shutil.copytree(tiny_bundle.path, path)
    return path


def test_a_whole_bundle_is_read(copy: Path, tiny_bundle: Bundle) -> None:
    read = load_bundle(copy)
    assert read.manifest == tiny_bundle.manifest
    assert read.sha256 == tiny_bundle.sha256
    assert read.file(GRAPH) == read.variant("rgb", "fp32") == copy / GRAPH
    assert read.mode("rgb") == tiny_bundle.manifest.modes["rgb"]


def test_asking_for_what_is_not_there_says_what_is(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="serves rgb, depth, rgbd, not 'thermal'"):
        tiny_bundle.mode("thermal")
    with pytest.raises(BundleError, match="mode rgb has variants fp32, not 'fp16'"):
        tiny_bundle.variant("rgb", "fp16")
    refused = tiny_bundle.mode("rgb").model_copy(update={"refused": {"fp16": "off by 0.3"}})
    manifest = tiny_bundle.manifest.model_copy(update={"modes": {"rgb": refused}})
    with pytest.raises(BundleError, match=r"has variants fp32, not 'fp16' \(off by 0\.3\)$"):
        replace(tiny_bundle, manifest=manifest).variant("rgb", "fp16")
    with pytest.raises(BundleError, match="no file 'x' in the manifest"):
        tiny_bundle.file("x")


def bit_flip(path: Path) -> None:
    content = bytearray((path / GRAPH).read_bytes())
    content[len(content) // 2] ^= 0x10
    (path / GRAPH).write_bytes(content)


def truncation(path: Path) -> None:
    (path / GRAPH).write_bytes((path / GRAPH).read_bytes()[:-1])


def emptied(path: Path) -> None:
    (path / GRAPH).write_bytes(b"")


def missing_file(path: Path) -> None:
    (path / GRAPH).unlink()


def folder_in_place_of_a_file(path: Path) -> None:
    (path / GRAPH).unlink()
    (path / GRAPH).mkdir()


def extra_file(path: Path) -> None:
    (path / "notes.txt").write_text("hello")


def hidden_extra_file(path: Path) -> None:
    (path / "golden" / ".notes").write_text("hello")


def symlink_outside(path: Path) -> None:
    shutil.move(path / GRAPH, path.parent / GRAPH)  # the same bytes, but not in the bundle
    (path / GRAPH).symlink_to(path.parent / GRAPH)


def folder_symlink_outside(path: Path) -> None:
    shutil.move(path / "golden", path.parent / "golden")
    (path / "golden").symlink_to(path.parent / "golden")


def dangling_symlink(path: Path) -> None:
    (path / GRAPH).unlink()
    (path / GRAPH).symlink_to("nowhere")


def no_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def no_bundle(path: Path) -> None:
    shutil.rmtree(path)


def emptied_manifest(path: Path) -> None:
    (path / MANIFEST).write_text("")


def manifest_is_a_list(path: Path) -> None:
    (path / MANIFEST).write_text("[]")


def newer_schema(path: Path) -> None:
    edit_manifest(path, '"schema_version":1', '"schema_version":2')


def unknown_key(path: Path) -> None:
    edit_manifest(path, '"schema_version":1', '"schema_version":1,"colour":"red"')


def mirrored_belt(path: Path) -> None:
    document = json.loads((path / MANIFEST).read_text())
    rotation = document["modes"]["rgb"]["golden"][0]["belt_from_camera"]["rotation"]
    rotation[0] = [-value for value in rotation[0]]
    (path / MANIFEST).write_text(json.dumps(document))


def no_schema(path: Path) -> None:
    edit_manifest(path, '"schema_version":1,', "")


def schema_is_true(path: Path) -> None:
    edit_manifest(path, '"schema_version":1', '"schema_version":true')


def schema_is_a_fraction(path: Path) -> None:
    edit_manifest(path, '"schema_version":1', '"schema_version":1.0')


def threshold_is_text(path: Path) -> None:
    edit_threshold(path, value="0.2")


def rank_beyond_the_parts(path: Path) -> None:
    edit_threshold(path, rank=41)


def golden_region_outside(path: Path) -> None:
    document = json.loads((path / MANIFEST).read_text())
    document["modes"]["rgb"]["golden"][0]["rect_px"][0] = -1
    (path / MANIFEST).write_text(json.dumps(document))


def symlinked_manifest(path: Path) -> None:
    shutil.move(path / MANIFEST, path.parent / MANIFEST)
    (path / MANIFEST).symlink_to(path.parent / MANIFEST)


def edit_threshold(path: Path, **fields: object) -> None:
    document = json.loads((path / MANIFEST).read_text())
    document["modes"]["rgb"]["threshold"] |= fields
    (path / MANIFEST).write_text(json.dumps(document))


def key_twice(path: Path) -> None:
    edit_manifest(path, '"schema_version":1', '"schema_version":1,"schema_version":1')


def edit_manifest(path: Path, old: str, new: str) -> None:
    text = json.dumps(json.loads((path / MANIFEST).read_text()), separators=(",", ":"))
    assert text.count(old) == 1
    (path / MANIFEST).write_text(text.replace(old, new))


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (bit_flip, "rgb.fp32.onnx is damaged"),
    (truncation, "rgb.fp32.onnx is damaged"),
    (emptied, "rgb.fp32.onnx is damaged"),
    (missing_file, "rgb.fp32.onnx is missing"),
    (folder_in_place_of_a_file, "rgb.fp32.onnx is missing"),
    (extra_file, "does not list: notes.txt"),
    (hidden_extra_file, "does not list: golden/.notes"),
    (symlink_outside, "outside the bundle"),
    (folder_symlink_outside, "outside the bundle|does not list"),
    (dangling_symlink, "missing or outside"),
    (no_manifest, "no readable manifest.json"),
    (no_bundle, "not a folder"),
    (emptied_manifest, "not valid JSON"),
    (manifest_is_a_list, "not a JSON object"),
    (newer_schema, "written by a newer Loupe .schema 2, this one reads 1.; update Loupe"),
    (unknown_key, "colour: Extra inputs are not permitted"),
    (mirrored_belt, "belt_from_camera: .*not a rotation"),
    (key_twice, "a key appears twice"),
    (no_schema, "schema_version is None, not a whole number"),
    (schema_is_true, "schema_version is True, not a whole number"),
    (schema_is_a_fraction, "schema_version is 1.0, not a whole number"),
    (threshold_is_text, "modes.rgb.threshold.value: .*valid number"),
    (rank_beyond_the_parts, "modes.rgb.threshold: .*rank 41 of 40 parts"),
    (golden_region_outside, "golden.0.rect_px"),
    (symlinked_manifest, "manifest.json is a link"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_a_spoilt_bundle_is_refused(
    spoil: Callable[[Path], None], message: str, copy: Path
) -> None:
    spoil(copy)
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


def test_a_manifest_cut_anywhere_is_refused(copy: Path) -> None:
    whole = (copy / MANIFEST).read_bytes().rstrip()
    for n_bytes in range(0, len(whole), len(whole) // 50):
        (copy / MANIFEST).write_bytes(whole[:n_bytes])
        with pytest.raises(BundleError):
            load_bundle(copy)


def test_a_graph_that_breaks_the_contract_is_refused_at_load(copy: Path) -> None:
    swapped = json.loads((copy / MANIFEST).read_text())
    shutil.copy(copy / "depth.fp32.onnx", copy / "rgb.fp32.onnx")
    swapped["files"]["rgb.fp32.onnx"] = swapped["files"]["depth.fp32.onnx"]
    (copy / MANIFEST).write_text(json.dumps(swapped))
    with pytest.raises(GraphError, match=rf"{copy}: rgb\.fp32\.onnx: inputs .*; export"):
        load_bundle(copy)


# --- Writing -------------------------------------------------------------------------------------


def filled_from(source: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / MANIFEST).unlink()

    return fill


def manifest_of(bundle: Bundle) -> Callable[[Mapping[str, str]], Manifest]:
    def make(files: Mapping[str, str]) -> Manifest:
        document = bundle.manifest.model_dump()
        return Manifest.model_validate({**document, "files": dict(files)})

    return make


def test_what_is_written_is_read_back(tiny_bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    written = write_bundle(target, filled_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert written.path == target
    assert written.manifest == tiny_bundle.manifest
    assert load_bundle(target) == written
    assert [p.name for p in target.parent.iterdir()] == ["bundle"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_failure_while_filling_leaves_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / GRAPH).write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "bundle", fill, manifest_of(tiny_bundle))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_goes_with_the_next_write(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    script = (
        "import os, signal; from pathlib import Path\n"
        "from loupe_models.bundle import write_bundle\n"
        "def fill(folder):\n"
        "    (folder / 'deep').mkdir(); (folder / 'deep' / 'half.onnx').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_bundle(Path({str(tmp_path / 'bundle')!r}), fill, None)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.rglob("half.onnx"))
    others = tmp_path / ".bundle.before"  # not of a writer: it is nobody's to remove
    others.mkdir()
    write_bundle(tmp_path / "bundle", filled_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert {p.name for p in tmp_path.iterdir()} == {"bundle", ".bundle.before"}


def test_two_do_not_write_one_bundle(tiny_bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "bundle"

    def fill(folder: Path) -> None:
        filled_from(tiny_bundle.path)(folder)
        with pytest.raises(BundleError, match="another process is writing it"):
            write_bundle(target, filled_from(tiny_bundle.path), manifest_of(tiny_bundle))

    assert write_bundle(target, fill, manifest_of(tiny_bundle)) == load_bundle(target)


def test_a_bundle_that_would_be_refused_is_never_put_in_place(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    def fill(folder: Path) -> None:
        filled_from(tiny_bundle.path)(folder)
        (folder / GRAPH).write_bytes(b"not a graph")

    with pytest.raises(GraphError, match="not a valid ONNX graph"):
        write_bundle(tmp_path / "bundle", fill, manifest_of(tiny_bundle))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "empty"])
def test_a_place_that_is_taken_is_left_alone(
    is_full: bool, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    if is_full:
        (target / "mine").write_text("keep")
    with pytest.raises(BundleError, match="exists; choose another place"):
        write_bundle(target, filled_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert [p.name for p in target.iterdir()] == (["mine"] if is_full else [])


def test_a_bundle_over_the_limit_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loupe_models.bundle.MAX_GRAPH_BYTES", 100)
    with pytest.raises(BundleError, match=r"must stay under 1\.8 GB"):
        write_bundle(tmp_path / "bundle", filled_from(tiny_bundle.path), manifest_of(tiny_bundle))
    monkeypatch.setattr("loupe_models.bundle.MAX_BUNDLE_BYTES", 100)
    with pytest.raises(BundleError, match="the limit is 1 GB"):
        write_bundle(tmp_path / "bundle", filled_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["", "verdicts.jsonl", "new/folder", "golden/../x"])
def test_an_output_inside_a_bundle_is_refused(copy: Path, place: str) -> None:
    with pytest.raises(BundleError, match=r"lies in the bundle .*; give another place"):
        refuse_inside_bundle(copy / place)


def test_a_link_into_a_bundle_is_inside_it(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    with pytest.raises(BundleError, match=f"link/out lies in the bundle {copy}"):
        refuse_inside_bundle(tmp_path / "link" / "out")


@pytest.mark.parametrize("manifest", ["{", "[]", '{"schema_version": 1, "name": "a web site"}'])
def test_an_output_beside_another_manifest_is_none_of_ours(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest, encoding="utf-8")
    refuse_inside_bundle(tmp_path / "out")
    assert not (tmp_path / "out").exists()
