"""A key of the config that holds one of several kinds of sections, found by name."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import pytest
from helpers import distribution
from pydantic import TypeAdapter, create_model

from piwsl.config.section import ConfigError, OneOf, Section, parse_kind, parse_section
from piwsl.registry import Registry

SHAPES = """
from pydantic import Field
from piwsl.config.section import Section

class Shape(Section):
    shape: str
    colour: str = "red"

class Rim(Section):
    width: float = 1.0

class Circle(Shape):
    \"\"\"All points at one distance.\"\"\"
    shape: str = "circle"
    radius: float = Field(1.0, gt=0)
    rim: Rim = Rim()

class Square(Shape):
    side: float

class Alien(Section):
    pass

class Round(Shape):
    shape: str = "round"
"""
USABLE = "circle = shapes:Circle\nsquare = shapes:Square"
ENTRIES = {
    "shapes_of_tests": f"{USABLE}\nalien = shapes:Alien\nbroken = nowhere:Broken\nround = shapes:Round",
    "usable_shapes_of_tests": USABLE,
}


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """The module of an installed distribution that brings shapes."""
    monkeypatch.syspath_prepend(distribution(tmp_path, "shapes", SHAPES, ENTRIES))
    monkeypatch.delitem(sys.modules, "shapes", raising=False)
    return importlib.import_module("shapes")


@pytest.fixture
def one_of(shapes) -> OneOf[Any]:
    return OneOf(Registry("shapes_of_tests", shapes.Shape), "shape", "circle")


def section(shapes, one_of: OneOf[Any]) -> type[Section]:
    """A section with shapes by name."""
    held = Annotated[shapes.Shape, one_of]
    return create_model("Drawing", __base__=Section, figures=(dict[str, held], {}))


def test_the_key_says_of_which_kind_a_section_is(shapes, one_of):
    drawing = section(shapes, one_of)
    found = drawing.model_validate({"figures": {"a": {"shape": "square", "side": 2.0}, "b": {}}})

    assert found.figures == {"a": shapes.Square(shape="square", side=2.0), "b": shapes.Circle()}
    assert drawing(figures=found.figures) == found, "sections that are made already stay"


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"shape": "sqare"}, "figures.x.shape: no shape 'sqare'; did you mean 'square'?"),
        ({"shape": "xyz"}, "figures.x.shape: no shape 'xyz'; known are alien, broken, circle, round, square"),
        ({"shape": ["a"]}, "figures.x.shape: no shape '['a']'; known are alien, broken, circle, round, square"),
        ({"shape": "square"}, "figures.x.side: this key is missing"),
        ({"shape": "square", "side": "2"}, "figures.x.side: input should be a valid number, found '2'"),
        ({"radius": -1.0}, "figures.x.radius: input should be greater than 0, found -1.0"),
        ({"rim": {"width": "w"}}, "figures.x.rim.width: input should be a valid number, found 'w'"),
        ({"radus": 1.0}, "figures.x: unknown key 'radus'; did you mean 'radius'?"),
        ({"shape": "square", "radius": 1.0}, "figures.x: unknown key 'radius'; known are colour, shape, side"),
        (3, "figures.x: expected keys and values, found 3"),
        ({"shape": "round"}, "figures.x.shape: Round gives 'shape' a default, which is not for it to say"),
        ({"shape": "alien"}, "figures.x.shape: shapes 1.0: shapes:Alien is no Shape of piwsl's; mend its entry point"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_key(shapes, one_of, figure, message):
    with pytest.raises(ConfigError) as raised:
        parse_section(section(shapes, one_of), {"figures": {"x": figure}}, "f.yaml")

    assert str(raised.value) == f"f.yaml: {message}"


def test_a_kind_that_cannot_be_loaded_names_its_distribution(shapes, one_of):
    with pytest.raises(ConfigError, match=r"^f.yaml: shape: shapes 1.0 brings .* 'broken', which cannot be loaded"):
        parse_kind(one_of, {"shape": "broken"}, "f.yaml")


def test_without_a_default_the_key_must_be_there(shapes, one_of):
    with pytest.raises(ConfigError, match=r"^f.yaml: shape: this key is missing; known are alien, broken, circle,"):
        parse_kind(OneOf(one_of.registry, "shape"), {}, "f.yaml")


@pytest.mark.parametrize("figure", [{}, {"radius": 2.0}, {"rim": {"width": 2.0}}, {"shape": "square", "side": 1.0}])
def test_what_is_dumped_is_read_again(shapes, one_of, figure):
    drawing = section(shapes, one_of)
    found = drawing.model_validate({"figures": {"x": figure}})

    assert found.beyond_defaults() == {"figures": {"x": figure}}
    assert drawing.model_validate(found.beyond_defaults()) == found
    assert drawing.model_validate(found.plain()) == found
    assert found.plain()["figures"]["x"]["colour"] == "red"


def test_the_schema_of_editors_knows_every_kind(shapes):
    usable = Registry("usable_shapes_of_tests", shapes.Shape)
    schema = TypeAdapter(Annotated[shapes.Shape, OneOf(usable, "shape", "circle")]).json_schema()

    assert schema["discriminator"]["mapping"] == {"circle": "#/$defs/Circle", "square": "#/$defs/Square"}
    circle, square = schema["$defs"]["Circle"], schema["$defs"]["Square"]
    assert (circle["properties"]["shape"]["const"], square["properties"]["shape"]["const"]) == ("circle", "square")
    assert "shape" not in circle.get("required", []), "the default kind need not be named"
    assert sorted(square["required"]) == ["shape", "side"]
