"""Text <-> parts: what a user may write, and what is said when it is wrong."""

import json
import pickle
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tomli_w
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Compose, Degradation, GaussianBlur, GaussianNoise, Grey, Mask, Pixelate, RecursiveBlur
from snowmelt.fields import UnknownName, alternatives, strip
from snowmelt.files import described_by
from snowmelt.registry import Part, Range, SpecError, build, lookup, names, register, schema, spec, table
from snowmelt.restorers import UNet
from snowmelt.samplers import Sampler, TACoS
from snowmelt.schedules import Betas, Cosine, Linear
from snowmelt.types import Draw

KINDS = ("backbone", "degradation", "parameterization", "prior", "sampler", "schedule")


@pytest.fixture
def fresh():
    """The registry as it was, after a test has added to it."""
    registry.kinds()
    parts = {kind: dict(known) for kind, known in registry._parts.items()}
    names_, plugins = dict(registry._names), dict(registry._plugins)
    yield
    for current, saved in ((registry._parts, parts), (registry._names, names_), (registry._plugins, plugins)):
        current.clear()
        current.update(saved)


def message(source: Any, kind: str = "degradation") -> str:
    with pytest.raises(SpecError) as caught:
        build(source, kind)
    return str(caught.value)


# --- round trips -----------------------------------------------------------------------------------------


