"""HTML from templates, in which all text is escaped that is not said to be markup."""

from __future__ import annotations

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

ENVIRONMENT = Environment(
    loader=PackageLoader("piwsl", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


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


def rounded(value: float, digits: int) -> str:
    """Write a number with so many significant digits, without an exponent where a reader of errors expects none."""
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")
