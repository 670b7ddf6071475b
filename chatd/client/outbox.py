"""What the client has asked and the server has not answered yet, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from chatd import wire

#: At most so many requests are under way at a time.
WINDOW = 64
#: A person is told to wait, and a pipe is not read, while so many requests are in the outbox.
FULL = 5_000

R = TypeVar("R", bound=wire.Request)


class Outbox:
    """Requests by their ids, in the order in which they were made.

    A request stays until it is answered. `due` hands out those to be sent, so many that no more than a window
    is under way. The window shrinks when the server says that it is asked too fast, and grows with receipts.
    What is asked waits until all that was said before it is kept, so that its answer takes that into account.
    `answered` counts the answers.
    """

    def __init__(self, requests: Iterable[wire.Request] = ()) -> None:
        self._requests: dict[str, wire.Request] = {}
        self._under_way: set[str] = set()
        self._window = WINDOW
        self.answered = 0
        for request in requests:
            self.put(request)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[wire.Request]:
        return iter(tuple(self._requests.values()))

    @property
    def full(self) -> bool:
        """Whether whoever makes requests should wait."""
        return len(self._requests) >= FULL

    def put(self, request: wire.Request) -> None:
        """Append a request, which must have an id of its own."""
        assert request.id is not None
        self._requests[request.id] = request

    def get(self, key: str | None) -> wire.Request | None:
        """The request with this id, which stays."""
        return None if key is None else self._requests.get(key)

    def take(self, key: str | None) -> wire.Request | None:
        """Remove the request with this id and return it; None where there is none."""
        if key is None or (request := self._requests.pop(key, None)) is None:
            return None
        self._under_way.discard(key)
        self.answered += 1
        return request

    def due(self) -> list[wire.Request]:
        """The requests to send now, in order; they count as under way from here on."""
        found: list[wire.Request] = []
        said = False
        for key, request in self._requests.items():
            said = said or isinstance(request, wire.Say)
            if key in self._under_way:
                continue
            if len(self._under_way) >= self._window or (said and not isinstance(request, (wire.Say, wire.Join))):
                break
            self._under_way.add(key)
            found.append(request)
        return found

    def again(self, key: str) -> None:
        """The request was not carried out: `due` hands it out again, at its old place."""
        self._under_way.discard(key)

    def cut(self) -> None:
        """The connection is lost: nothing is under way."""
        self._under_way.clear()

    def slow_down(self) -> None:
        """Have half as much under way."""
        self._window = max(1, self._window // 2)

    def speed_up(self) -> None:
        """Have one more under way."""
        self._window = min(WINDOW, self._window + 1)

    def of(self, kind: type[R]) -> list[R]:
        """The requests of one kind, in order."""
        return [request for request in self._requests.values() if isinstance(request, kind)]
