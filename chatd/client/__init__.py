"""The client: `python -m chatd.client HOST`.

options      the command line
__main__     puts the parts together; the only place that imports the reactor; exit codes
app          what happens between connection, session and screen: leaving, waiting for receipts, giving up
session      the pure heart: token, rooms, outbox; eats answers, makes requests and things to show
cursors      where it is in each log
outbox       what is asked and not answered yet, in order
commands     what begins with a slash
completion   the Tab key
state        what outlives the process, on disk
connection   the socket: lines of JSON, reconnecting, noticing a dead line
trouble      why a connection failed, in a sentence
show         how things look
face         what the next two have in common
terminal     the screen of a person (prompt_toolkit)
plain        standard input and output without one (Twisted's stdio)

`session`, `outbox`, `commands` and `show` know no reactor, no socket and no terminal.
"""
