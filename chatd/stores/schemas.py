"""The tables of each kind of store: files of SQL, one a version, run in order and never changed."""

from __future__ import annotations

import re
from importlib import resources


def schema(kind: str) -> list[str]:
    """The scripts for a kind of store, such as `sqlite`; the one at [n] brings version n to n + 1."""
    folder = resources.files("chatd.stores")
    names = sorted(file.name for file in folder.iterdir() if re.fullmatch(rf"{kind}-\d+\.sql", file.name))
    return [folder.joinpath(name).read_text("utf-8") for name in names]
