from pathlib import Path

from loupe_trainer.named_files import with_named_files

DATA = "a" * 64


def test_only_files_that_settings_name_enter_the_hash(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "stray.png").write_bytes(b"x")
    settings: dict[str, object] = {"steps": 3, "roi": "roi.png", "penalty_corpus": "corpus"}
    (tmp_path / "corpus" / "a.png").write_bytes(b"x")
    assert with_named_files(DATA, settings, tmp_path) == DATA
    (tmp_path / "roi.png").write_bytes(b"white")
    white = with_named_files(DATA, settings, tmp_path)
    (tmp_path / "roi.png").write_bytes(b"black")
    black = with_named_files(DATA, settings, tmp_path)
    assert len({DATA, white, black}) == 3
    assert len(white) == 64


def test_settings_in_sections_and_absolute_paths_count(tmp_path: Path) -> None:
    weights = tmp_path / "w.npz"
    weights.write_bytes(b"1")
    nested: dict[str, object] = {"pretrain": {"backbone_weights": str(weights)}}
    assert with_named_files(DATA, nested, Path("elsewhere")) != DATA


def test_of_a_folder_of_weights_what_is_read_counts(tmp_path: Path) -> None:
    vit = tmp_path / "dino"
    vit.mkdir()
    settings: dict[str, object] = {"rgb": {"weights": "dino"}}
    (vit / "README.md").write_text("licence")
    assert with_named_files(DATA, settings, tmp_path) == DATA
    seen = {DATA}
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        for content in ("one", "other"):
            (vit / name).write_text(content)
            seen.add(with_named_files(DATA, settings, tmp_path))
    assert len(seen) == 7
