"""export and import, as a user calls them, and the training of a network that can be exported; graphs of one that was trained."""

import json
from pathlib import Path

import pytest

import snowmelt
import snowmelt.interop  # registered before a test takes its snapshot of the registry

NET = "diffusers-unet2d:steps=8,block_out_channels=(8,16),layers_per_block=1,norm_num_groups=4"
NOISE = "noise:schedule=betas(steps=8,beta_max=0.8)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardly trained DDPM of digits with diffusers' network."""
    pytest.importorskip("diffusers", reason="its network is diffusers', which is not installed: pip install 'snowmelt[test]'")
    from snowmelt.cli import main

    out = tmp_path_factory.mktemp("runs") / "ddpm"
    model = ("--model.backbone", NET, "--model.parameterization", "eps")
    short = ("--images", "64", "--training.batch", "16", "--training.precision", "fp32", "--training.validate_every", "64")
    few = ("--training.validation_images", "16", "--training.severity_images", "0")
    assert main(["train", "--data", "bundled:digits", "--degradation", NOISE, "--out", str(out), *model, *short, *few]) == 0
    return out


def test_train_export_import_and_use(cli, trained: Path, tmp_path: Path, files_in) -> None:
    assert "diffusers-unet2d" in cli("describe", trained).out
    theirs, back = tmp_path / "theirs", tmp_path / "back"
    done = cli("export", trained, "--format", "diffusers", "--out", theirs)
    assert done.code == 0, done.err
    assert "DDPMPipeline.from_pretrained" in done.out
    again = cli("export", trained, "--format", "diffusers", "--out", theirs)
    assert again.code == 2
    assert "--overwrite" in again.error
    assert cli("export", trained, "--format", "diffusers", "--out", theirs, "--overwrite").code == 0
    done = cli("import", theirs, "--out", back)
    assert done.code == 0, done.err
    assert f"snowmelt sample {back} --sampler ancestral:steps=8 --out DIR" in done.out
    pictures = []
    for run in (trained, back):
        made = cli("sample", run, "-n", "2", "--sampler", "ancestral:steps=8", "--out", tmp_path / run.name)
        assert made.code == 0, made.err
        pictures.append((tmp_path / run.name / "sample_0001.png").read_bytes())
    assert pictures[0] == pictures[1]
    described = cli("describe", back)
    assert "diffusers-unet2d" in described.out
    assert described.code == 0
    assert "ancestral:steps=8" in json.dumps(dict(snowmelt.load(back).notes))


def test_an_imported_model_is_evaluated_on_data_that_are_named(cli, trained: Path, tmp_path: Path) -> None:
    cli("export", trained, "--format", "diffusers", "--out", tmp_path / "theirs")
    cli("import", tmp_path / "theirs", "--out", tmp_path / "back")
    done = cli("evaluate", tmp_path / "back", "--images", "8")
    assert done.code == 2
    assert "no-pictures-given" in done.error
    done = cli("evaluate", tmp_path / "back", "--images", "8", "--data", "bundled:digits")
    assert done.code == 0, done.err
    assert (tmp_path / "back/evaluation.json").is_file()


def test_export_names_what_does_not_fit(cli, run: Path, tmp_path: Path, files_in) -> None:
    done = cli("export", run, "--format", "diffusers", "--out", tmp_path / "no")
    assert done.code == 2
    assert "its degradation is gaussian-blur" in done.error
    assert not (tmp_path / "no").exists()
    done = cli("export", run, "--format", "onx", "--out", tmp_path / "no")
    assert done.code == 2
    assert "diffusers" in done.err


def test_import_says_what_it_cannot_read_and_leaves_nothing(cli, run: Path, tmp_path: Path) -> None:
    for source, says in ((tmp_path / "nowhere", "nothing is downloaded"), (run, "model_index.json")):
        done = cli("import", source, "--out", tmp_path / "out")
        assert done.code == 2
        assert says in done.error
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    done = cli("import", run, "--out", tmp_path / "out")
    assert "not empty" in done.error


def test_an_import_that_is_interrupted_leaves_nothing(cli, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snowmelt.cli import exchange

    cli("export", trained, "--format", "diffusers", "--out", tmp_path / "theirs")

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "_recipe", interrupted)
        assert cli("import", tmp_path / "theirs", "--out", tmp_path / "back").code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]
    assert cli("import", tmp_path / "theirs", "--out", tmp_path / "back").code == 0
    assert (tmp_path / "back" / "recipe.toml").is_file()


@pytest.mark.parametrize(("form", "name"), [("onnx", "net.onnx"), ("torch-export", "net.pt2")])
def test_a_graph_is_written_compared_and_described(cli, run: Path, tmp_path: Path, form: str, name: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="graphs are run by onnxruntime, which is not installed: pip install 'snowmelt[test]'")
    done = cli("export", run, "--format", form, "--out", tmp_path / name)
    assert done.code == 0, done.err
    assert "x_t (batch, 1, 8, 8), t (batch) -> x0_hat" in done.out
    assert "pictures of 8 x 8 px only" in done.out
    assert "Wiener coefficients" in done.out
    assert "--size" in done.out
    assert "largest difference from torch in 3 comparisons" in done.out
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = cli("export", run, "--format", form, "--out", tmp_path / name)
    assert again.code == 2
    assert "--overwrite" in again.error


def test_a_graph_of_another_size_says_whose_weights_it_has(cli, run: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="ONNX files are read by onnx, which is not installed: pip install 'snowmelt[test]'")
    done = cli("export", run, "--format", "onnx", "--out", tmp_path / "net.onnx", "--size", "12")
    assert done.code == 0, done.err
    assert "12 x 12 px only" in done.out
    said = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    files = json.loads((run / "model.json").read_text())["files"]
    assert said["snowmelt.weights"] == files["ema" if "ema" in files else "weights"]["sha256"]
    refused = cli("export", run, "--format", "diffusers", "--out", tmp_path / "no", "--size", "12")
    assert "--size is for graphs" in refused.error
