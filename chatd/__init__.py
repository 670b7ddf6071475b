"""chatd: a chat server that anybody runs with one command, and that never loses what somebody has seen.

A room is a log, and a member is a cursor in it. From the bottom up:

    errors          what can go wrong
    events          what can happen in a room
    names           what people, rooms and messages may be called and hold
    interfaces      the seams: a door, a member, a store, and the records that pass through them
    outages         what fails again and again is logged once
    rounds          work that is done again and again, whatever fails
    workers         the threads that call the store
    room            a room: its last number, its recent window, its members
    sessions        who is who: names, tokens, connections
    presence        who came and left, told at most once a second
    journal         group commit: a batch is on the disk before anybody sees it
    rooms           the rooms in memory, kept up with the store
    nodes           the other nodes of the chat, where several share a store
    admission       who gets in, and under which name
    hub             the rules, for every door
    health          whether a message could be kept now
    stores/         where the logs are: SQLite, PostgreSQL
    move            python -m chatd.move: takes a chat from one database to another
    maintenance     what is done beside the chat: the search index, retention, old sessions
    logfile         a file of lines that rotates and survives a full disk
    connectionlog   who connected, what was said, who left and why
    wire            the JSON messages, which server, web page and client share
    pipes           transports that take so much at once and no more
    outbox          the only writer to a member's transport: live, behind, catching up
    member          a connection that takes part
    jsonlines       the dialect of programs
    text            the dialect of people with nc
    framing         lines from bytes
    pacing          how fast a connection is read
    server          the TCP door: ChatProtocol and ChatFactory
    web/            the door for browsers: a page, its HTTP server, and its WebSocket
    listening       where a door listens
    systemd         tells systemd that the chat is ready
    settings        the options, from flags and environment, checked
    service         starts and stops the parts in their order
    tap             the twistd plugin: the only place that knows all parts
    client/         python -m chatd.client

The law of layers, which a test holds: each part imports those before it alone; the core (errors to hub) imports
no door, no store, no transport and no reactor; doors (server and web, and what they are made of) call the hub,
never a store, and the two dialects know nothing of each other; stores are blocking code without Twisted; the
client shares with the server what goes over the wire; the reactor is imported by tap and by the client's main
alone.
"""

__version__ = "0.1.0"
