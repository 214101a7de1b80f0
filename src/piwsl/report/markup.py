"""HTML from templates, in which all text is escaped that is not said to be markup."""

from __future__ import annotations

import re

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

ENVIRONMENT = Environment(
    loader=PackageLoader("piwsl", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)

UNIT = re.compile(r"\([^()]+\)$")


def whole(title: str) -> Markup:
    """Return the title of a column, whose unit in brackets at the end is not broken between lines."""
    return Markup(UNIT.sub(r'<span class="unit">\g<0></span>', str(escape(title))))


def minus(number: str) -> str:
    """Return a number in digits with the sign for minus in place of a hyphen."""
    return number.replace("-", "−")


ENVIRONMENT.filters |= {"whole": whole, "minus": minus}


def render(template: str, **values: object) -> Markup:
    """Fill a template.

    Args:
        template: HTML with Jinja's marks: {{ name }}, {% for ... %}.
        values: by the names in the template; text is escaped, `Markup` is not.

    Returns:
        Markup, a string that another template takes as it is.

    Raises:
        jinja2.UndefinedError: the template names what it is not given.
    """
    return Markup(ENVIRONMENT.from_string(template).render(**values))


def page(**values: object) -> str:
    """Fill the page, template.html, which holds head, style and heading, and the sections one after another."""
    return ENVIRONMENT.get_template("template.html").render(**values)


def mean_and_spread(mean: float, spread: float) -> str:
    """Write a mean and its standard deviation, NaN of one value alone: two digits, none finer than the mean's third."""
    if np.isnan(spread):
        return rounded(mean, 3)
    finest = _decimals(mean, 3)
    shown = round(spread, min(_decimals(spread, 2), finest))
    # Of a spread that is there, "0.00" says how small it is.
    text = f"{0:.{max(finest, 0)}f}" if shown == 0.0 < spread else np.format_float_positional(shown, trim="-")
    return f"{rounded(mean, 3)} ± {text}"


def _decimals(value: float, digits: int) -> int:
    """Return the decimals of a number with so many significant digits; negative where it is large."""
    return digits - 1 - (int(np.floor(np.log10(abs(value)))) if value else 0)


def rounded(value: float, digits: int) -> str:
    """Write a number with so many significant digits, without an exponent where a reader of errors expects none."""
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")
