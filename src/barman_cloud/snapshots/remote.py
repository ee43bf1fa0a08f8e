"""Another machine's devices and mounts, looked at over ssh.

A small shell script prints what ``mounts.Host`` reads: the mount table, the links of ``/dev``, names and serial numbers
of block devices, and where their controllers are. Here it becomes a tree below a temporary directory. Nothing is
installed on the machine, and nothing there is changed.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path, PurePosixPath

from barman_cloud.errors import ConfigurationError, SnapshotError
from barman_cloud.snapshots.mounts import Host

_SECONDS = 60
_ROOMS = frozenset(("sys", "dev", "proc"))
_SCRIPT = r"""cd / || exit 1
while IFS= read -r line; do printf 'M\t%s\n' "$line"; done < proc/self/mountinfo
for block in sys/block/*; do
  [ -e "$block" ] || continue
  printf 'D\t%s\n' "$block"
  for part in "$block"/*/partition; do [ -e "$part" ] && printf 'F\t%s\t1\n' "$part"; done
  [ -e "$block/device" ] || continue
  place=$(cd "$block/device" && pwd -P) || continue
  place=${place#"$(pwd -P)"}; place=${place#/}
  printf 'P\t%s/device\t%s\n' "$block" "$place"
  [ -r "$place/serial" ] && printf 'F\t%s/serial\t%s\n' "$place" "$(head -n 1 "$place/serial")"
  while [ "$place" != "${place%/*}" ]; do
    [ -r "$place/device_id" ] && printf 'F\t%s/device_id\t%s\n' "$place" "$(head -n 1 "$place/device_id")"
    place=${place%/*}
  done
done
for class in sys/class/block/*; do [ -e "$class" ] && printf 'D\t%s\n' "$class"; done
for link in dev/sd* dev/xvd* dev/hd* dev/disk/azure/scsi1/* dev/disk/azure/data/by-lun/* dev/disk/by-id/google-*; do
  [ -L "$link" ] && printf 'L\t%s\t%s\n' "$link" "$(readlink "$link")"
done
exit 0
"""


def look_at(ssh_command: str, directory: Path) -> Host:
    """Return the machine that ``ssh_command`` (such as ``ssh postgres@db1``) reaches, as a tree in ``directory``.

    ``ConfigurationError`` for a command that can't be run, ``SnapshotError`` if it fails or answers something else.
    """
    try:
        words = shlex.split(ssh_command)
        answer = subprocess.run(
            [*words, _SCRIPT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a command line"
        raise ConfigurationError(
            f"ssh_command '{ssh_command}' can't be run: {reason}", hint="write for example ssh postgres@HOST"
        ) from None
    except subprocess.TimeoutExpired:
        raise SnapshotError(
            f"ssh_command '{ssh_command}' gave no answer in {_SECONDS} s",
            hint="try it by hand; it must not ask for a password",
        ) from None
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise SnapshotError(
            f"ssh_command '{ssh_command}' failed: {said}", hint="try it by hand; it must not ask for a password"
        )
    _rebuild(answer.stdout, directory, ssh_command)
    return Host(directory, remote=True)


def _rebuild(text: str, root: Path, ssh_command: str) -> None:
    mounts = []
    for line in text.splitlines():
        kind, _, rest = line.partition("\t")
        if kind == "M":
            mounts.append(rest)
            continue
        name, _, value = rest.partition("\t")
        path = root / _inside(name, ssh_command)
        if kind == "D":
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "F":
            path.write_text(value, errors="surrogateescape")
        elif kind == "L":
            path.symlink_to(value)
        elif kind == "P":
            place = root / _inside(value, ssh_command)
            place.mkdir(parents=True, exist_ok=True)
            path.symlink_to(place)
        else:
            raise SnapshotError(f"ssh_command '{ssh_command}' answered something else: {line[:80]!r}")
    if not mounts:
        raise SnapshotError(f"ssh_command '{ssh_command}' answered nothing", hint="does it run what it is given?")
    table = root / "proc/self/mountinfo"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(f"{mount}\n" for mount in mounts), errors="surrogateescape")


def _inside(name: str, ssh_command: str) -> PurePosixPath:
    """Return a path of the answer, which must stay below the tree."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] not in _ROOMS:
        raise SnapshotError(f"ssh_command '{ssh_command}' answered a path that can't be: {name[:80]!r}")
    return path
