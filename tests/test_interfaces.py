"""Whoever says that it implements an interface does."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from zope.interface import implementedBy
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyClass

import chatd
from chatd.interfaces import IDoor, IMember, ISharedStore, IStore


def declarations() -> Iterator[tuple[type, InterfaceClass]]:
    """The classes of chatd, each with the interfaces that it declares itself."""
    for module in pkgutil.walk_packages(chatd.__path__, "chatd."):
        if module.name != "chatd.client.__main__":
            for _, kind in inspect.getmembers(import_module(module.name), inspect.isclass):
                if kind.__module__ == module.name:
                    declared = set(implementedBy(kind)) - {
                        one for base in kind.__bases__ for one in implementedBy(base)
                    }
                    yield from ((kind, interface) for interface in declared)


DECLARATIONS = sorted(declarations(), key=str)


@pytest.mark.parametrize(
    ("kind", "interface"),
    DECLARATIONS,
    ids=[f"{kind.__name__}-{interface.__name__}" for kind, interface in DECLARATIONS],
)
def test_what_is_declared_is_there(kind: type, interface: InterfaceClass) -> None:
    assert verifyClass(interface, kind)


def test_the_seams_are_in_use() -> None:
    assert {IDoor, IMember, IStore, ISharedStore} <= {interface for _, interface in DECLARATIONS}
