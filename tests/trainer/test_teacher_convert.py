"""Published teachers: the same answers after conversion, and whose they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import NOBODY_SAYS, PublishedFile
from loupe_trainer.teachers import convert
from loupe_trainer.teachers.convert import PUBLISHED, convert_teacher
from loupe_trainer.teachers.weights import load_teacher


def paper_network(size: str) -> nn.Sequential:
    """The paper's tables of layers as a plain sequence, whose keys are nelson1425's."""
    if size == "S":
        return nn.Sequential(
            nn.Conv2d(3, 128, 4), nn.ReLU(), nn.AvgPool2d(2, 2),
            nn.Conv2d(128, 256, 4), nn.ReLU(), nn.AvgPool2d(2, 2),
            nn.Conv2d(256, 256, 3), nn.ReLU(),
            nn.Conv2d(256, 384, 4),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(3, 256, 4), nn.ReLU(), nn.AvgPool2d(2, 2),
        nn.Conv2d(256, 512, 4), nn.ReLU(), nn.AvgPool2d(2, 2),
        nn.Conv2d(512, 512, 1), nn.ReLU(),
        nn.Conv2d(512, 512, 3), nn.ReLU(),
        nn.Conv2d(512, 384, 4), nn.ReLU(),
        nn.Conv2d(384, 384, 1),
    )  # fmt: skip


def numbered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Anomalib's keys: convolutions counted from 1."""
    order = list(dict.fromkeys(key.split(".")[0] for key in state))
    return {
        f"conv{order.index(k.split('.')[0]) + 1}.{k.split('.')[1]}": v for k, v in state.items()
    }


@pytest.mark.parametrize("layout", ["positions", "numbers"])
@pytest.mark.parametrize("size", ["S", "M"])
def test_a_converted_teacher_gives_the_published_answers(
    tmp_path: Path, size: str, layout: str
) -> None:
    torch.manual_seed(5)
    network = paper_network(size)
    state = dict(network.state_dict())
    file, out = tmp_path / "published.pth", tmp_path / "teacher.safetensors"
    torch.save(state if layout == "positions" else numbered(state), file)
    convert_teacher(file, out, "Apache-2.0")
    teacher = load_teacher(out)
    picture = torch.randn(2, 3, 48, 40)
    with torch.no_grad():
        torch.testing.assert_close(teacher.network(picture), network(picture))
    assert teacher.network.shape.size == size
    origin = teacher.origin
    assert (origin.name, origin.licence) == (
        f"a teacher of EfficientAD-{size}, published.pth", "Apache-2.0",
    )  # fmt: skip
    assert origin.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert origin.steps is None


def test_a_known_file_needs_nobodys_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = tmp_path / "t.pth", tmp_path / "t.safetensors"
    torch.save(paper_network("S").state_dict(), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    known = PublishedFile("A teacher", "t.pth", "https://example.org/t.pth", sha256, NOBODY_SAYS)
    monkeypatch.setattr(convert, "PUBLISHED", (known,))
    assert convert_teacher(file, out).origin.licence == NOBODY_SAYS
    assert convert_teacher(file, tmp_path / "mit.safetensors", "MIT").origin.licence == "MIT"
    monkeypatch.setattr(convert, "PUBLISHED", PUBLISHED)
    with pytest.raises(WeightsError, match=r"not that of teacher_small.pth \(b98a6a13…\)"):
        convert_teacher(file, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_a_missing_file_says_what_to_fetch(tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    with pytest.raises(WeightsError, match="not there; fetch ") as told:
        convert_teacher(tmp_path / "missing.pth", out)
    for known in PUBLISHED:
        assert known.url in str(told.value)
        assert f"(sha256 {known.sha256})" in str(told.value)
    small, _, zipped, _ = PUBLISHED
    for meant in (small, zipped):
        with pytest.raises(WeightsError) as told:
            convert_teacher(tmp_path / meant.file, out)
        assert str(told.value).count("https://") == 1
        assert str(told.value).endswith(f"to {tmp_path / meant.file}")
    assert f"{zipped.file} (sha256 {zipped.sha256}) out of https://" in str(told.value)


def test_what_is_published_is_fixed_by_commit_and_by_whole_hashes() -> None:
    for known in PUBLISHED:
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256)
        assert re.search(r"/[0-9a-f]{40}/|/releases/download/", known.url)


@pytest.mark.parametrize("missing", ["3.bias", "8.weight"])
def test_foreign_files_are_refused(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "t.pth"
    state = dict(paper_network("S").state_dict())
    torch.save({k: v for k, v in state.items() if k != missing}, file)
    with pytest.raises(WeightsError, match=r"not a teacher of EfficientAD-S or -M. It holds 0.wei"):
        convert_teacher(file, tmp_path / "out", "MIT")
    torch.save(state | {missing: torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match=r"(body.0|stem.3|last).* is \(3,\), expected"):
        convert_teacher(file, tmp_path / "out", "MIT")


def test_a_whole_pickled_network_is_refused_and_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "teacher_small_final.pth"
    torch.save(paper_network("S"), file)
    with pytest.raises(WeightsError, match="fetch its state dict instead"):
        convert_teacher(file, tmp_path / "out", "MIT")
