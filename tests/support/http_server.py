"""The HTTP server that our small servers of tests are made of."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class HttpServer(ThreadingHTTPServer):
    """Takes no notice of clients that go away, which clients of faulty stores do; it would print a trace for each."""

    request_queue_size = 128
    """Connections that wait to be accepted; of more than these, clients would try again after a second or more."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)