def values(annotation: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Any value a field of this type may have."""
    base, extras = strip(annotation)
    options = alternatives(base)
    kind = next(o for o in options if o is not type(None))
    low, high = next(((e.low, e.high) for e in extras if isinstance(e, Range)), (None, None))
    if typing.get_origin(kind) is Literal:
        out: st.SearchStrategy[Any] = st.sampled_from(typing.get_args(kind))
    elif typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        out = st.lists(values(Annotated[(item, *extras)] if extras else item, depth + 1), min_size=2, max_size=3).map(tuple)
    elif issubclass(kind, Part):
        out = anything(kind.part_kind, depth + 1)
    elif kind is bool:
        out = st.booleans()
    elif kind is int:
        out = st.integers(None if low in (None, -float("inf")) else int(low), None if high in (None, float("inf")) else int(high))
    elif kind is float:
        out = st.floats(low, high, allow_nan=False, allow_infinity=False)
    else:
        out = st.text()
    return out if type(None) not in options else out | st.none()


def anything(kind: str, depth: int = 0) -> st.SearchStrategy[Part]:
    """Any part of a kind, with any fields."""
    known = [name for name in names(kind) if name != "words" and (depth < 2 or name not in ("choice", "compose", "mixture"))]
    return st.sampled_from(known).map(lambda name: lookup(name, kind)).flatmap(lambda cls: fields(cls, depth))


def fields(cls: type[Part], depth: int) -> st.SearchStrategy[Part]:
    def make(chosen: dict[str, Any]) -> Part:
        for key, value in chosen.items():  # what fields must be to fit each other
            if key == "kernel_size":
                chosen[key] = value | 1
            if key == "times":
                chosen.update({key: tuple(sorted({1.0, *(v for v in value if v > 0)}, reverse=True)) if value else (), "steps": Sampler.steps})
            if key == "widths" and "groups" in chosen:
                chosen[key] = tuple((1 + v // chosen["groups"]) * chosen["groups"] for v in value)
        try:
            return cls(**chosen)
        except SpecError:
            assume(False)
            raise

    return st.fixed_dictionaries({f.name: values(a, depth) for f, a in registry._fields(cls)}).map(make)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.data())
def test_every_part_is_what_its_spec_and_its_table_build(kind, data):
    part = data.draw(anything(kind))
    assert build(spec(part), kind) == part
    assert build(table(part), kind) == part
    assert build(json.loads(json.dumps(table(part))), kind) == part
    assert build(tomllib.loads(tomli_w.dumps(table(part))), kind) == part
    assert build(part, kind) is part


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_parts_with_defaults_and_a_docstring(kind):
    assert kind in registry.kinds()
    for name in names(kind):
        cls = lookup(name, kind)
        assert registry.label(cls) == name
        assert cls.__doc__
        assert not cls.__doc__.startswith(cls.__name__ + "("), "the docstring dataclass makes up"
        if not any(field.required for field in schema(name, kind)):
            assert spec(build(name, kind)) == name


READ = {
    "gaussian-blur:sigma_px=8": GaussianBlur(8.0),
    " gaussian-blur : sigma_px = 2 ": None,
    "gaussian-blur:sigma_px=1e-5": GaussianBlur(1e-5),
    "gaussian-blur:sigma_px=1e+2": GaussianBlur(100.0),
    "gaussian-blur:sigma_px=1E+2,padding=circular": GaussianBlur(100.0, "circular"),
    "gaussian-blur:sigma_px=1e+2+noise": Compose((GaussianBlur(100.0), GaussianNoise())),
    "gaussian-blur:sigma_px=2+noise": Compose((GaussianBlur(2.0), GaussianNoise())),
    "gaussian-blur+mask+grey": Compose((GaussianBlur(), Mask(), Grey())),
    "noise:schedule=betas": GaussianNoise(Betas()),
    "noise:schedule=betas(steps=200,beta_max=0.02)": GaussianNoise(Betas(200, beta_max=0.02)),
    "noise:schedule=betas(steps=200)+grey": Compose((GaussianNoise(Betas(200)), Grey())),
    "noise:schedule=(betas(steps=7))": GaussianNoise(Betas(7)),
    'gaussian-blur:padding="circular"': GaussianBlur(padding="circular"),
    "recursive-blur:discrete=TRUE,routine=special-6": RecursiveBlur("special-6", discrete=True),
    "noise:": GaussianNoise(),
    "grey+(noise)": None,
    "compose:parts=(noise,grey)": Compose((GaussianNoise(), Grey())),
    "compose:parts=(noise(schedule=betas(steps=3)),grey)": Compose((GaussianNoise(Betas(3)), Grey())),
}


@pytest.mark.parametrize(("text", "part"), READ.items())
def test_reading(text, part):
    if part is None:
        assert message(text).startswith("cannot read")
    else:
        assert build(text) == part
        assert build(spec(part)) == part


def test_lists():
    for text in ("unet:widths=(64,96)", "unet:widths=( 64 , 96 ,)"):
        assert build(text, "backbone") == UNet(widths=(64, 96))
    assert build("unet:widths=8", "backbone") == UNet(widths=(8,))


def test_writing():
    assert spec(GaussianBlur()) == "gaussian-blur"
    assert spec(GaussianBlur(2.5)) == "gaussian-blur:sigma_px=2.5"
    assert spec(GaussianBlur(1e-7, "circular")) == "gaussian-blur:sigma_px=1e-07,padding=circular"
    assert spec(GaussianNoise(Betas(200, 1e-5))) == "noise:schedule=betas(steps=200,beta_min=1e-05)"
    assert spec(Compose((GaussianBlur(2.0), GaussianNoise(Linear()), Grey()))) == "gaussian-blur:sigma_px=2+noise:schedule=linear+grey"
    assert spec(RecursiveBlur(discrete=True)) == "recursive-blur:discrete=true"
    assert spec(UNet(widths=(8, 16))) == "unet:widths=(8,16)"
    assert spec(TACoS(12, order=2)) == "tacos:steps=12,order=2"


def test_a_composition_is_flat_however_it_is_made():
    a, b, c = Grey(), GaussianNoise(), Pixelate()
    assert Compose((a, Compose((b, c)))) == Compose((Compose((a, b)), c)) == build("grey+noise+pixelate")
    with pytest.raises(SpecError, match=r"compose\.parts is empty: give at least one degradation"):
        Compose(())


def test_a_composition_of_one_part_comes_back():
    part = Compose((Grey(),))
    assert build(table(part)) == part
    assert build(spec(part)) == part


def test_tables_hold_every_field_so_that_files_outlive_defaults():
    assert table(GaussianNoise(Betas(9))) == {
        "name": "noise",
        "schedule": {"name": "betas", "steps": 9, "beta_min": 1e-4, "beta_max": 0.02, "kind": "linear"},
    }


def test_toml_tables():
    text = """
        [degradation]
        name = "compose"
        [[degradation.parts]]
        name = "gaussian-blur"
        sigma_px = 2
        [[degradation.parts]]
        name = "noise"
        [degradation.parts.schedule]
        name = "betas"
        steps = 200
        [other]
        name = "noise"
        schedule = "betas:steps=200"
    """
    found = tomllib.loads(text)
    assert build(found["degradation"]) == Compose((GaussianBlur(2.0), GaussianNoise(Betas(200))))
    assert build(found["other"]) == GaussianNoise(Betas(200))
    assert "name" in found["degradation"], "the table is the caller's: it must not be emptied"


# --- what is said when it is wrong -----------------------------------------------------------------------

WRONG = {
    "gaussian-blur:sigma_px=2000": "gaussian-blur.sigma_px = 2000 lies outside [0, 1000] px",
    "gaussian-blur:sigma_px=-0.5": "gaussian-blur.sigma_px = -0.5 lies outside [0, 1000] px",
    "gaussian-blur:sigma_px=inf": "gaussian-blur.sigma_px = inf lies outside [0, 1000] px",
    "gaussian-blur:sigma_px=nan": "gaussian-blur.sigma_px is not a number (NaN)",
    "gaussian-blur:sigma_px=wide": "gaussian-blur.sigma_px = wide is not a number",
    "recursive-blur:steps=2.5": "recursive-blur.steps = 2.5 is not a whole number",
    "recursive-blur:discrete=maybe": "recursive-blur.discrete = 'maybe' is not bool",
    "recursive-blur:kernel_size=10": "recursive-blur.kernel_size = 10 is even: a centred kernel has an odd number of taps",
    "gaussian-blur:sigma=2": "gaussian-blur has no field 'sigma' (did you mean 'sigma_px'?); "
    "fields: sigma_px in [0, 1000] px, padding (reflect | circular), growth (exponential | sine), least in [0, 0.5]",
    "grey:level=2": "grey has no field 'level'; fields: it has none",
    "gaussian-blur:padding=reflct": "gaussian-blur.padding = reflct is unknown (did you mean 'reflect'?); choose one of reflect, circular",
    "noise:schedule=beta": "unknown schedule 'beta' (did you mean 'betas'?); known: betas, constant, cosine, geometric, karras, linear, ve. "
    "If it comes from a plug-in file, load that first (--plugin FILE, snowmelt.registry.load_plugin)",
    "gaussian-blur:sigma_px=1,sigma_px=2": "gaussian-blur.sigma_px is given twice in 'gaussian-blur:sigma_px=1,sigma_px=2'",
    "gaussian-blur:sigma_px": "cannot read 'sigma_px' in 'gaussian-blur:sigma_px': expected field=value",
    "noise:schedule=betas(steps=2": "unbalanced parentheses in 'noise:schedule=betas(steps=2'",
    "noise:schedule=betas)": "unbalanced parentheses in 'noise:schedule=betas)'",
    'gaussian-blur:padding="circular': "unbalanced quotes in 'gaussian-blur:padding=\"circular'",
    "": "cannot read '' as a degradation: expected name:field=value,field=value",
    "noise+": "cannot read '' as a degradation: expected name:field=value,field=value",
    "Noise": "cannot read 'Noise' as a degradation: expected name:field=value,field=value",
    "compose": "compose needs parts",
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
def test_messages(text, expected):
    assert message(text) == expected


def test_an_unknown_name_names_the_nearest_and_the_plug_in_door():
    said = message("gausian-blur")
    assert said.startswith("unknown degradation 'gausian-blur' (did you mean 'gaussian-blur'?); known: ")
    assert "compose" in said
    assert said.endswith("If it comes from a plug-in file, load that first (--plugin FILE, snowmelt.registry.load_plugin)")
    assert "did you mean" not in message("zzzzzzzz")


def test_an_unknown_name_can_be_taken_apart_and_sent_to_another_process():
    with pytest.raises(UnknownName) as told:
        build("noise:schedule=beta")
    for error in (told.value, pickle.loads(pickle.dumps(told.value))):  # noqa: S301 - our own
        assert (error.kind, error.name, error.nearest) == ("schedule", "beta", " (did you mean 'betas'?)")
        assert error.known == tuple(names("schedule"))
        assert str(error) == WRONG["noise:schedule=beta"]
    with pytest.raises(UnknownName) as told, described_by("model.json"):
        lookup("zzzzzzzz", "sampler")
    assert told.value.nearest == ""
    for error in (told.value, pickle.loads(pickle.dumps(told.value))):  # noqa: S301 - our own
        assert str(error).startswith("model.json: unknown sampler 'zzzzzzzz'; known: ")


def test_messages_for_tables_and_parts():
    assert message({"sigma_px": 2}) == "a degradation table needs a 'name'; got the keys ['sigma_px']"
    assert message({"name": "gaussian-blur", "sigma_px": "2"}) == "gaussian-blur.sigma_px = '2' is not float"
    assert message({"name": "gaussian-blur", "sigma_px": True}) == "gaussian-blur.sigma_px = True is not float"
    assert message({"name": "recursive-blur", "steps": 2.0}) == "recursive-blur.steps = 2.0 is not int"
    assert message(Linear()) == "'linear' is a schedule, but a degradation is needed here"
    assert message("unet:widths=(8,5000)", "backbone") == "unet.widths = 5000 lies outside [1, 4096]"
    assert message("unet:widths=()", "backbone").startswith("unet.widths = () must each be a multiple of")
    with pytest.raises(SpecError, match=r"^unknown kind 'degradatoin' \(did you mean 'degradation'\?\); kinds: .*schedule"):
        names("degradatoin")


def test_fields_are_checked_however_a_part_is_made():
    with pytest.raises(SpecError, match=r"^gaussian-blur\.sigma_px = 2000 lies outside \[0, 1000\] px$"):
        GaussianBlur(sigma_px=2000)
    with pytest.raises(SpecError, match=r"^noise\.schedule = 'cosine' is not schedule$"):
        GaussianNoise(schedule="cosine")
    blur = GaussianBlur(sigma_px=3)
    assert isinstance(blur.sigma_px, float), "a whole number becomes a float where one is due, so that equal parts are equal text"
    assert UNet(widths=[8, 16]) == UNet(widths=(8, 16))


def test_schema():
    sigma, padding, *_ = schema("gaussian-blur")
    assert sigma == registry.Field("sigma_px", "float", 8.0, False, Range(0, 1000, "px"), (), "standard deviation at t = 1")
    assert (padding.type, padding.choices, padding.default) == ("choice", ("reflect", "circular"), "reflect")
    (parts,) = schema("compose")
    assert (parts.required, parts.type, parts.default) == (True, "list of degradation", None)
    (schedule,) = schema(GaussianNoise)
    assert (schedule.type, schedule.default) == ("schedule", Cosine())
    widths = schema("unet", "backbone")[0]
    assert (widths.type, widths.range, widths.doc) == ("list of int", Range(1, 4096), "channels per level")
    assert schema(GaussianBlur(3)) == schema("gaussian-blur")


def test_ranges():
    assert str(Range(0, 1000, "px")) == "[0, 1000] px"
    assert str(Range(1e-7, 0.5)) == "[1e-07, 0.5]"
    assert 0 in Range(0, 1)
    assert 1 in Range(0, 1)
    assert 1.0001 not in Range(0, 1)
    assert 10**30 in Range()


# --- registering -----------------------------------------------------------------------------------------


def test_names_are_kebab_case_unique_and_have_a_kind(fresh):
    with pytest.raises(
        SpecError, match=r"^the degradation 'grey' is already registered by snowmelt\.degradations\.colour: choose another name$"
    ):
        register("grey")(GaussianBlur)
    for bad in ("Grey", "grey_scale", "-grey", "grey-", "a b", "", "grau:x", "grau+"):
        with pytest.raises(SpecError, match="is not a registry name"):
            register(bad)(GaussianBlur)
    with pytest.raises(SpecError, match="Part has no kind"):
        register("part")(Part)
    assert lookup("grey") is Grey


@dataclass(frozen=True)
class Words(Degradation):
    """A part whose fields are text, lists of text and numbers that may be missing."""

    word: str = "a"
    words: tuple[str, ...] = ("b",)
    number: int | None = 3
    other: float | None = None
    inner: Degradation = Grey()  # noqa: RUF009 - frozen

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x


TEXT = st.text(alphabet=st.characters(exclude_characters='"', exclude_categories=("Cs",)))


@pytest.fixture
def words(fresh):
    register("words")(Words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(TEXT, st.lists(TEXT, max_size=3), st.integers() | st.none(), st.floats(allow_nan=False) | st.none(), anything("degradation", 1))
def test_any_text_is_quoted_as_needed(words, word, more, number, other, inner):
    part = Words(word, tuple(more), number, other, inner)
    assert build(spec(part)) == part
    assert build(spec(Compose((part, Grey())))) == Compose((part, Grey()))
    assert build(spec(Words(inner=part))) == Words(inner=part)


def test_text_with_a_quote_comes_back(words):
    for word in ('"', 'a"b', '"a"'):
        assert build(spec(Words(word))) == Words(word)


def test_a_number_that_is_missing_comes_back_from_a_table(words):
    assert build(spec(Words(number=None))) == Words(number=None)
    assert build(table(Words(number=None))) == Words(number=None)


def test_an_unregistered_part_has_no_spec():
    with pytest.raises(SpecError, match=r"^Words is not registered, so it has no spec: decorate it with @register\('name'\)$"):
        spec(Words())


# --- plug-ins --------------------------------------------------------------------------------------------

SEPIA = (Path(__file__).parent / "plugins" / "my_sepia.txt").read_text(encoding="utf-8")


def test_a_plug_in_file_adds_a_degradation(fresh, tmp_path):
    from snowmelt.testing import check_degradation

    (tmp_path / "sepia.py").write_text(SEPIA)
    assert "sepia" not in names("degradation")
    module = registry.load_plugin(tmp_path / "sepia.py")
    assert registry.load_plugin(str(tmp_path / "sepia.py")) is module, "a second time is the first time"
    assert "sepia" in names("degradation")
    part = build("sepia:warmth=0.5+noise").parts[0]
    assert part == module.Sepia(0.5)
    assert spec(part) == "sepia:warmth=0.5"
    assert message("sepia:warmth=2") == "sepia.warmth = 2 lies outside [0, 1]"
    assert message("sepa").startswith("unknown degradation 'sepa' (did you mean 'sepia'?)")
    assert check_degradation(part)
    grey = torch.full((1, 3, 2, 2), 0.5)
    assert part(grey, torch.ones(1))[0, :, 0, 0].tolist() == pytest.approx([0.5 + 0.5 * 0.105, 0.5 - 0.5 * 0.075, 0.5 - 0.5 * 0.375])


def test_the_registry_is_clean_again():
    assert "sepia" not in names("degradation")
    assert "words" not in names("degradation")


def test_plug_ins_that_cannot_be_loaded(fresh, tmp_path):
    with pytest.raises(SpecError, match=r"plug-in file .*nothing\.py does not exist"):
        registry.load_plugin(tmp_path / "nothing.py")
    with pytest.raises(SpecError, match="plug-in 'no_such_module_of_mine' is neither a .py file nor a module"):
        registry.load_plugin("no_such_module_of_mine")
    (tmp_path / "broken.py").write_text("raise ZeroDivisionError('mine')")
    with pytest.raises(ZeroDivisionError, match="mine"):
        registry.load_plugin(tmp_path / "broken.py")


def test_a_plug_in_that_failed_half_way_can_be_mended_and_loaded(fresh, tmp_path):
    (tmp_path / "sepia.py").write_text(SEPIA + "\nraise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        registry.load_plugin(tmp_path / "sepia.py")
    (tmp_path / "sepia.py").write_text(SEPIA)
    registry.load_plugin(tmp_path / "sepia.py")
    assert "sepia" in names("degradation")


def test_a_module_can_be_a_plug_in():
    assert registry.load_plugin("snowmelt.schedules").Betas is Betas
