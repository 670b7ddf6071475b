"""`twistd chat`. The service itself is in `chatd.tap`."""

from twisted.application.service import ServiceMaker

chat = ServiceMaker("chatd", "chatd.tap", "A chat server that never loses what somebody has seen.", "chat")
