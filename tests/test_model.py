"""The model: how it degrades and estimates, and the directory it is saved in."""

import copy
import json
import os
import pickle

import pytest
import torch
from torch import Tensor

from snowmelt.fields import UnknownName
from snowmelt.files import BadFile, read_json, read_tensors, write_sealed
from snowmelt.model import Model, load, save, save_estimator
from snowmelt.priors import Normal
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build
from snowmelt.restorers import ByGradient, ClassifierFree, Conditions, Estimator, Restorer, UNet
from snowmelt.testing import perfect
from snowmelt.types import EMPTY, State, expand, severity

SHAPE = (3, 8, 10)
SPECS = [
    "gaussian-blur:sigma_px=2",
    "mask",
    "noise",
    "pixelate",
    "grey",
    "gaussian-blur+noise:schedule=betas(steps=20)",
    "recursive-blur:steps=3",
]


def pixels(n: int = 4, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.empty(n, *shape).uniform_(-1, 1, generator=generator(0, "pixels"))


def made(text: str = "gaussian-blur:sigma_px=2", told: bool = True, **options: object) -> Model:
    """A model with random weights everywhere: a fresh one would hide what F does."""
    d = build(text)
    restorer = Restorer(d, UNet(widths=(8, 16), blocks=1), SHAPE, told=told, noise_floor=options.get("noise_floor", 0.0))
    restorer.fit([pixels(40)])
    scatter(restorer, 0)
    return Model(d, restorer.eval(), **options)


def scatter(restorer: Restorer, seed: int) -> None:
    with torch.no_grad():
        for p in restorer.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(seed, "weights")))


def estimate(model: Model, x: Tensor | None = None) -> Tensor:
    x = pixels() if x is None else x
    state = model.corrupt(x, torch.linspace(0.1, 1, len(x)), generator(0, "z"))
    with torch.no_grad():
        return model.estimate(state.x, severity(state.t, state.x), state.z)


# --- types -----------------------------------------------------------------------------------------------


def test_severity_and_expand():
    like = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    for t in (0.5, torch.tensor(0.5), torch.full((3,), 0.5)):
        assert torch.equal(severity(t, like), torch.full((3,), 0.5, dtype=torch.float64))
    assert expand(severity(0.5, like), like).shape == (3, 1, 1, 1)
    with pytest.raises(TypeError):
        EMPTY["a"] = like


# --- degrading and estimating ----------------------------------------------------------------------------


def test_without_a_floor_a_model_degrades_as_its_degradation():
    model, x, t = Model(build("mask+noise"), perfect), pixels(), torch.linspace(0.1, 1, 4)
    z = model.draw(x, generator(0, "z"))
    assert z.keys() == {"0.centre", "1.endpoint"}
    assert torch.equal(model.degrade(x, t, z), model.degradation(x, t, z))


def test_the_noise_floor_is_drawn_after_the_degradations_draw_and_added():
    x, t = pixels(), torch.linspace(0.1, 1, 4)
    plain, model = Model(build("mask"), perfect), Model(build("mask"), perfect, noise_floor=0.02)
    z, without = model.draw(x, generators(0, "z", range(4))), plain.draw(x, generators(0, "z", range(4)))
    assert torch.equal(z["centre"], without["centre"])
    assert z["floor"].shape == x.shape
    seen = model.degrade(x, t, z)
    torch.testing.assert_close(seen, plain.degrade(x, t, without) + 0.02 * z["floor"])
    assert float((seen - plain.degrade(x, t, without)).std()) == pytest.approx(0.02, rel=0.1)
    assert torch.equal(model.degrade(x, t, without), plain.degrade(x, t, without)), "a draw without a floor has none"


