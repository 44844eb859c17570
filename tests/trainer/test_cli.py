import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typed_command import Typed

from loupe_models.bundle import Bundle, load_bundle
from loupe_trainer.teachers.weights import load_teacher

COMMAND = Path(sys.executable).with_name("loupe-trainer")


@pytest.mark.usefixtures("spots")
def test_train_evaluate_export_report(
    typed: Typed, mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    status, told = typed("train", recipe_file, "--data", mvtec_folder, "--out", out)
    assert status == 0
    assert "image AUROC" in told
    assert str(out / "bundle") in told
    assert "warning: the gate is the whole frame: unless a part fills it" in told

    elsewhere = tmp_path / "evaluation"
    status, told = typed(
        "evaluate", out / "bundle", out / "split" / "test.jsonl", "--out", elsewhere
    )
    assert status == 0
    metrics = json.loads((elsewhere / "metrics.json").read_text())
    assert metrics == json.loads((out / "evaluation" / "metrics.json").read_text())

    test = out / "split" / "test.jsonl"
    before = (out / "evaluation" / "metrics.json").stat().st_ino
    assert typed("evaluate", out / "bundle", test)[0] == 0
    (of_test,) = out.glob("evaluation-test-*")
    assert (of_test / "report.html").is_file()
    assert (out / "evaluation" / "metrics.json").stat().st_ino == before  # the run's own

    status, told = typed("evaluate", out / "bundle", test, "--out", mvtec_folder)
    assert status == 2
    assert "holds other things (ground_truth, test, train); give --out a new folder" in told

    status, told = typed("evaluate", out / "bundle", test, "--also", out / "bundle")
    assert status == 2
    assert "2 bundles say little of how seeds differ: give 3 at least" in told

    altered = shutil.copytree(out / "bundle", tmp_path / "altered")
    document = json.loads((altered / "manifest.json").read_text())
    document["modes"]["rgb"]["golden"][0]["image_score"] += 100.0
    (altered / "manifest.json").write_text(json.dumps(document))
    status, told = typed("evaluate", altered, test, "--out", tmp_path / "unproved")
    assert status == 1
    assert "golden frame 0: this device says" in told
    assert not (tmp_path / "unproved").exists()

    assert typed("export", out, "--out", tmp_path / "copy")[0] == 0
    assert (tmp_path / "copy" / "manifest.json").is_file()
    (out / "evaluation" / "report.html").unlink()
    assert typed("report", out)[0] == 0
    assert (out / "evaluation" / "report.html").is_file()


@pytest.mark.usefixtures("spots")
def test_training_without_a_test_says_that_nothing_was_measured(
    typed: Typed, plain_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", recipe_file, "--data", plain_folder, "--out", run, "--set", "split.test=0")
    status, told = typed(*words)
    assert status == 0
    assert "not evaluated: no part was set aside for the test (split.test)" in told
    assert f"bundle: {run / 'bundle'}" in told


@pytest.mark.parametrize(
    "words",
    [
        ["train", "{recipe}", "--data", "{good}", "--out", "{bundle}/x"],
        ["evaluate", "{bundle}", "{good}", "--out", "{bundle}/x"],
        ["pretrain", "--out", "{bundle}/x"],
        ["pretrain", "--published", "{good}", "--out", "{bundle}/x/y"],
        ["prepare", "mvtec3d", "{good}", "--out", "{bundle}/x"],
    ],
)
@pytest.mark.usefixtures("spots")
def test_nothing_is_written_into_a_bundle(
    typed: Typed, words: list[str], tiny_bundle: Bundle, recipe_file: Path, plain_folder: Path
) -> None:
    places = {"bundle": tiny_bundle.path, "recipe": recipe_file, "good": plain_folder}
    status, told = typed(*(word.format(**places) for word in words))
    assert status == 2
    assert f"lies in the bundle {tiny_bundle.path}, which must not change" in told
    assert load_bundle(tiny_bundle.path).sha256 == tiny_bundle.sha256


@pytest.mark.usefixtures("spots")
def test_evaluations_of_one_name_do_not_mix_and_say_what_they_lack(
    typed: Typed, mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert typed("train", recipe_file, "--data", mvtec_folder, "--out", run)[0] == 0
    tested = mvtec_folder / "test"
    good = shutil.copytree(tested / "good", tmp_path / "monday" / "exam")
    both = shutil.copytree(tested, tmp_path / "tuesday" / "exam")
    bad = tmp_path / "wednesday" / "exam" / "test"
    shutil.copytree(tested / "spot", bad / "spot")

    status, told = typed("evaluate", run / "bundle", good)
    assert status == 0
    assert "no defect in the data: only the rate of false rejects" in told
    assert "n good" in told
    assert not [name for name in ("image AUROC", "AU-PRO to", "escape rate") if name in told]
    status, told = typed("evaluate", run / "bundle", both)
    assert status == 0
    assert "no mask of a defect in the data" in told
    assert "image AUROC" in told
    status, told = typed("evaluate", run / "bundle", bad.parent)
    assert status == 0
    assert "no good part in the data: only the rate of escapes" in told
    assert "false reject rate" not in told
    assert len(list(run.glob("evaluation-exam-*"))) == 3
    assert typed("evaluate", run / "bundle", both)[0] == 0
    assert len(list(run.glob("evaluation-exam-*"))) == 3  # replaced


@pytest.mark.usefixtures("spots")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "{tmp}/absent.toml"], "no such recipe"),
        (["train", "{recipe}"], "names no data; add `--data PLACE`"),
        (["train", "{recipe}", "--data", "{tmp}/absent"], "no such file or folder"),
        (["train", "{recipe}", "--data", "{tmp}/empty"], "no picture in it"),
        (["train", "{recipe}", "--data", "{tmp}/one"], "1 good part, "),
        (["train", "{recipe}", "--data", "{tmp}/text"], "not a picture that can be read"),
        (["train", "{recipe}", "--data", "{tmp}/mixed"], "must hold good parts only"),
        (["train", "{recipe}", "--set", "split.fitt=1"], "split.fitt: unknown key"),
        (["train", "{recipe}", "--set", "fit"], "write KEY=VALUE"),
        (["train", "{recipe}", "--data", "{good}", "--set", "method=magic"], "no method 'magic'"),
        (["train", "{recipe}", "--data", "{good}", "--set", 'modes=["depth"]'], "serves rgb, not"),
        (
            ["train", "{recipe}", "--data", "{good}", "--set", "threshold.false_reject_rate=0.01"],
            "which takes 299",
        ),
        (["train", "{recipe}", "--data", "{good}", "--out", "{tmp}/file"], "is not a folder"),
        (["train", "{recipe}", "--data", "{good}", "--out", "{long}"], "too long"),
        (["evaluate", "{tmp}/absent", "{good}"], "not a folder; give the folder that holds"),
        (["export", "{tmp}"], "no readable run.json"),
        (["report", "{tmp}"], "no readable run.json"),
        (
            ["pretrain", "--out", "{tmp}/t", "--set", "seed=4294967296"],
            "seed: Input should be",
        ),
        (
            ["pretrain", "--out", "{tmp}/t", "--set", "steps=10000001"],
            "steps: Input should be",
        ),
        (
            ["pretrain", "--out", "{tmp}/t", "--set", "n_pictures=10001"],
            "n_pictures: Input should be less",
        ),
        (
            [
                "train",
                "{recipe}",
                "--data",
                "{good}",
                "--set",
                "method=efficientad",
                "--set",
                "fit.n_penalty_pictures=10001",
            ],
            "n_penalty_pictures: Input should be less",
        ),
        (["pretrain", "--out", "{tmp}/one"], "is a folder; give --out the name of a file"),
        (["pretrain", "--out", "{recipe}/t"], "recipe.toml is a file, not a folder"),
        (["pretrain", "--out", "{tmp}/" + "n" * 256], "too long"),
        (["evaluate", "{tmp}/" + "n" * 256, "{good}"], "the name is too long"),
        (["pretrain", "--out", "{tmp}/t", "--set", "stepps=1"], "stepps: unknown key"),
        (["pretrain", "--out", "{tmp}/t", "--backbone", "alexnet"], "backbone"),
        (
            ["pretrain", "--out", "{tmp}/t", "--backbone", "squeezenet"],
            "squeezenet1_1-b8a52dc0.pth (sha256 begins with b8a52dc0) to weights/",
        ),
        (
            [
                "pretrain",
                "--out",
                "{tmp}/t",
                "--backbone",
                "wide_resnet101_2",
                "--weights",
                "{tmp}/w",
            ],
            "wide_resnet101_2-32ee1156.pth (sha256 begins with 32ee1156) to {tmp}/w",
        ),
        (
            ["pretrain", "--out", "{tmp}/t", "--backbone", "hugging_face", "--weights", "{tmp}/w"],
            "--local-dir {tmp}/w",
        ),
        (["pretrain", "--out", "{tmp}/t", "--weights", "{tmp}/w"], "name it with `backbone`"),
        (["pretrain", "--out", "{tmp}/t", "--published", "{tmp}/w"], "models/teacher_medium.pth ("),
        (
            ["pretrain", "--out", "{tmp}/t", "--published", "{tmp}/w", "--set", "steps=3"],
            "takes a teacher as it is",
        ),
    ],
)
def test_bad_input_says_what_to_do_and_exits_2(
    typed: Typed, words: list[str], says: str, recipe_file: Path, plain_folder: Path, tmp_path: Path
) -> None:
    for name in ("empty", "one", "text", "mixed"):
        (tmp_path / name).mkdir()
    first = sorted(plain_folder.iterdir())[0]
    shutil.copy(first, tmp_path / "one" / "a.png")
    shutil.copytree(plain_folder, tmp_path / "text", dirs_exist_ok=True)
    (tmp_path / "text" / "b.png").write_text("hello")
    shutil.copy(first, tmp_path / "mixed" / "scratch-1.png")
    (tmp_path / "file").write_text("")
    long = tmp_path / ("x" * 300)
    places = {"tmp": tmp_path, "recipe": recipe_file, "good": plain_folder, "long": long}
    out = ["--out", str(tmp_path / "run")] if words[0] == "train" and "--out" not in words else []
    status, told = typed(*(w.format(**places) for w in words), *out)
    assert status == 2, told
    assert says.format(**places) in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "export", "report", "pretrain", "backbones"]
)
def test_every_command_explains_itself(typed: Typed, command: str) -> None:
    status, told = typed(command, "--help")
    assert status == 0
    assert f"loupe-trainer {command}" in told
    assert command in typed("--help")[1]


