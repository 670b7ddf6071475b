"""What is the same in every store: which drafts of a batch are repeats, and how much makes a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from chatd.events import Message
from chatd.interfaces import Draft, Kept

Ident = tuple[str, int, str]


class Stored(Struct, frozen=True):
    """What a store holds under an id. `text` is None where retention has removed it."""

    seq: int
    at: int
    text: str | None
    action: bool


def ident(draft: Draft) -> Ident:
    """What makes a draft the same as another one: its room, session and id."""
    return draft.room, draft.session, draft.id


def keep_new(
    drafts: Sequence[Draft], stored: Mapping[Ident, Stored], keep: Callable[[list[Draft]], list[Kept]]
) -> list[Kept]:
    """Give those drafts to `keep` that are neither stored nor repeat another one of the batch.

    One Kept a draft comes back, in their order.
    """
    new: dict[Ident, Draft] = {}
    for draft in drafts:
        if ident(draft) not in stored:
            new.setdefault(ident(draft), draft)
    numbered = dict(zip(new, keep(list(new.values())), strict=True))
    known = dict(stored)
    answers = []
    for draft in drafts:
        key = ident(draft)
        if key in known:
            answers.append(_repeat(draft, known[key]))
        else:
            answers.append(numbered[key])
            known[key] = Stored(numbered[key].seq, numbered[key].at, draft.text, draft.action)
    return answers


def _repeat(draft: Draft, first: Stored) -> Kept:
    if first.text is None:
        return Kept(first.seq, draft.at, new=False)
    return Kept(first.seq, first.at, new=False, same=(first.text, first.action) == (draft.text, draft.action))


def within(messages: Iterable[Message], max_bytes: int) -> Iterator[Message]:
    """The first messages, up to so many bytes of UTF-8 text, but one at least. One more is read at most."""
    for count, message in enumerate(messages):
        max_bytes -= len(message.text) if message.text.isascii() else len(message.text.encode())
        if max_bytes < 0 and count:
            return
        yield message
