"""PgBouncer in front of a server: a real one where there is one, and what old ones answer to who wants to stream."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import accepts_connections, free_port, wait_for
from tests.support.postgres import PostgresServer
from tests.support.privileges import server_account


def has_old_pgbouncer() -> bool:
    """Whether there is a PgBouncer that passes no replication connections on, as later ones do."""
    program = shutil.which("pgbouncer")
    if program is None:
        return False
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", shown)
    return found is not None and (int(found[1]), int(found[2])) < (1, 23)


@contextlib.contextmanager
def pgbouncer(server: PostgresServer, directory: Path, mode: str) -> Iterator[int]:
    """Run a PgBouncer in front of the server, and return its port."""
    directory.mkdir()
    port = free_port()
    (directory / "users").write_text('"postgres" ""\n')
    (directory / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {directory}/users\n"
        f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n"
    )
    server_account().own(directory)
    program = shutil.which("pgbouncer")
    assert program
    process = subprocess.Popen(server_account().command([program, directory / "ini"]), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: accepts_connections(port), what="PgBouncer to answer")
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def old_pgbouncer() -> Iterator[int]:
    """Listen, and answer as PgBouncer before 1.23 does to a replication connection (its text, its error code)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:  # it is closed
                    return
                with client, contextlib.suppress(OSError):
                    _answer(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
            thread.join(10)


def _answer(client: socket.socket) -> None:
    while True:
        head = client.recv(8, socket.MSG_WAITALL)
        if len(head) < 8:
            return
        size, code = struct.unpack("!II", head)
        client.recv(size - 8, socket.MSG_WAITALL)
        if code not in (80877103, 80877104):  # SSLRequest, GSSENCRequest
            break
        client.sendall(b"N")
    fields = b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0"
    client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
