"""The documents: what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatd.settings import PARSERS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
#: Options of the server, and of what else is named in the documents.
OPTIONS = {*PARSERS, "port", "web", "trust-proxy", "no-log-messages", "help"}
#: How a heading becomes the target of a link.
NO_LINK = re.compile(r"[^\w\- ]")


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {NO_LINK.sub("", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_files_that_are_named_are_there(document: Path) -> None:
    named = re.findall(r"`((?:tests|chatd|etc|docs|benchmarks|twisted)/[\w./-]+)`", (ROOT / document).read_text())
    # `x.py` stands for any module.
    assert [name for name in named if not name.endswith("x.py") and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "docs/protocol.md", "docs/architecture.md"])
def test_the_options_of_the_server_that_are_named_are_there(document: str) -> None:
    named = re.findall(r'(?:`|ARGS=")--([a-z-]+)', (ROOT / document).read_text())
    assert named or document == "docs/architecture.md"
    assert set(named) <= OPTIONS
