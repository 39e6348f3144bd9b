"""Stands in for the name service: Google's names mean the fake's port on this machine, in this process."""

import socket

GOOGLES = ("googleapis.com", "prediction.vertexai.goog")
_ask = socket.getaddrinfo


def point_google_at(port):
    """From now on; returns what ends it."""

    def ask(host, asked_port, *rest, **options):
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.endswith(GOOGLES):
            return _ask("127.0.0.1", port, *rest, **options)
        return _ask(host, asked_port, *rest, **options)

    socket.getaddrinfo = ask
    return lambda: setattr(socket, "getaddrinfo", _ask)
