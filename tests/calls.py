"""The calls by which tests run use cases without a server."""

from servicekit.audit.model import Call

TESTER = Call("tests.Service/Call", "tester", "loopback")
