"""The reference page of configuration keys, made from the table of keys."""

from __future__ import annotations

from collections.abc import Iterator

from barman_cloud.config import kinds
from barman_cloud.config.barman_keys import BARMAN_KEYS
from barman_cloud.config.keys import Key
from barman_cloud.config.own_keys import OWN_KEYS
from barman_cloud.config.reader import SEARCH_PATH

_FORMS = {
    kinds.boolean: "on or off",
    kinds.integer: "number",
    kinds.natural: "number from 0",
    kinds.positive: "number from 1",
    kinds.size: "size (`500Mi`, `30Gi`)",
    kinds.age: "age (`3 DAYS`)",
    kinds.words: "list, separated by commas",
    kinds.tags: "`key=value, key=value`",
    kinds.absolute_path: "path",
    kinds.slot_name: "letters, digits and `_`",
    kinds.location: "URL or path",
    kinds.http_url: "URL",
    kinds.schedule: "five fields, as in crontab",
    kinds.time_zone: "time zone",
    kinds.retention_policy: "policy",
    kinds.compression_level: "low, medium, high or a number",
    kinds.text: "text",
}
_SCOPES = {"G": "`[barman]`", "S": "server", "M": "model"}

_HEAD = f"""# Configuration

Made by `make docs` from the table of keys. The umbrella command `barman-cloud` reads Barman's own configuration: an INI
file, `-c FILE` or else the first of {", ".join(f"`{name}`" for name in SEARCH_PATH)} that
exists. The nine `barman-cloud-*` programs never read it.

`barman-cloud COMMAND SERVER` takes URL and options from the section of that name, and runs its
[hook scripts](../how-to/hook-scripts.md). `barman-cloud cron` does what is
[scheduled](../how-to/scheduled-maintenance.md).
Keys of Barman's that have no effect here are in the last table, with the reason; `barman-cloud check SERVER` names
those that are set. `barman-cloud check all` checks every server that is active.

* `[barman]` holds what is common; every other section is a server, or, with `model = true` and `cluster = NAME`, a
  model: a set of values that `config-switch` lays over those of a server of that cluster.
  `configuration_files_directory` names a directory with more files (`*.conf`) of servers and models.
* The value of a server counts before that of `[barman]`, a word on the command line before both.
* Without a configuration, `BARMAN_CLOUD_URL` is the URL: `barman-cloud COMMAND SERVER`. With or without one,
  `BARMAN_CLOUD_SERVER` is the server where the line has one word less than the command needs:
  `barman-cloud backup-list`, `barman-cloud restore latest DIRECTORY`.
* A mistake stops every command: an unknown key, a key in the wrong kind of section, a value or URL that isn't
  understood, a section that is there twice. The message names file and line. Barman warns and goes on with a default;
  a bucket that it takes for a directory is the worst of them.
* `${{ENV:NAME}}` in a value stands for an environment variable, `${{FILE:/path}}` for the content of a file: for
  passwords. A file that holds a password itself and can be read by others is warned of.
* Sizes count as Barman's do: `k`, `M`, `G`, `T` are powers of 1000, `Ki`, `Mi`, `Gi`, `Ti` powers of 1024.
"""


def configuration_page() -> str:
    """Return the page."""
    obeyed = [key for key in BARMAN_KEYS if key.unused is None]
    lines = [_HEAD, "## Barman's keys", "", *_table(obeyed), "", "## Our own keys", ""]
    lines += [
        "Barman warns of these and goes on.",
        "",
        *_table(OWN_KEYS),
        "",
        "## Barman's keys without effect here",
        "",
    ]
    lines += ["They may stay in the file; `check` names those that are set.", "", "| key | why |", "| --- | --- |"]
    lines += [f"| `{key.name}` | {key.unused} |" for key in BARMAN_KEYS if key.unused is not None]
    return "\n".join(lines) + "\n"


def _table(keys: tuple[Key, ...] | list[Key]) -> Iterator[str]:
    yield "| key | in | value | default | meaning | option |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for key in keys:
        scopes = ", ".join(_SCOPES[letter] for letter in key.scope)
        meaning = key.meaning.replace("|", "\\|")
        yield f"| `{key.name}` | {scopes} | {_form(key)} | {_default(key)} | {meaning} | {_option(key)} |"


def _form(key: Key) -> str:
    if key.kind in _FORMS:
        return _FORMS[key.kind]
    try:
        key.kind("\0")
    except ValueError as error:
        return str(error).partition("is not one of ")[2]
    raise AssertionError(f"{key.name}: a kind of value that this page doesn't know")


def _default(key: Key) -> str:
    if key.default is None:
        return ""
    if isinstance(key.default, bool):
        return "on" if key.default else "off"
    if key.kind is kinds.size:
        return f"{key.default >> 30}Gi"
    return f"`{key.default}`"


def _option(key: Key) -> str:
    return f"`{key.option}`" if key.option else ""
