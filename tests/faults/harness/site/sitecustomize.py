"""Disturbs the process that it is loaded into at one file operation; Python imports it at start from PYTHONPATH.

``BARMAN_CLOUD_DISTURB`` holds a JSON object:

``root``      only operations on files below this directory count
``process``   ``main`` or ``background``: in which process of a command
``event``     number of the operation, from 1 on; 0 disturbs nothing
``action``    a signal such as ``KILL``, or an error such as ``ENOSPC``
``after``     the signal comes when the operation is done
``lasting``   the error comes again at every later operation of its kind, as a full disk does
``trace``     a file that gets one line for each operation

Only module-level functions of ``os`` and ``open`` are replaced, which is what the commands' own code calls. Writes of
PostgreSQL's or obstore's native code don't pass here.
"""

import builtins
import errno
import io
import json
import os
import signal
import sys
import threading

WRITES = ("write", "pwrite", "truncate", "ftruncate")
NAMES = ("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir")
SYNCS = ("fsync", "fdatasync")
READS = ("listdir", "scandir", "pread", "read")
LASTING = {
    "ENOSPC": ("write", "pwrite", "mkdir", "open", "link", "symlink"),
    "EDQUOT": ("write", "pwrite", "mkdir", "open", "link", "symlink"),
    "EROFS": ("write", "pwrite", "open", *NAMES, "truncate", "ftruncate"),
    "EIO": (*WRITES, *SYNCS, *READS, "open"),
    "EMFILE": ("open", "scandir", "listdir"),
    "ENOMEM": ("open", "read", "pread", "mkdir"),
    "EACCES": ("open", *NAMES),
}
"""Which operations a condition of the machine makes fail."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Disturbance:
    """Counts the operations and strikes at the chosen one."""

    def __init__(self, order: dict) -> None:
        self.root = os.path.realpath(order["root"])
        self.event = order.get("event", 0)
        self.action = order.get("action", "KILL")
        self.after = order.get("after", False)
        self.lasting = order.get("lasting", False)
        self.trace = order.get("trace")
        self.count = 0
        self.struck = False
        self.lock = threading.RLock()
        self.inside = threading.local()
        self.plain = {name: getattr(os, name) for name in ("open", "write", "close", "readlink")}

    def path_of(self, target, dir_fd=None):
        """Return the path that an operation is about, if it is below the root."""
        try:
            if isinstance(target, int):
                path = self.plain["readlink"](f"/proc/self/fd/{target}")
            else:
                path = os.fsdecode(target)
                if not os.path.isabs(path):
                    folder = os.getcwd() if dir_fd is None else self.plain["readlink"](f"/proc/self/fd/{dir_fd}")
                    path = os.path.join(folder, path)
        except (OSError, TypeError, ValueError):
            return None
        path = os.path.normpath(path)
        return path if path == self.root or path.startswith(self.root + os.sep) else None

    def call(self, name, function, target, dir_fd, arguments, options):
        if getattr(self.inside, "yes", False):
            return function(*arguments, **options)
        path = self.path_of(target, dir_fd)
        if path is None:
            return function(*arguments, **options)
        self.inside.yes = True
        try:
            with self.lock:
                self.count += 1
                hit = self.count == self.event
                self._note(name, path)
                if hit or (self.struck and self.lasting):
                    self._strike_before(name, path, hit)
            result = function(*arguments, **options)
        finally:
            self.inside.yes = False
        if hit and self.after:
            self._signal()
        return result

    def _strike_before(self, name, path, hit):
        if not self.action.startswith("E"):
            if hit and not self.after:
                self._signal()
            return
        if name in LASTING[self.action]:
            self.struck = True
            code = getattr(errno, self.action)
            raise OSError(code, os.strerror(code), path)
        if hit:
            self.event += 1  # an operation that this condition doesn't touch: strike at the next one

    def _signal(self):
        os.kill(os.getpid(), getattr(signal, f"SIG{self.action}"))

    def _note(self, name, path):
        if self.trace:
            line = f"{self.count} {name} {os.path.relpath(path, self.root)}\n".encode("utf-8", "surrogateescape")
            file = self.plain["open"](self.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self.plain["write"](file, line)
            self.plain["close"](file)


def _replace(module, name, disturbance, counts=lambda arguments, options: True):
    function = getattr(module, name)

    def replaced(*arguments, **options):
        if not counts(arguments, options):
            return function(*arguments, **options)
        dir_fd = options.get("dir_fd", options.get("src_dir_fd"))
        target = arguments[0] if arguments else options.get("path", ".")
        return disturbance.call(name, function, target, dir_fd, arguments, options)

    replaced.__name__ = name
    setattr(module, name, replaced)


def _is_write(arguments, options):
    mode = arguments[1] if len(arguments) > 1 else options.get("mode", "r")
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def _install(order):
    background = any(argument == "barman_cloud.cli.wal_background" for argument in sys.orig_argv)
    if order.get("process", "main") != ("background" if background else "main"):
        return
    disturbance = Disturbance(order)
    for name in (*WRITES, *NAMES, *SYNCS, *READS):
        _replace(os, name, disturbance)
    errors = order.get("action", "").startswith("E")
    _replace(os, "open", disturbance, lambda a, o: errors or bool(a[1] & _WRITING if len(a) > 1 else False))
    for module in (builtins, io):
        _replace(module, "open", disturbance, lambda a, o: errors or _is_write(a, o))


if "BARMAN_CLOUD_DISTURB" in os.environ:
    _install(json.loads(os.environ["BARMAN_CLOUD_DISTURB"]))
