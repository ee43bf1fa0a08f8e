"""Running programs as an unprivileged user when we are root, because PostgreSQL refuses to run as root.

Two ways, tried in this order:

* ``setuid``: become the user of PostgreSQL (or ``nobody``), if that user can reach Python and this project at all.
* ``namespace``: a user namespace in which root appears as that user. Files that root owns stay usable, so it also works
  when Python or the clone is below a private directory such as ``/root``; no capability is kept.

Without root nothing is changed. The module is also a program: ``privileges.py SIGNAL METHOD UID GID COMMAND...`` asks
the kernel for SIGNAL when its parent ends (0: don't), steps down and becomes the command, so the process keeps its pid.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Account:
    """The user that servers run as; ``method`` is ``none``, ``setuid`` or ``namespace``."""

    method: str
    uid: int
    gid: int

    def command(self, argv: Sequence[str | os.PathLike[str]], *, parent_death_signal: int = 0) -> list[str]:
        """Return ``argv`` prefixed so that it runs as this user.

        With ``parent_death_signal`` the process gets that signal when the thread that starts it ends, so that a killed
        test run leaves no servers behind.
        """
        arguments = [os.fspath(argument) for argument in argv]
        if self.method == "none" and not parent_death_signal:
            return arguments
        place = [str(int(parent_death_signal)), self.method, str(self.uid), str(self.gid)]
        return [sys.executable, "-I", "-S", __file__, *place, *arguments]

    def own(self, path: Path) -> Path:
        """Hand ``path`` and what is in it to this user; needed after root created files for it."""
        if self.method != "none":
            # In the user namespace root's files are this user's, but not those that root gave to its number.
            owner = (self.uid, self.gid) if self.method == "setuid" else (os.geteuid(), os.getegid())
            os.chown(path, *owner)
            for directory, folders, files in os.walk(path):
                for name in folders + files:
                    os.chown(os.path.join(directory, name), *owner, follow_symlinks=False)
        return path


UNCHANGED = Account("none", os.geteuid(), os.getegid())
"""The user that we are, root or not; object stores and the like run so."""


@functools.cache
def server_account() -> Account:
    """Return the account that servers must run as here; RuntimeError if root has no way to step down."""
    if os.geteuid() != 0:
        return UNCHANGED
    user = _unprivileged_user()
    for method in ("setuid", "namespace"):
        account = Account(method, user.pw_uid, user.pw_gid)
        if _works(account):
            return account
    raise RuntimeError(
        f"running as root, and user {user.pw_name} can neither read {sys.executable} and {PROJECT} nor be entered "
        "through a user namespace: run as an ordinary user, or install where others can read"
    )


def storing_account() -> Account:
    """Return the account by which our commands store what servers read and write as well.

    That is the servers' own, except in a user namespace, where root's files are theirs.
    """
    return UNCHANGED if server_account().method == "namespace" else server_account()


def account_of(uid: int) -> Account:
    """Return an account with any numeric uid and no name, by the method that works here; root only."""
    return Account(server_account().method, uid, uid)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("running as root, and there is no user postgres, nobody or daemon to step down to")


def _works(account: Account) -> bool:
    # psycopg brings shared libraries along, so that it shows whether those can be reached too.
    probe = f"import os, psycopg, barman_cloud; os.listdir({str(PROJECT)!r}); assert os.geteuid() == {account.uid}"
    done = subprocess.run(account.command([sys.executable, "-c", probe]), capture_output=True, cwd="/")
    return done.returncode == 0


def _step_down(method: str, uid: int, gid: int) -> None:
    if method == "setuid":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        return
    if method == "none":
        return
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces aren't allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1")


def main(arguments: Sequence[str]) -> None:
    """Step down, then become the command."""
    signal, method, uid, gid, *command = arguments
    _step_down(method, int(uid), int(gid))
    if int(signal):
        # After stepping down, because a change of user clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
