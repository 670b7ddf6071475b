"""The JSON messages: what is written can be read, and nothing that can be sent does harm."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct, inspect

from chatd import wire

REQUESTS: tuple[type[wire.Request], ...] = get_args(wire.AnyRequest)
ANSWERS: tuple[type[Struct], ...] = get_args(wire.AnyAnswer)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """What a field of this type may hold."""
    match kind:
        case inspect.StrType(min_length=least, max_length=most):
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=least or 0, max_size=most or 40)
        case inspect.IntType(ge=least, le=most):
            return st.integers(least if least is not None else -(2**53), most or 2**53)
        case inspect.BoolType():
            return st.booleans()
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.NoneType():
            return st.none()
        case inspect.ListType(item_type=item):
            return st.lists(values(item), max_size=3)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key), values(value), max_size=3)
        case inspect.UnionType(types=kinds):
            return st.one_of(*map(values, kinds))
        case inspect.StructType(cls=struct):
            return structs(struct)
    raise AssertionError(f"no values for {kind}")


def structs(kind: type[Struct]) -> st.SearchStrategy[Any]:
    """Messages of this kind."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return st.builds(kind, **{field.name: values(field.type) for field in info.fields})


requests = st.one_of(*map(structs, REQUESTS))
answers = st.one_of(*map(structs, ANSWERS))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
fields = sorted({field for kind in (*REQUESTS, *ANSWERS) for field in kind.__struct_encode_fields__})
types = sorted({str(kind.__struct_config__.tag) for kind in (*REQUESTS, *ANSWERS)})
#: Objects with the right fields, and whatever in them.
near_misses = st.fixed_dictionaries(
    {"type": st.sampled_from(types) | json_values}, optional=dict.fromkeys(fields, json_values)
).map(msgspec.json.encode)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Lines that were right, with some bytes changed."""
    line = bytearray(wire.encode(draw(requests | answers)))
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, len(line) - 1))
        line[where : where + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        line = line or bytearray(b"\n")
    return bytes(line)


lines = st.binary() | json_values.map(msgspec.json.encode) | near_misses | spoilt()


@given(requests)
def test_requests_come_back_as_they_were(request: wire.AnyRequest) -> None:
    assert wire.decode_request(wire.encode(request)) == request


@given(answers)
def test_answers_come_back_as_they_were(answer: wire.AnyAnswer) -> None:
    assert wire.decode_answer(wire.encode(answer)) == answer


@given(requests | answers)
def test_a_message_is_one_line(message: Struct) -> None:
    line = wire.encode(message)
    assert line.startswith(b"{")
    assert line.endswith(b"}\r\n")
    assert line.count(b"\n") == line.count(b"\r") == 1


@given(requests, st.dictionaries(texts, json_values, min_size=1, max_size=3))
def test_unknown_fields_are_ignored(request: wire.AnyRequest, extra: dict[str, Any]) -> None:
    new = {f"x-{name}": value for name, value in extra.items()}
    assert wire.decode_request(msgspec.json.encode({**new, **msgspec.to_builtins(request)})) == request


@given(lines)
@example(b'{"type":"say","id":"\xff","room":"lobby","text":"hola"}')
@example(b'{"id":"\xff"}')
@example(b'{"type":"a\\nb"}')
@example(b'{"type":"\\ud800"}')
@example(b"[" * 60_000)
@example(b'{"a":' * 12_000)
def test_nothing_that_is_sent_does_harm(line: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_answer):
        try:
            decoded = decode(line)
        except ValueError as error:
            assert str(error) or isinstance(error, wire.UnknownType)
        else:
            assert isinstance(decoded, Struct)
    id = wire.request_id(line)
    assert id is None or 1 <= len(id) <= 64


@given(requests)
def test_the_id_is_found_in_a_request_that_is_wrong(request: wire.AnyRequest) -> None:
    wrong = {**msgspec.to_builtins(request), "type": 5, "room": []}
    assert wire.request_id(msgspec.json.encode(wrong)) == request.id


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"5", b"{}", b'{"id":5}', b'{"id":""}', b'{"id":"' + b"x" * 65 + b'"}']
)
def test_what_is_no_id_is_not_repeated(line: bytes) -> None:
    assert wire.request_id(line) is None


@given(texts.filter(lambda type: type not in types))
def test_an_unknown_type_is_told_apart(type: str) -> None:
    line = msgspec.json.encode({"type": type})
    for decode in (wire.decode_request, wire.decode_answer):
        with pytest.raises(wire.UnknownType) as unknown:
            decode(line)
        assert str(unknown.value) == type


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hola", "not JSON: "),
        (b'{"type":"ping"', "not JSON: "),
        (b'["ping"]', "Expected `object`, got `array`"),
        (b'{"id":"1"}', "Object missing required field `type`"),
        (b'{"type":"say","id":"1","room":"lobby"}', "Object missing required field `text`"),
        (b'{"type":"say","room":"lobby","text":"hola"}', "Object missing required field `id`"),
        (b'{"type":"say","id":"1","room":5,"text":"hola"}', "Expected `str`, got `int` - at `$.room`"),
        (
            b'{"type":"join","room":"lobby","after":9007199254740993}',
            "Expected `int` <= 9007199254740992 - at `$.after`",
        ),
        (b'{"type":"join","room":"lobby","after":1.5}', "Expected `int | null`, got `float` - at `$.after`"),
        (b'{"type":"history","room":"lobby","limit":0}', "Expected `int` >= 1 - at `$.limit`"),
        (b'{"type":"say","id":"1","room":"lobby","text":"\xff"}', "not UTF-8: "),
    ],
)
def test_what_is_wrong_is_named(line: bytes, said: str) -> None:
    with pytest.raises(ValueError) as wrong:
        wire.decode_request(line)
    assert not isinstance(wrong.value, wire.UnknownType)
    assert str(wrong.value).startswith(said)


def test_what_is_not_there_takes_no_bytes() -> None:
    said = wire.Message("lobby", 1, "ana", "2026-11-22T14:05:00.000Z", "hola")
    assert wire.encode(said) == (
        b'{"type":"message","room":"lobby","seq":1,"name":"ana","at":"2026-11-22T14:05:00.000Z","text":"hola"}\r\n'
    )
    assert wire.encode(wire.Ping()) == b'{"type":"ping"}\r\n'
    assert b'"retry":false' in wire.encode(wire.Error("bad_room", "No.", False))


def test_each_type_has_one_meaning_in_each_direction() -> None:
    for kinds in (REQUESTS, ANSWERS):
        assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds)


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_rfc_3339(milliseconds: int) -> None:
    shown = wire.timestamp(milliseconds)
    assert len(shown) == len("2026-11-22T14:05:00.000Z")
    assert shown.endswith("Z")
    at = datetime.strptime(shown, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    whole = int(at.replace(microsecond=0).timestamp()) * 1000
    assert whole + at.microsecond // 1000 == milliseconds
