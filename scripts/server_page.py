"""The reference page of the server commands, made from their table."""

from __future__ import annotations

from collections.abc import Iterator

from barman_cloud.cli.server import registry
from barman_cloud.cli.server.main import Parser

_HEAD = """# Server commands

Made by `make docs` from the table of commands. `barman-cloud server COMMAND …` takes the words of Barman 3.20's
`barman COMMAND …`, with a server's name from the [configuration](configuration.md), and prints what that prints:
text, or with `-f json` the same JSON keys. So

```console
$ alias barman='barman-cloud server'
```

is a drop-in for a Barman server around object storage: streamed backups (`backup_method = postgres`), files of the
machine (`local-to-cloud`), disk snapshots (`snapshot`). [How to take one over](../how-to/from-barman-server.md).

The global options stand before the command, as with Barman: `-c FILE`, `-f json`, `-q`, `-d`, `--log-level LEVEL`,
`-v`.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | any failure: one line `ERROR: …` on stderr, or in `_ERROR` of the JSON object |
| 2 | a wrong command line; `check --nagios` that found something; `cloud-wal-restore` when the store can't be reached |

A backup is named by its id, its name, or a shortcut: `latest` (`last`), `oldest` (`first`), `latest-full`
(`last-full`), `latest-failed` (`last-failed`), `oldest-failed` (`first-failed`), for a restore also `auto`. `all`
stands for all active servers where several can be named; the failure of one doesn't stop the others.

## What is the same for all, and what differs

* **The bucket is the catalogue.** Lists, keeps and manifests are read from it at each call, so another host with the
  same configuration, and the stand-alone commands, see the same. Below `barman_home` there are only locks, caches and
  the spool of received WAL.
* Words, labels, keys and the order of lines are Barman's. Reasons of failures are our own, and hints stand behind
  them in brackets.
* A mistake in the configuration ends every command with file, line and the next step; Barman warns and takes a
  default.
* Options that mean nothing here are accepted with a WARNING that says why.

## Commands

| command | what it does | what differs, and why |
| --- | --- | --- |
"""


def _rows() -> Iterator[str]:
    for name, entry in sorted(registry.COMMANDS.items()):
        words = ", ".join(f"`{word}`" for word in (name, *entry.aliases))
        summary = entry.summary or "Not here."
        yield f"| {words} | {summary} | {entry.differs} |".replace("  ", " ")


def _options() -> Iterator[str]:
    for name, entry in sorted(registry.COMMANDS.items()):
        if entry.module == "refused":
            continue
        parser = Parser(prog=name)
        registry.functions(name)[0](parser)
        positionals = [action.dest for action in parser._actions if not action.option_strings]
        options = [action for action in parser._actions if action.option_strings and action.dest != "help"]
        yield ""
        yield f"### {name}"
        yield ""
        yield f"`barman-cloud server {' '.join([name, *(word.upper() for word in positionals)])}`"
        if options:
            yield ""
            yield "| option | meaning |"
            yield "| --- | --- |"
            for action in options:
                flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
                choices = "|".join(map(str, action.choices or ()))
                value = "" if action.nargs == 0 else action.metavar or choices or action.dest.upper()
                shown = f" `{value}`".replace("|", "\\|") if value else ""
                yield f"| {flags}{shown} | {(action.help or '').replace('%%', '%')} |"


def server_page() -> str:
    """Return the page: the table of commands, then the options of each."""
    return _HEAD + "\n".join([*_rows(), "", "## Options", *_options()]) + "\n"