def test_version(typed: Typed) -> None:
    status, told = typed("--version")
    assert status == 0
    assert told.startswith("loupe ")


def test_backbones(typed: Typed) -> None:
    status, told = typed("backbones")
    assert status == 0
    for name in ("hugging_face", "squeezenet", "wide_resnet101_2"):
        assert f"{name}: fetch " in told
    assert "models/wide_resnet101_2-32ee1156.pth (sha256 begins with 32ee1156) to weights/" in told
    assert "models/teacher_small.pth (sha256 b98a6a139087a0d7" in told


def test_pretrain_takes_a_published_teacher(typed: Typed, tmp_path: Path) -> None:
    file, teacher = tmp_path / "teacher_small.pth", tmp_path / "teacher.safetensors"
    shapes = {"0": (128, 3, 4), "3": (256, 128, 4), "6": (256, 256, 3), "8": (384, 256, 4)}
    state = {f"{key}.weight": torch.zeros(*shape, shape[-1]) for key, shape in shapes.items()}
    state |= {f"{key}.bias": torch.zeros(shape[0]) for key, shape in shapes.items()}
    torch.save(state, file)
    words = ("pretrain", "--published", file, "--out", teacher)
    status, told = typed(*words)
    assert status == 2
    assert "--set licence=NAME" in told
    assert not teacher.exists()
    status, told = typed(*words, "--set", "licence=Apache-2.0")
    assert status == 0, told
    assert "EfficientAD-S, teacher_small.pth, Apache-2.0" in told
    assert load_teacher(teacher).origin.licence == "Apache-2.0"
    assert typed(*words, "--set", "licence=Apache-2.0")[0] == 0
    status, told = typed(*words, "--set", "licence=MIT")
    assert status == 2
    assert "is a teacher of other settings; give --out another place, or remove it" in told
    assert load_teacher(teacher).origin.licence == "Apache-2.0"


