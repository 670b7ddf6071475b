"""The chat in a browser: a page, in static/, and the WebSocket behind it that speaks the JSON messages."""
