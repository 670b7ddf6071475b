"""The twistd plugin: makes the parts from the options. The only place that knows all of them."""

from __future__ import annotations

import os
from typing import cast

from twisted.application.service import IService
from twisted.internet import reactor as _reactor

from chatd import logfile
from chatd.connectionlog import ConnectionLog
from chatd.health import Health
from chatd.hub import Hub
from chatd.hub import Settings as HubSettings
from chatd.interfaces import IStore, StoreUnusable
from chatd.listening import CannotListen, Ports
from chatd.maintenance import Maintenance
from chatd.member import Context
from chatd.outbox import Turns
from chatd.server import ChatFactory, Limits
from chatd.service import ChatService, IChatReactor
from chatd.settings import Options, fail
from chatd.stores import open_store
from chatd.web.door import WebFactory
from chatd.web.peers import Proxies
from chatd.web.site import Site
from chatd.workers import WorkerThreads

__all__ = ["Options", "makeService"]

reactor = cast(IChatReactor, _reactor)


def makeService(options: Options) -> IService:
    """Make the chat. What can go wrong at the start is tried now, while somebody sees what is said of it."""
    log = ConnectionLog(
        os.path.abspath(options["log"]), options["log-format"], messages=not options["no-log-messages"]
    )
    store = _store(options)
    workers = WorkerThreads(reactor)
    hub = Hub(store, reactor, workers, _hub_settings(options), log.said)
    context = Context(hub, reactor, Turns(reactor), log, options["motd"], options["history"])
    limits = Limits(options["max-clients"], options["rate"])
    door = ChatFactory(context, limits)
    web = WebFactory(context, limits, patience=options["stall-timeout"])
    site = Site(web, Health(hub.journal, store, reactor), Proxies(options["trust-proxy"]), reactor)
    ports = [
        Ports(reactor, options.origin("port"), options["port"], door, options["stall-timeout"]),
        Ports(reactor, options.origin("web"), options["web"], site, options["stall-timeout"], pages=True),
    ]
    maintenance = Maintenance(hub, store, reactor, options["retain"])
    try:
        logfile.check(options["log"])
        for each in ports:
            each.open()
    except (OSError, CannotListen) as error:
        raise fail(str(error)) from None
    return ChatService(reactor, store, hub, workers, log, maintenance, [door, web], ports)


def _store(options: Options) -> IStore:
    """The store, opened once to see whether it can be; nothing of that survives a daemon's fork."""
    db = options["db"]
    try:
        store = open_store(db if "://" in db else os.path.abspath(db))
        store.open()
    except StoreUnusable as error:
        raise fail(str(error)) from None
    store.close()
    return store


def _hub_settings(options: Options) -> HubSettings:
    return HubSettings(
        grace=options["grace"],
        session_days=options["session-days"],
        max_rooms=options["max-rooms"],
        password=options["password-file"],
    )