def test_pretrain_says_of_a_finished_teacher_that_it_is_made(typed: Typed, tmp_path: Path) -> None:
    words: list[str | Path] = ["pretrain", "--out", tmp_path / "t.safetensors"]
    words += [w for s in ("steps=1", "width=0.07", "batch=2", "n_pictures=2") for w in ("--set", s)]
    assert "made already" not in typed(*words)[1]
    status, told = typed(*words)
    assert status == 0
    assert "t.safetensors: is made already" in told


def test_wrong_usage_exits_2(typed: Typed) -> None:
    assert typed("train")[0] == 2
    assert typed("no-such-command")[0] == 2


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_run_says_how_to_go_on(plain_folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\nmethod = "efficientad"\n'
        "[split]\nfit = 0.4\nthreshold = 0.4\n[threshold]\nfalse_reject_rate = 0.1\n"
        "[fit]\nwidth_px = 128\nheight_px = 128\n"
        "pretrain = { steps = 100000, batch = 8, width = 0.1 }\n"
    )
    command: list[str | Path] = [
        COMMAND,
        "train",
        recipe,
        "--data",
        plain_folder,
        "--out",
        tmp_path / "run",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "cache").exists() and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told.decode()
    assert b"the same command, with the same --out, continues" in told


@pytest.mark.parametrize(
    ("words", "where", "says"),
    [
        (
            ["train", "{recipe}", "--data", "{good}", "--out", "{tmp}/r"],
            "plan.index_data",
            "loupe-trainer: interrupted; the same command, with the same --out, continues",
        ),
        (["pretrain", "--out", "{tmp}/t"], "teachers.pretrain.open_corpus", "continues"),
        (["evaluate", "{tmp}/b", "{good}"], "evaluating.load_bundle", "loupe-trainer: interrupted"),
        (["report", "{tmp}/b"], "run.RunFolder.read", "loupe-trainer: interrupted"),
    ],
)
@pytest.mark.usefixtures("spots")
def test_only_what_continues_is_said_to(
    typed: Typed, words: list[str], where: str, says: str, recipe_file: Path, plain_folder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"loupe_trainer.{where}", stop)
    places = {"tmp": tmp_path, "recipe": recipe_file, "good": plain_folder}
    status, told = typed(*(w.format(**places) for w in words))
    assert status == 130
    assert told.endswith(says)


@pytest.mark.usefixtures("spots")
def test_a_full_disk_is_named_and_leaves_the_old_evaluation(
    typed: Typed, recipe_file: Path, plain_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    assert typed("train", recipe_file, "--data", plain_folder, "--out", out)[0] == 0
    before = {f.name: f.stat().st_ino for f in (out / "evaluation").iterdir()}

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("loupe_trainer.evaluating.write_report", full)
    status, told = typed("report", out)
    assert status == 1
    assert "report.html: the disk is full; free some space" in told
    assert {f.name: f.stat().st_ino for f in (out / "evaluation").iterdir()} == before
    assert not list(out.glob(".evaluation*"))
