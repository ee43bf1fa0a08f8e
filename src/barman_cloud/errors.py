"""Every error the program raises on purpose, and the exit code each one means.

::

    BarmanCloudError                 4
    ├── OperationError               1  the store answered, but what was asked can't be done
    │   ├── NotFoundError            1  a backup, a WAL file or an object isn't there
    │   │   └── ObjectNotFoundError  1  ... said by a store about one key
    │   ├── ConflictError            1  the name is taken by other content
    │   │   ├── ObjectExistsError    1  ... said by a store about a conditional create
    │   │   └── ObjectChangedError   1  ... said by a store: the object isn't the one that was read before
    │   ├── LockedError              1  retention or a legal hold forbids the deletion
    │   ├── UnsafeArchiveError       1  an archive member would leave the target directory
    │   └── HookStatusError         63  Barman's hook says that its backup isn't DONE
    ├── ConnectivityError            2  the store can't be reached: refused, DNS, TLS, time-out, 5xx after the retries
    ├── UsageError                   3  the command line (or a name on it) makes no sense
    └── UnexpectedError              4  everything else
        ├── ConfigurationError       4  URL, option combination, environment variable or credentials file
        ├── AccessDeniedError        4  the store refuses the credentials or the action
        ├── BucketNotFoundError      4  the bucket or container doesn't exist
        ├── StoreError               4  any other refusal of a store
        ├── IntegrityError           4  bytes aren't what they must be: checksum, truncated archive, bad header
        │   └── ObjectTooLargeError  4  an object that must be small isn't, and isn't read
        ├── SelectionError           4  a backup name or shortcut that matches nothing, or too much
        ├── SnapshotError            4  a machine, disk or mount isn't as a snapshot needs it, or its provider refuses
        ├── DrillError               4  this machine lacks what a drill needs: PostgreSQL, room, a user that isn't root
        ├── SpoolError               2  the spool directory can't be used; the commands go on without
        └── RecoveryAbortedError   130  wal-restore --abort-recovery-on-error; above 125, PostgreSQL stops recovery

A message is one line that names the object; ``hint`` says what to do next. Neither ever holds a secret.
A command may map a class to another code where the contract of the original commands says so (``cli/command.py``).
"""

from __future__ import annotations


class BarmanCloudError(Exception):
    """Base of the tree. ``str(error)`` is one line; ``hint`` is one line, or None."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(" ".join(message.split("\n")))
        self.hint = hint


class OperationError(BarmanCloudError):
    """The store answered, but what was asked can't be done."""

    exit_code = 1


class NotFoundError(OperationError):
    """A backup, a WAL file or an object isn't there."""


class ObjectNotFoundError(NotFoundError):
    """A store has no object of this key (and its bucket does exist, as far as the answer tells)."""


class ConflictError(OperationError):
    """The name is taken by other content."""


class ObjectExistsError(ConflictError):
    """A conditional create found an object of this key."""


class ObjectChangedError(ConflictError):
    """The object isn't the one that was read before (its ETag differs)."""


class LockedError(OperationError):
    """Retention or a legal hold forbids the deletion."""


class UnsafeArchiveError(OperationError):
    """An archive member would leave the target directory, or is of a kind that is never extracted."""


class HookStatusError(OperationError):
    """Barman's hook environment says that the backup isn't DONE; 63 tells its retry hook to stop."""

    exit_code = 63


class ConnectivityError(BarmanCloudError):
    """The store can't be reached: refused, DNS, TLS, time-out, or server errors after all retries."""

    exit_code = 2


class UsageError(BarmanCloudError):
    """The command line, or a name given on it, makes no sense."""

    exit_code = 3


class UnexpectedError(BarmanCloudError):
    """Everything that is none of the above."""

    exit_code = 4


class ConfigurationError(UnexpectedError):
    """A URL, a combination of options, an environment variable or a credentials file is wrong."""


class AccessDeniedError(UnexpectedError):
    """The store refuses the credentials, or the action for them."""


class BucketNotFoundError(UnexpectedError):
    """The bucket or container doesn't exist."""


class StoreError(UnexpectedError):
    """A store refused a request for another reason, or something else answered in its place."""


class IntegrityError(UnexpectedError):
    """Bytes aren't what they must be: a checksum, a truncated archive, a bad header."""


class ObjectTooLargeError(IntegrityError):
    """An object is larger than anything of its kind ever is, so it isn't read into memory."""


class SelectionError(UnexpectedError):
    """A backup name or shortcut matches nothing, or more than one backup."""


class SnapshotError(UnexpectedError):
    """A machine, disk or mount isn't as a disk snapshot needs it, or the provider of the disks refuses a request."""


class DrillError(UnexpectedError):
    """This machine lacks what a drill needs: PostgreSQL of the right version, room, a user that isn't root."""


class SpoolError(UnexpectedError):
    """The spool directory can't be created or used; ``wal-archive`` and ``wal-restore`` go on without one."""

    exit_code = 2


class RecoveryAbortedError(UnexpectedError):
    """``wal-restore`` failed and was asked to make PostgreSQL stop, not to take this for the end of the archive."""

    exit_code = 130