def test_8bit_input_is_rounded_to_the_grid_of_a_file():
    model, x = Model(build("gaussian-blur"), perfect, input="8bit"), pixels()
    state = model.corrupt(x, 0.7, generator(0, "z"))
    levels = (state.x + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    exact = model.degradation(x, torch.full((4,), 0.7))
    assert 0 < (state.x - exact).abs().max() <= 1 / 255 + 1e-6


def test_corrupt_says_where_restoring_starts():
    model, x, t = Model(build("noise"), perfect), pixels(), torch.linspace(0, 1, 4)
    state = model.corrupt(x, t, generators(0, "z", range(4)))
    assert isinstance(state, State)
    assert state.t is t
    assert state.x0 is None
    assert torch.equal(state.x, model.degradation(x, t, state.z))
    assert torch.equal(state.x[0], x[0])
    assert torch.equal(model.corrupt(x, 1.0, generators(0, "z", range(4))).x[2:3], model.corrupt(x[2:3], 1.0, [generator(0, "z", 2)]).x)


def test_a_plain_function_is_a_restorer_and_sees_the_condition_when_there_is_one():
    x, t = pixels(), torch.ones(4)
    assert torch.equal(Model(build("grey"), lambda x_t, t: x_t + 1).estimate(x, t, {"anything": x}), x + 1)
    model = Model(build("grey"), lambda x_t, t, cond=None: x_t if cond is None else cond)
    assert model.estimate(x, t) is x
    assert model.estimate(x, t, cond=t) is t


def test_a_trained_restorer_is_handed_no_cond():
    x, t, model = pixels(), torch.ones(4), made()
    with pytest.raises(TypeError, match=r"^cond is for plain functions, and this restorer reads its conditions from the draw: give z\[\"label\"\]"):
        model.estimate(x, t, cond=torch.arange(4))
    assert torch.equal(model.estimate(x, t, cond=None), model.estimate(x, t))


def test_what_a_guided_model_is_told_of_an_item_is_what_it_reads():
    d = build("noise")
    inner = Restorer(d, UNet(widths=(8,), blocks=1), SHAPE, conditions=Conditions(classes=3))
    item = {"x0": pixels(), "label": torch.arange(4) % 3, "vector": torch.ones(4, 2)}
    likelihood = lambda x, x0, t, z: x.flatten(1).sum(1)  # noqa: E731
    plain = Restorer(d, UNet(widths=(8,), blocks=1), SHAPE)
    for restorer, names in [
        (inner, {"label"}),
        (ClassifierFree(inner, 2), {"label"}),
        (ByGradient(inner, d, likelihood), {"label"}),
        (ByGradient(inner, d, likelihood, reads=Conditions(vector=2)), {"label", "vector"}),
        (ByGradient(plain, d, likelihood, reads=Conditions(classes=3)), {"label"}),
        (plain, set()),
        (perfect, set()),
    ]:
        told = Model(d, restorer).told(item)
        assert set(told) == names
        assert all(told[name] is item[name] for name in names)
        assert set(Model(d, restorer).draw(pixels(), None, item)) == {"endpoint"} | names


def test_a_model_is_frozen_and_its_notes_are_no_part_of_it():
    model = Model(build("grey"), perfect, notes={"recipe": "a"})
    with pytest.raises(AttributeError):
        model.noise_floor = 1.0
    assert model == Model(build("grey"), perfect, notes={"recipe": "b"})
    assert model != Model(build("grey"), perfect, noise_floor=0.1)
    assert model.to("cpu") is model


# --- the normal prior ------------------------------------------------------------------------------------


def test_the_normal_prior_gives_noise_that_is_its_own_draw():
    prior = Normal().fit([pixels()])
    assert prior == Normal(shape=SHAPE)
    state = prior.sample(3, generators(0, "prior", range(3)))
    assert state.x.shape == (3, *SHAPE)
    assert state.t == 1.0
    assert torch.equal(state.z["endpoint"], state.x)
    assert torch.equal(prior.sample(1, [generator(0, "prior", 2)]).x[0], state.x[2])
    with pytest.raises(ValueError, match="does not know the shape of a sample: call fit first"):
        Normal().sample(1)


# --- saving and loading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("text", SPECS)
def test_a_loaded_model_estimates_the_same_bits(tmp_path, text, told):
    model = made(text, told, noise_floor=0.01, input="8bit", estimates="median", notes={"recipe": "mine", "seed": 3}, prior=Normal(SHAPE))
    save(model, tmp_path / "run")
    found = load(tmp_path / "run")
    assert torch.equal(estimate(found), estimate(model))
    assert torch.equal(estimate(found, pixels(2, (3, 13, 9))), estimate(model, pixels(2, (3, 13, 9))))
    for name in ("degradation", "prior", "noise_floor", "input", "range", "estimates"):
        assert getattr(found, name) == getattr(model, name)
    assert found.notes == model.notes
    assert (found.restorer.told, found.restorer.context) == (told, model.restorer.context)
    assert not found.restorer.training


def test_the_moving_average_is_preferred(tmp_path):
    model, average = made(), made()
    scatter(average.restorer, 1)
    save(model, tmp_path, ema=average.restorer.state_dict())
    assert torch.equal(estimate(load(tmp_path)), estimate(average))
    assert torch.equal(estimate(load(tmp_path, weights="raw")), estimate(model))
    assert not torch.equal(estimate(model), estimate(average))
    save(model, tmp_path)
    assert torch.equal(estimate(load(tmp_path)), estimate(model)), "without an average there are the weights"


def test_a_directory_holds_one_model_and_nothing_that_is_pickled(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model = made()
    save(model, tmp_path, ema=model.restorer.state_dict())
    first = set(os.listdir(tmp_path))
    scatter(model.restorer, 2)
    save(model, tmp_path, ema=model.restorer.state_dict())
    second = set(os.listdir(tmp_path))
    assert len(first) == len(second) == 4
    assert first & second == {"model.json", "notes.txt"}
    for name in second - {"model.json", "notes.txt"}:
        group, _, digest = name.removesuffix(".safetensors").partition("-")
        assert group in ("weights", "ema")
        assert read_json(tmp_path / "model.json")["files"][group]["sha256"].startswith(digest)
        assert read_tensors(tmp_path / name)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    model = made()
    save(model, tmp_path)
    expected = estimate(model)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert torch.equal(estimate(load(tmp_path)), expected)


def test_an_interrupted_save_leaves_the_old_model(tmp_path, monkeypatch):
    from snowmelt import model as module

    old, new = made(), made()
    scatter(new.restorer, 3)
    save(old, tmp_path)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_sealed", killed)
    with pytest.raises(KeyboardInterrupt):
        save(new, tmp_path)
    assert torch.equal(estimate(load(tmp_path)), estimate(old))


def test_a_plain_function_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="this one is a plain callable"):
        save(Model(build("grey"), lambda x, t: x), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def change(path: os.PathLike[str], **entries: object) -> None:
    write_sealed(path / "model.json", read_json(path / "model.json") | entries)


def test_a_damaged_tensor_file_is_detected_wherever_the_bit_flipped(tmp_path):
    save(made(), tmp_path)
    (file,) = tmp_path.glob("weights-*.safetensors")
    whole = file.read_bytes()
    for i in (0, 9, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(BadFile, match=r"weights-\w{12}\.safetensors is damaged: its SHA-256 is not the one in model\.json"):
            load(tmp_path)
    file.write_bytes(whole[:-1])
    with pytest.raises(BadFile, match="SHA-256"):
        load(tmp_path)
    file.unlink()
    with pytest.raises(BadFile, match=r"model\.json names weights-\w{12}\.safetensors, which is missing"):
        load(tmp_path)


def test_a_file_outside_the_directory_is_not_read(tmp_path):
    save(made(), tmp_path / "run")
    entry = read_json(tmp_path / "run" / "model.json")["files"]["weights"]
    (tmp_path / "run" / entry["file"]).rename(tmp_path / entry["file"])
    change(tmp_path / "run", files={"weights": {**entry, "file": "../" + entry["file"]}})
    with pytest.raises(BadFile, match="names '../weights-.*, which is no name of a file beside it"):
        load(tmp_path / "run")


def test_there_is_no_model_where_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no model \(no model\.json\): give the directory that 'snowmelt train --out' wrote"):
        load(tmp_path)


@pytest.mark.parametrize("value", [2, 0, "1", None])
def test_another_format_is_refused(tmp_path, value):
    save(made(), tmp_path)
    change(tmp_path, format=value)
    with pytest.raises(BadFile, match=rf"has format {value}; this snowmelt \(.*\) reads format 1$"):
        load(tmp_path)


def test_a_model_json_that_is_no_table_is_refused(tmp_path):
    for text in ("[]", "3", "{", ""):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(BadFile):
            load(tmp_path)


def test_an_unknown_part_names_the_nearest_and_the_plug_in_door(tmp_path):
    save(made(), tmp_path)
    change(tmp_path, degradation={"name": "gausian-blur"})
    with pytest.raises(
        SpecError, match=r"unknown degradation 'gausian-blur' \(did you mean 'gaussian-blur'\?\).*plug-in file, load that first"
    ):
        load(tmp_path)
    change(tmp_path, degradation={"name": "gaussian-blur", "sigma_px": 2000})
    with pytest.raises(SpecError, match=r"sigma_px = 2000 lies outside \[0, 1000\] px"):
        load(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path):
    save(made(), tmp_path)
    info = read_json(tmp_path / "model.json")
    info["restorer"]["backbone"]["widths"] = [16, 16]
    write_sealed(tmp_path / "model.json", info)
    with pytest.raises(BadFile, match=r"weights-\w{12}\.safetensors does not fit the network described beside it: it also has 'net\."):
        load(tmp_path)


def places(value: object, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return []
    return [p for key, inner in value.items() for p in ((*at, key), *places(inner, (*at, key)))]


def outcomes(tmp_path: os.PathLike[str], bad: object) -> set[type]:
    """What load says when each entry of model.json in turn is removed (...) or replaced by `bad`."""
    save(made(prior=Normal(SHAPE)), tmp_path)
    text = json.dumps({name: value for name, value in read_json(tmp_path / "model.json").items() if name != "seal"})
    seen: set[type] = set()
    for *path, last in places(json.loads(text)):
        info = json.loads(text)
        inner = info
        for key in path:
            inner = inner[key]
        if bad is ...:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(bad)
        write_sealed(tmp_path / "model.json", info)
        try:
            load(tmp_path)
        except Exception as error:  # noqa: BLE001 - its type is what is looked at
            seen.add(type(error))
    return seen


def test_a_missing_entry_is_a_bad_file(tmp_path):
    assert outcomes(tmp_path, ...) <= {BadFile, SpecError, UnknownName}


@pytest.mark.parametrize("bad", [None, 3, -1, "x", [], [1], {}], ids=str)
def test_an_entry_of_another_type_is_a_bad_file(tmp_path, bad):
    assert outcomes(tmp_path, bad) <= {BadFile, SpecError, UnknownName}


def test_a_model_whose_restorer_expects_another_floor_is_refused():
    inner = made(noise_floor=0.0)
    with pytest.raises(ValueError, match=r"model\.noise_floor = 0\.3, but its restorer was made for 0: give both the same"):
        Model(inner.degradation, inner.restorer, noise_floor=0.3)


# --- the estimator of severities -------------------------------------------------------------------------


def reader(seed: int = 0) -> Estimator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Estimator(SHAPE, ["severity"]).rounded().eval()


def test_an_estimator_of_severities_is_saved_with_its_model(tmp_path):
    model = made(estimator=reader())
    save(model, tmp_path)
    back = load(tmp_path).to("cpu")
    x = pixels(3, (3, 30, 20))
    assert torch.equal(back.estimator.estimate(x).severity["severity"], model.estimator.estimate(x).severity["severity"])
    assert read_json(tmp_path / "model.json")["estimator"]["unknowns"] == ["severity"]
    save(made(), tmp_path)
    assert load(tmp_path).estimator is None
    assert not list(tmp_path.glob("estimator-*"))


def test_a_model_saved_before_there_were_estimators_still_loads(tmp_path):
    save(made(), tmp_path)
    info = read_json(tmp_path / "model.json")
    assert info.pop("estimator") is None
    write_sealed(tmp_path / "model.json", info)
    assert load(tmp_path).estimator is None


def test_an_estimator_is_added_to_a_saved_model_and_all_else_stays(tmp_path):
    model = made(noise_floor=0.1)
    save(model, tmp_path, ema=model.restorer.state_dict())
    before, files = read_json(tmp_path / "model.json"), {p.name: p.read_bytes() for p in tmp_path.glob("*.safetensors")}
    save_estimator(reader(0), tmp_path)
    save_estimator(reader(1), tmp_path)
    after = read_json(tmp_path / "model.json")
    assert before.pop("seal") != after.pop("seal")
    assert {**after, "estimator": None, "files": {k: v for k, v in after["files"].items() if k != "estimator"}} == before
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert len(list(tmp_path.glob("estimator-*"))) == 1
    x = pixels()
    assert torch.equal(load(tmp_path).estimator.estimate(x).std["severity"], reader(1).estimate(x).std["severity"])
    with pytest.raises(FileNotFoundError, match="holds no model"):
        save_estimator(reader(), tmp_path / "elsewhere")


@pytest.mark.parametrize(("field", "value"), [("widths", [32, 64, 95]), ("unknowns", []), ("hidden", "many")])
def test_an_estimator_that_does_not_fit_its_description_is_refused(tmp_path, field, value):
    save(made(estimator=reader()), tmp_path)
    info = read_json(tmp_path / "model.json")
    info["estimator"][field] = value
    write_sealed(tmp_path / "model.json", info)
    with pytest.raises(BadFile, match="estimator|wrong type"):
        load(tmp_path)
