"""Forms: every part's fields as controls, and back to a spec."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import pytest

gr = pytest.importorskip("gradio")

from snowmelt import registry  # noqa: E402
from snowmelt.degradations import Degradation, Morph  # noqa: E402
from snowmelt.registry import Range, SpecError, build, register, schema, spec  # noqa: E402
from snowmelt.studio.page import forms  # noqa: E402
from snowmelt.studio.page.forms import Form, needs_spec, pictured, span, spec_of, values_of  # noqa: E402

SIMPLE = [name for name in pictured() if not needs_spec(name)]
MADE_OF_OTHERS = [name for name in pictured() if needs_spec(name)]


def on_a_page(*told: object, **named: object) -> Form:
    """A form, made inside a running loop: gradio leaves one open where there is none."""

    async def made() -> Form:
        with gr.Blocks():
            return Form(*told, **named)

    return asyncio.run(made())


def other(field: registry.Field) -> object:
    """A value that is not the default."""
    if field.type == "bool":
        return not field.default
    if field.choices:
        return field.choices[-1]
    bounds = span(field)
    if bounds is not None:
        near = round(bounds.low + 2 * bounds.step, 10)
        return near if near != field.default else bounds.high
    return {"schedule": "ve:sigma_max=0.3", "int or none": "7"}[field.type]


def test_what_pictures_can_be_given_to_is_there_and_nothing_else() -> None:
    assert {"gaussian-blur", "noise", "snow", "morph", "jpeg", "compose", "mixture", "choice"} <= set(pictured())
    assert not {"low-pass", "reverberation", "beam-drop", "fog", "clipping"} & set(pictured())
    assert MADE_OF_OTHERS == ["choice", "compose", "mixture"]


@pytest.mark.parametrize("name", SIMPLE)
def test_the_form_of_a_part_says_the_part(name: str) -> None:
    part = build(name)
    assert spec_of(name, values_of(part)) == spec(part)


@pytest.mark.parametrize("name", SIMPLE)
def test_every_field_that_is_changed_in_a_form_is_changed_in_the_spec_and_comes_back(name: str) -> None:
    values = [other(field) for field in schema(name)]
    made = spec_of(name, values)
    part = build(made)
    assert spec_of(name, values_of(part)) == made == spec(part)
    changed = [field.name for field in schema(name) if getattr(part, field.name) != field.default]
    assert changed == [field.name for field in schema(name)]


def test_a_value_that_the_part_refuses_is_refused_in_the_words_of_the_registry() -> None:
    values = values_of(build("recursive-blur"))
    values[1] = 10
    with pytest.raises(SpecError, match=r"kernel_size") as error:
        spec_of("recursive-blur", values)
    with pytest.raises(SpecError) as said:
        build("recursive-blur:kernel_size=10")
    assert str(error.value) == str(said.value)
    with pytest.raises(SpecError, match=r"gaussian-blur\.sigma_px = 2000 lies outside \[0, 1000\] px"):
        spec_of("gaussian-blur", [2000, "reflect", "exponential", 0])
    with pytest.raises(SpecError, match="unknown schedule 'cosin'"):
        spec_of("noise", ["cosin"])


@pytest.mark.parametrize("name", SIMPLE)
def test_sliders_lie_within_their_range_and_hold_the_default(name: str) -> None:
    for field in schema(name):
        bounds = span(field)
        if bounds is None:
            continue
        assert field.range is not None
        assert field.range.low <= bounds.low <= field.default <= bounds.high <= field.range.high
        assert 0 < bounds.step <= (bounds.high - bounds.low) / 3
        ticks = (field.default - bounds.low) / bounds.step
        assert ticks == pytest.approx(round(ticks), abs=1e-6), "the default lies on a tick"


def test_numbers_of_a_slider_carry_no_rounding() -> None:
    assert spec_of("gaussian-blur", [0.1 + 0.2, "reflect", "exponential", 0]) == "gaussian-blur:sigma_px=0.3"
    assert spec_of("pixelate", [4.0]) == "pixelate:levels=4"


def test_parts_within_parts_are_text_of_a_spec_with_or_without_its_fields() -> None:
    assert spec_of("noise", ["ve:sigma_max=0.5"]) == spec_of("noise", ["(ve(sigma_max=0.5))"]) == "noise:schedule=ve(sigma_max=0.5)"
    assert values_of(Morph(registry.build("linear", "schedule"))) == ["linear"]


@dataclass(frozen=True)
class Plugin(Degradation):
    """A part as a plug-in would have it."""

    amount: Annotated[float, Range(0, 1), "how much"] = 0.5
    free: Annotated[float, "no range"] = 2.0
    word: str = "a, b"
    sizes: Annotated[tuple[int, ...], Range(1, 9)] = (1, 2)
    lowest: Annotated[float, Range(-5, 5, "dB")] = 0.0

    def degrade(self, x, t, z):
        return x * (1 - t * self.amount)


def test_a_plug_in_gets_its_form_from_its_fields() -> None:
    register("studio-test")(Plugin)
    assert "studio-test" in pictured()
    assert values_of(Plugin()) == [0.5, "2", "a, b", "(1,2)", 0.0]
    changed = Plugin(0.25, 3.5, 'say "hi", you', (3, 4, 5), -1.0)
    assert build(spec_of("studio-test", values_of(changed))) == changed
    form = on_a_page(["grey", "studio-test"], shown="studio-test")
    assert [type(control).__name__ for control in form.controls] == ["Slider", "Textbox", "Textbox", "Textbox", "Slider"]
    with pytest.raises(SpecError, match=r"studio-test\.sizes = 12 lies outside"):
        form.spec("studio-test", [0.5, "2", "x", "(12)", 0.0])


def test_a_form_shows_one_part_at_a_time_and_is_filled_within_its_sliders() -> None:
    form = on_a_page(SIMPLE, shown="gaussian-blur")
    assert [group.visible for group in form.groups] == [name == "gaussian-blur" for name in SIMPLE]
    shown = [update["visible"] for update in form.show("jpeg")]
    assert shown == [name == "jpeg" for name in SIMPLE]
    assert not any(update["visible"] for update in form.show("grey"))  # it has no fields
    values = form.fill(build("gaussian-blur:sigma_px=700,padding=circular"))
    assert form.spec("gaussian-blur", values) == "gaussian-blur:sigma_px=32,padding=circular"
    assert all(value == gr.skip() for value in form.fill(build("grey+jpeg")))


def test_what_ends_before_its_range_says_how_far_that_goes() -> None:
    field = schema("gaussian-blur")[0]
    assert forms._info(field) == "standard deviation at t = 1; in px; up to 1000 in the spec"
