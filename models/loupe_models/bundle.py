"""A folder that is shipped to a device: written at once or not at all, believed only when whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from loupe_models.errors import BundleError, GraphError
from loupe_models.graph_lint import lint_graph
from loupe_models.making import hold
from loupe_models.manifest import SCHEMA_VERSION, Manifest, ModeManifest, Precision
from loupe_models.strict_json import loads

MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 1_000_000_000
MAX_GRAPH_BYTES = 1_800_000_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes:
        sha256: Of `manifest.json`, which holds the hash of every other file.
    """

    path: Path
    manifest: Manifest
    sha256: str

    def file(self, name: str) -> Path:
        """Give the path of a file that the manifest lists."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: no file {name!r} in the manifest")
        return self.path / name

    def mode(self, name: str) -> ModeManifest:
        """Give the contract of one mode."""
        for mode, contract in self.manifest.modes.items():
            if mode == name:
                return contract
        served = ", ".join(self.manifest.modes)
        raise BundleError(f"{self.path}: serves {served}, not {name!r}; set mode to one of these")

    def variant(self, mode: str, variant: Precision) -> Path:
        """Give the graph of one mode in one precision.

        Raises:
            BundleError: The bundle lacks the mode or the variant.
        """
        contract = self.mode(mode)
        offered = contract.variants
        if variant not in offered:
            why = contract.why_not(variant)
            raise BundleError(
                f"{self.path}: mode {mode} has variants {', '.join(offered)}, not {variant!r}{why}"
            )
        return self.file(offered[variant].file)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and refuse it on any doubt.

    Raises:
        BundleError: Missing, truncated, altered, unknown keys, a newer schema, a path outside
            the folder, or a file the manifest does not list.
        GraphError: A graph breaks the graph contract.
    """
    raw = _read_manifest(path)
    _check_document(path, raw)
    try:
        manifest = Manifest.model_validate_json(raw, strict=True)  # "1" and true are no numbers
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path / MANIFEST}: {where}: {first['msg']} ({error.error_count()} in all); "
            f"export the bundle again"
        ) from error
    _check_files(path, manifest)
    for mode in manifest.modes.values():
        for variant in mode.variants.values():
            try:
                lint_graph(path / variant.file, mode.inputs, mode.outputs)
            except GraphError as error:
                raise GraphError(f"{path}: {error}; export the bundle again") from error
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())


def write_bundle(
    path: Path, fill: Callable[[Path], None], make_manifest: Callable[[Mapping[str, str]], Manifest]
) -> Bundle:
    """Write a bundle beside its place, verify it, and move it there in one step.

    It is made in `.NAME.making`. What a killed process left there goes with the next write.

    Args:
        path: Where the bundle will be; must not exist.
        fill: Writes every file but the manifest into the folder it is given.
        make_manifest: Makes the manifest from the files' sha256 by name.

    Raises:
        BundleError: The place is taken, another process writes it, or the result is over the
            size limits.
    """
    if path.exists():
        raise BundleError(f"{path} exists; choose another place or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.parent / f".{path.name}.making"
    try:
        handle = hold(making)
    except BlockingIOError as error:
        raise BundleError(f"{path}: another process is writing it; wait for it to end") from error
    try:
        fill(making)
        files = {str(f.relative_to(making)): file_sha256(f) for f in _files(making)}
        _check_sizes(making, files)
        text = make_manifest(files).model_dump_json(indent=1)
        (making / MANIFEST).write_text(text + "\n", encoding="utf-8")
        load_bundle(making)
        _sync(making)
        making.chmod(0o755)
        making.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place
        os.close(handle)
    return load_bundle(path)


def refuse_inside_bundle(path: Path) -> None:
    """Keep an output out of every bundle: a file that the manifest does not list spoils it.

    Args:
        path: A file or folder that is to be written; need not exist.

    Raises:
        BundleError: It is a bundle, or lies in one.
    """
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        if _looks_like_bundle(folder):
            raise BundleError(
                f"{path} lies in the bundle {folder}, which must not change; give another place"
            )


def file_sha256(path: Path) -> str:
    """Hash a file without reading it whole into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _looks_like_bundle(folder: Path) -> bool:
    """Tell a bundle, damaged or newer ones too, from a folder that has some other manifest.json."""
    try:
        if not (folder / MANIFEST).is_file():
            return False
        document = loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and {"schema_version", "modes", "files"} <= document.keys()


def _read_manifest(path: Path) -> bytes:
    if not path.is_dir():
        raise BundleError(f"{path}: not a folder; give the folder that holds {MANIFEST}")
    if (path / MANIFEST).is_symlink():
        raise BundleError(f"{path}: {MANIFEST} is a link; copy the bundle again, files and all")
    try:
        return (path / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: no readable {MANIFEST}, so this is not a bundle") from error


def _check_document(path: Path, raw: bytes) -> None:
    """Ask for strict JSON of a schema that this version reads."""
    try:
        document = loads(raw)
    except ValueError as error:
        raise BundleError(f"{path / MANIFEST}: not valid JSON ({error}); copy it again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{path / MANIFEST}: not a JSON object")
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError(
            f"{path / MANIFEST}: schema_version is {version!r}, not a whole number; "
            f"export the bundle again"
        )
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: written by a newer Loupe (schema {version}, this one reads "
            f"{SCHEMA_VERSION}); update Loupe on this machine"
        )


def _check_files(path: Path, manifest: Manifest) -> None:
    root = path.resolve()
    present = {str(f.relative_to(path)) for f in _files(path)} - {MANIFEST}
    if foreign := sorted(present - set(manifest.files)):
        raise BundleError(f"{path}: files the manifest does not list: {', '.join(foreign)}")
    for name, sha256 in manifest.files.items():
        file = path / name
        if not file.is_file() or root not in file.resolve().parents:
            raise BundleError(f"{path}: {name} is missing or outside the bundle; copy it again")
        if file_sha256(file) != sha256:
            raise BundleError(f"{path}: {name} is damaged (sha256 differs); copy it again")


def _check_sizes(path: Path, files: Mapping[str, str]) -> None:
    sizes = {name: (path / name).stat().st_size for name in files}
    if sum(sizes.values()) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle of {sum(sizes.values()):,} bytes; the limit is 1 GB")
    for name, size in sizes.items():
        if name.endswith(".onnx") and size > MAX_GRAPH_BYTES:
            raise BundleError(f"{name} has {size:,} bytes; a graph must stay under 1.8 GB")


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if not f.is_dir())


def _sync(path: Path) -> None:
    """Flush files and folders, so that a power cut cannot leave an empty bundle in place."""
    for target in [*path.rglob("*"), path]:
        _flush(target)


def _flush(target: Path) -> None:
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
