"""HTML pages from Jinja templates, which escape every value that is not marked as safe."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

# how data for the scripts of a page is written
JSON = {"separators": (",", ":"), "allow_nan": False, "ensure_ascii": False}


def render(template: str, *packages: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        template: File name.
        packages: Packages whose folder `assets` holds it and what it includes; the first match counts.
        values: Variables of the template. `asset(name)` is the text of another file there.
    """
    loader = ChoiceLoader([PackageLoader(package, "assets") for package in packages])
    page = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.policies["json.dumps_kwargs"] = JSON
    page.filters["json"] = partial(json.dumps, ensure_ascii=False)
    page.globals["asset"] = lambda name: loader.get_source(page, name)[0]
    return page.get_template(template).render(values)
