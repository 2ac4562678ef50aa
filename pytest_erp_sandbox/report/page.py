"""A report as a page: one file that needs nothing else, and in which nothing that a customer typed can run."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..progress import human_size
from ..summary import changes_in_words, human_age, human_time
from .charts import bars, changes_chart, resets_chart
from .content import Content

__all__ = ["page"]

_HERE = Path(__file__).parent

_LONG = 140
"""Characters of a value from which on it is folded."""

_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""What is not seen, or turns text around it about; lone surrogates, which no file can have."""

_QUOTED = re.compile(r'("[^"]*")')


def page(content: Content) -> str:
    """The page of a report."""
    css, script = (_HERE / "page.css").read_text(encoding="utf-8"), (_HERE / "page.js").read_text(encoding="utf-8")
    scenarios = [scenario for feature in content["features"] for scenario in feature["scenarios"]]
    rehearsals = [
        (number, scenario, rehearsal)
        for number, scenario in enumerate(scenarios, 1)
        for rehearsal in scenario["rehearsals"]
    ]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            **content,
            css=Markup(css),  # noqa: S704 - ours
            script=Markup(script),  # noqa: S704 - ours
            policy=(
                f"default-src 'none'; style-src {_digest(css)}; script-src {_digest(script)}; base-uri 'none';"
                " form-action 'none'"
            ),
            scenarios=scenarios,
            resets_chart=resets_chart(rehearsals),
            changes_chart=changes_chart(rehearsals),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": human_age,
        "bars": bars,
        "cell": _cell,
        "changed": changes_in_words,
        "size": human_size,
        "step": _step,
        "time": human_time,
        "when": lambda text: f"{datetime.fromisoformat(text).astimezone():%d %B %Y, %H:%M}",
    }
    return environment


def _visible(value: Any) -> Any:
    """Text as it is, but for what would not be seen, or would do something; everything is escaped after this."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _ODD.sub(lambda match: _name_of(ord(match[0])), value)
    return value


def _name_of(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def _cell(value: Any) -> dict[str, object]:
    """A value of a row, ready to be shown: what kind it is, its text, and of a long one the beginning."""
    if value is None:
        return {"kind": "null", "text": "NULL"}
    if isinstance(value, dict) and "redacted" in value:
        return {"kind": "redacted", "text": "redacted"}
    length = None
    if isinstance(value, dict):
        value, length = value["cut"], value["length"]
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text:
        return {"kind": "null", "text": "empty"}
    kind = "text" if isinstance(value, str) else "number"
    if len(text) > _LONG or text.count("\n") > 2:
        beginning = " ".join(text[: _LONG // 2].split())
        return {
            "kind": "long",
            "text": text,
            "beginning": f"{beginning}…",
            "length": length or len(text),
            "is_cut": length is not None,
        }
    return {"kind": kind, "text": text}


def _step(name: str) -> Markup:
    """A step's words, what is quoted in them set apart."""
    parts = _QUOTED.split(name)
    return Markup().join(
        Markup("<q>{}</q>").format(_visible(part)) if number % 2 else escape(_visible(part))
        for number, part in enumerate(parts)
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
