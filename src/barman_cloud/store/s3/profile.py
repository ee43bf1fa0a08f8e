"""The files of the AWS command line: ``~/.aws/config`` and ``~/.aws/credentials``.

Read here and not by botocore, whose import alone takes longer than archiving a WAL segment. Format: AWS SDKs and Tools
Reference Guide, "Shared config and credentials files".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.environment import clean


class Profile(NamedTuple):
    """The settings of one profile; those of the credentials file win. Nested sections have dotted names (``s3.…``)."""

    name: str
    chosen: bool
    """An option named it, so keys in the environment don't count."""
    settings: Mapping[str, str] = MappingProxyType({})
    services: Mapping[str, str] = MappingProxyType({})
    """The ``services`` section that it refers to, with names such as ``s3.endpoint_url``."""

    def __repr__(self) -> str:
        return f"Profile({self.name!r})"  # its settings may be secrets

    def get(self, name: str) -> str | None:
        return clean(self.settings.get(name, ""), f"{name} of the AWS profile {self.name}") or None

    def endpoint_url(self, service: str) -> str | None:
        name = f"{service}.endpoint_url"
        return clean(self.services.get(name, ""), f"{name} of the AWS configuration") or self.get("endpoint_url")


def load_profile(environ: Mapping[str, str], option: str | None) -> Profile:
    """Return the profile named by ``option``, ``AWS_PROFILE``, ``AWS_DEFAULT_PROFILE``, or ``default``.

    Raises ``ConfigurationError`` when a profile that was named isn't there, or a file can't be parsed. The default
    profile may be missing, and then it is empty.
    """
    named = option or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    config_file = _file(environ, "AWS_CONFIG_FILE", "config")
    credentials_file = _file(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config = _read(config_file)
    sections = {_section_name(section): values for section, values in config.items()}
    credentials = _read(credentials_file).get(name)
    found = sections.get(("profile", name))
    if found is None and credentials is None:
        if named is not None:
            raise ConfigurationError(
                f"AWS profile {name} doesn't exist", hint=f"looked in {config_file} and {credentials_file}"
            )
        return Profile(name, chosen=False)
    settings = {**(found or {}), **(credentials or {})}
    services = sections.get(("services", settings.get("services", "")), {})
    return Profile(name, option is not None, settings, services)


def _file(environ: Mapping[str, str], variable: str, name: str) -> str:
    text = environ.get(variable) or f"{environ.get('HOME', '')}/.aws/{name}"
    return text.replace("~", environ.get("HOME", "~"), 1) if text.startswith("~/") else text


def _section_name(section: str) -> tuple[str, str]:
    """Tell ``[profile x]`` from ``[services x]``; names may be quoted."""
    if section == "default":
        return "profile", "default"
    try:
        import shlex

        words = shlex.split(section)
    except ValueError:
        words = []
    return (words[0], words[1]) if len(words) == 2 else ("", section)


def _read(path: str) -> dict[str, dict[str, str]]:
    """Return the sections of a file; nothing for a file that isn't there or may not be read, as the AWS tools do."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: can't be read ({error})") from error
    import configparser

    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise ConfigurationError(
            f"{path}: isn't a configuration file of AWS ({error.message.splitlines()[0]})"
        ) from error
    return {section: _flatten(dict(parser.items(section))) for section in parser.sections()}


def _flatten(values: dict[str, str]) -> dict[str, str]:
    """Turn ``s3 =`` followed by indented ``name = value`` lines into ``s3.name``."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if not value.startswith("\n"):
            flat[name] = value
            continue
        for line in value.strip().splitlines():
            inner, separator, text = line.partition("=")
            if separator:
                flat[f"{name}.{inner.strip()}"] = text.strip()
    return flat
