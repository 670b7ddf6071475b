"""The tables of a PostgreSQL store, made or brought up to date by the node that comes first."""

from __future__ import annotations

import secrets
from typing import Any

from chatd.interfaces import StoreUnusable
from chatd.stores.postgreslink import Link
from chatd.stores.schemas import schema
from chatd.stores.words import FOLD_VERSION

# "chat": two nodes that start at the same time change the tables one after the other.
_UPGRADE_LOCK = 0x63686174


def upgrade(link: Link) -> str:
    """Make the tables, or bring them up to date, and return the database's id.

    Raises StoreUnusable or psycopg.Error.
    """
    encoding = _value(link, "SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise StoreUnusable(
            f"The database is encoded in {encoding}: make one in UTF8, with createdb -E UTF8 -T template0"
        )
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(%s)", (_UPGRADE_LOCK,))
        _upgrade(link, schema("postgres"))
        _renew_index(link)
    return str(_value(link, "SELECT value FROM meta WHERE name = 'log'"))


def version(link: Link) -> int:
    """The version of the tables, 0 where there are none yet.

    Raises StoreUnusable where they are newer than this one knows; or psycopg.Error.
    """
    if _value(link, "SELECT to_regclass('meta')") is None:
        return 0
    found = int(_value(link, "SELECT value FROM meta WHERE name = 'version'") or 0)
    known = len(schema("postgres"))
    if found > known:
        raise StoreUnusable(
            f"The database is from a newer chatd (version {found} of the tables, "
            f"this one knows {known}): upgrade chatd"
        )
    return found


def _upgrade(link: Link, scripts: list[str]) -> None:
    for script in scripts[version(link) :]:
        link.execute(script)
    _set(link, "version", str(len(scripts)), "UPDATE SET value = excluded.value")
    _set(link, "log", secrets.token_hex(8), "NOTHING")


def _renew_index(link: Link) -> None:
    """Empty an index that an older `fold` made: it fills again behind the commits."""
    made_with = _value(link, "SELECT value FROM meta WHERE name = 'fold'")
    if made_with is not None and made_with >= FOLD_VERSION:  # or nodes of two versions would undo each other's
        return
    link.execute("TRUNCATE search")
    link.execute("UPDATE upkeep SET indexed = first - 1")
    _set(link, "fold", FOLD_VERSION, "UPDATE SET value = excluded.value")


def _set(link: Link, name: str, value: str, conflict: str) -> None:
    query = "INSERT INTO meta (name, value) VALUES (%s, %s) ON CONFLICT (name) DO "
    link.execute(query + conflict, (name, value))


def _value(link: Link, query: str) -> Any:
    row = link.execute(query).fetchone()
    return None if row is None else row[0]
