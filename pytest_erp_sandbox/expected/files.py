"""Where expected changes are: beside the feature, a file for each scenario."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

__all__ = ["file_for"]

_PLAIN = re.compile(r"(?!(?:Con|Prn|Aux|Nul|Com[0-9]|Lpt[0-9])\Z)[A-Z][a-z0-9]*(?: [a-z0-9]+)*")
_LONGEST = 80


def file_for(feature_file: Path, scenario: str, example: str = "") -> Path:
    """Where a scenario's changes are expected: ``<feature>.changes/<scenario>.txt``, beside the feature.

    The file's name is safe on any file system; it has a digest of the scenario's and the example's names, unless these
    can be read from it, so that no two have the same file.
    """
    if not example and len(scenario) <= _LONGEST and _PLAIN.fullmatch(scenario):
        slug = scenario.lower().replace(" ", "-")
    else:
        plain = unicodedata.normalize("NFKD", f"{scenario} {example}").encode("ascii", "ignore").decode().lower()
        words = re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST].strip("-")
        # What has an underscore is never another one's name in full.
        slug = f"{words}_{hashlib.sha256(repr((scenario, example)).encode()).hexdigest()[:12]}"
    return feature_file.with_name(f"{feature_file.stem}.changes") / f"{slug}.txt"
