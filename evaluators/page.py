"""One HTML file that holds everything it shows: what the reports of all kinds of runs share.

Their templates extend page.html.j2, whose colours follow the reader's light or dark.
"""

from __future__ import annotations

import base64
import datetime
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from PIL import Image

THUMBNAIL = 320  # pixels of the longer side; larger only costs megabytes


def uri(data: bytes, kind: str) -> str:
    """A picture as an address that needs no file; kind: png, jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def photo(image: np.ndarray) -> str:
    """uint8 [H, W, 3] -> data URI of a JPEG thumbnail."""
    picture = Image.fromarray(image)
    if max(picture.size) > THUMBNAIL:
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=84, optimize=True)
    return uri(buffer.getvalue(), "jpeg")


def brief(value: float) -> str:
    """Three digits of whatever a curve shows: 2.54, 0.000301, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_page(
    path: str | pathlib.Path, template: str, *, facts: Mapping[str, Any], **values: Any
) -> pathlib.Path:
    """Fills a template of this folder; returns the path.

    facts: name -> text; `subtitle`, `date`, `machine`, `signature` have their own places, the
    others are listed, those of several lines folded (`start-up` open).
    """
    page = _template(template).render(**_placed(facts), **values)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed: a reader never meets half a page.
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, path)
    return path


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["brief"] = brief
    return environment.get_template(name)


def _placed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with a place of their own on the page, short ones, and those of several lines."""
    facts = {key: str(value) for key, value in facts.items()}
    own = {key: facts.pop(key, "") for key in ("subtitle", "machine", "signature", "date")}
    own["machine"] = own["machine"] or facts.get("devices", "")
    own["date"] = own["date"] or datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    short = {key: value for key, value in facts.items() if "\n" not in value}
    return {"own": own, "short": short, "long": {k: v for k, v in facts.items() if k not in short}}
