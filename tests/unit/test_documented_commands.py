"""Every command line of ours in the documentation is one that our parsers take, and alerts ask for our metrics."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from barman_cloud.cli.command import load
from barman_cloud.cli.commands import PROGRAMS, SUMMARIES
from barman_cloud.cli.completion import SHELLS
from barman_cloud.cli.lines import judge
from barman_cloud.cli.server import registry
from barman_cloud.cli.server.main import Parser
from barman_cloud.config.kinds import schedule
from barman_cloud.errors import BarmanCloudError
from barman_cloud.verify import render
from barman_cloud.verify.check import check
from barman_cloud.verify.limits import Limits
from tests.support.documented import PAGES, RUN, SHELL, blocks, blocks_of, name_of
from tests.support.scenes import VARIANTS, run_pages
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment

PROJECT = Path(__file__).parents[2]
PAGES_RUN = set(run_pages())
LANGUAGES = ("console", "sh", "bash", "shell", "ini", "yaml")
NAMES = "|".join(PROGRAMS)
PROGRAM = re.compile(rf"""(?<![\w.*-])(?P<quote>["']?)(?:/[\w./-]*/)?(?P<name>barman-cloud(?:-(?:{NAMES}))?)(?= )""")
ENDS = ("&&", "||", "|", ";", "&", "#")
WAL = "000000010000000000000042"
SERVER_METRICS = frozenset(
    {
        "archiver_ready_segments",
        "archiver_lag_seconds",
        "archiver_lag_bytes",
        "wal_bytes_per_second",
        "pg_wal_free_bytes",
        "pg_wal_seconds_until_full",
    }
)
"""What ``check`` measures on a server; tests/integration/test_check_server.py sees them on a real one."""
ALERTS = PROJECT / "docs" / "how-to" / "barman-cloud-alerts.yml"


def lines_of(page: Path) -> Iterator[str]:
    """Yield the logical lines of a page's blocks that may hold commands; of a console only what is typed."""
    for block in blocks(page):
        language, body = block.language, block.body
        if language not in LANGUAGES:
            continue
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            if language == "console" and not re.match(r"\s*[$#>] ", line):
                continue
            if not (language in ("ini", "yaml") and line.strip().startswith("#")):
                yield re.sub(r"^\s*[$>] ", "", line)


def commands_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield program and words of each call of ours."""
    for line in lines_of(page):
        for found in PROGRAM.finditer(line):
            rest = line[found.end() :]
            before = line[: found.start()]
            if re.search(r"--[a-z-]+[ =]$", before):
                continue  # the value of an option
            quote = found["quote"] or next((mark for mark in "'\"" if before.count(mark) % 2), "")
            if quote:
                rest = rest.partition(quote)[0] if "\\" + quote not in rest else rest
            words = []
            lexer = shlex.shlex(rest, posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            for word in lexer:
                if word in ENDS or set(word) <= set("&|;<>"):
                    break
                words.append(word)
            yield found["name"], words


def problem(name: str, words: list[str]) -> str | None:
    """Return what our parsers say against a call; None if they take it."""
    if name == "barman-cloud":
        while words[:1] in (["-c"], ["--config"]):
            words = words[2:]
        if not words or words[0] in ("--help", "--version", "-V", "COMMAND", "help"):
            return None
        if words[0] == "completion":
            return None if words[1:] and set(words[1:]) <= set(SHELLS) else "no shell"
        if words[0] == "server":
            return problem_of_server_command(words[1:])
        command, words = words[0], words[1:]
    else:
        command = name.removeprefix("barman-cloud-")
    if command not in SUMMARIES:
        return f"there is no command {command}"
    if "--help" in words or "--version" in words:
        return None
    words = [word.replace("%p", WAL).replace("%f", WAL) for word in words]
    wrong, args = judge(command, words)
    is_hook = command == "wal-archive" and wrong is None and args.wal_path is None  # Barman names the file
    if wrong is None and not is_hook and (validate := load(command).validate):
        try:
            validate(args)
        except BarmanCloudError as error:
            return str(error)
    if wrong and not any("://" in word or word.startswith(("$", "URL")) for word in words):
        if command == "backup-delete":
            words = ["-r", "REDUNDANCY 1", *words]  # as the configuration says
        wrong, _ = judge(command, ["s3://bucket", *words])  # by name: the URL is that of the configuration
        if wrong:
            wrong, _ = judge(command, [*words[:-1], "s3://bucket", *words[-1:]])
    return wrong


def problem_of_server_command(words: list[str]) -> str | None:
    """Return what the parsers of Barman's words say against a call; None if they take it."""
    if not words:
        return None  # in an alias
    name = registry.find(words[0])
    if name is None:
        return f"there is no server command {words[0]}"
    if not words[1:] or words[1:] == ["…"]:
        return None  # the command is spoken of
    parser = Parser(exit_on_error=False)
    registry.functions(name)[0](parser)
    try:
        parser.parse_args([word for word in words[1:] if word != "…"])
    except (argparse.ArgumentError, SystemExit) as error:
        return str(error)
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_understood(page: Path) -> None:
    wrong = [(name, words, why) for name, words in commands_of(page) if (why := problem(name, words))]
    assert wrong == []


def containers_of(page: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the resource and the pod of each container in the page's YAML, which has to be YAML."""
    bodies = [block.body for block in blocks(page) if block.language == "yaml"]
    for resource in (found for body in bodies for found in yaml.safe_load_all(body)):
        if isinstance(resource, dict) and "apiVersion" in resource:
            assert {"kind", "metadata", "spec"} <= set(resource), resource
            spec = resource["spec"]
            template = (
                spec["jobTemplate"]["spec"]["template"] if resource["kind"] == "CronJob" else spec.get("template")
            )
            if template:
                yield resource, template["spec"]


def test_the_examples_for_kubernetes_hold_together() -> None:
    kinds = []
    for page in PAGES:
        for resource, pod in containers_of(page):
            kinds.append(resource["kind"])
            if resource["kind"] == "CronJob":
                assert pod["restartPolicy"] in ("Never", "OnFailure")
                assert schedule(resource["spec"]["schedule"])
                assert resource["spec"]["concurrencyPolicy"] in ("Allow", "Forbid", "Replace")
            claims = [claim["metadata"] for claim in resource["spec"].get("volumeClaimTemplates", ())]
            volumes = {volume["name"] for volume in [*pod.get("volumes", ()), *claims]}
            for container in pod["containers"]:
                assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes, page
                words = [*container.get("command", ()), *container["args"]]
                assert all(isinstance(word, str) for word in words), words
                if words[0] == "barman-cloud":
                    assert problem("barman-cloud", words[1:]) is None, words
    assert kinds.count("CronJob") >= 2


def test_enough_lines_were_found() -> None:
    found = [command for page in PAGES for command in commands_of(page)]
    assert len(found) > 100
    assert {name for name, _ in found} >= {f"barman-cloud-{name}" for name in ("backup", "restore", "wal-archive")}
    assert problem("barman-cloud", ["backup-list", "--nonsense", "s3://b", "main"]) is not None
    assert problem("barman-cloud", ["nonsense"]) is not None


def metrics() -> str:
    """Return what ``check --prometheus`` writes about a server with one backup."""
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    full = backup("20261126T030000", segment(2), end_xlog="0/2000100", xlog_segment_size=16 << 20, systemid="7")
    catalog = fill(memory_catalog(), [full], [segment(2)])
    return render.prometheus([check(catalog.store, catalog.layout, Limits(), now=now)])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed (it is in Debian's prometheus)")
def test_promtool_takes_the_alerts_and_the_metrics(tmp_path: Path) -> None:
    def promtool(*words: str | Path, given: str = "") -> tuple[int, str]:
        done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, told = promtool("check", "rules", ALERTS)
    assert (code, re.findall(r"SUCCESS: (\d+) rules", told)) == (0, [str(len(alert_rules()))]), told
    assert promtool("check", "metrics", given=metrics()) == (0, "")
    broken = tmp_path / "broken.yml"
    broken.write_text(ALERTS.read_text().replace("time()", "time(", 1))
    assert promtool("check", "rules", broken)[0] != 0


FIRING = {
    # What a series is in each of 3000 minutes, and when the alert has been firing.
    "BarmanCloudBackupTooOld": ({"newest_backup_time_seconds": "0x3000"}, "1600m", "1560m"),
    "BarmanCloudNoBackup": ({"backups": "0x3000"}, "121m", "100m"),
    "BarmanCloudWalTooOld": ({"check_time_seconds": "0+60x3000", "newest_wal_time_seconds": "0x3000"}, "125m", "100m"),
    "BarmanCloudWalGap": ({"wal_gaps": "0x10 1x3000"}, "12m", "9m"),
    "BarmanCloudFinding": ({"finding": "1x10 2x3000"}, "105m", "90m"),
    "BarmanCloudCheckStale": ({"check_time_seconds": "0x3000"}, "181m", "170m"),
    "BarmanCloudCheckMissing": ({"backups": "1x3000"}, "190m", "170m"),
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed (it is in Debian's prometheus)")
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    rules = {rule["alert"]: rule for rule in alert_rules()}
    assert set(FIRING) == set(rules)
    tests = []
    for name, (series, fires, quiet) in FIRING.items():
        labels = {"server": "main", "subject": "disk"} if name != "BarmanCloudCheckMissing" else {}
        shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
        notes = yaml.safe_dump(rules[name]["annotations"])
        for label, value in labels.items():
            notes = notes.replace("{{ $labels.%s }}" % label, value)  # noqa: UP031
        alert = {"exp_labels": {**labels, **rules[name]["labels"]}, "exp_annotations": yaml.safe_load(notes)}
        tests.append(
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"barman_cloud_{metric}{{{shown}}}", "values": values}
                    for metric, values in series.items()
                ],
                "alert_rule_test": [
                    {"alertname": name, "eval_time": fires, "exp_alerts": [alert]},
                    {"alertname": name, "eval_time": quiet, "exp_alerts": []},
                ],
            }
        )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_the_alerts_are_rules_about_metrics_that_there_are() -> None:
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 6
    known = set(re.findall(r"^(barman_cloud_\w+)\{", metrics(), re.MULTILINE))
    assert len(known) >= 8
    known |= {f"barman_cloud_{name}" for name in SERVER_METRICS}
    page = (PROJECT / "docs" / "how-to" / "prometheus.md").read_text()
    assert set(re.findall(r"`(barman_cloud_\w+)`", page)) == known
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        expression = rule["expr"]
        named = set(re.findall(r"barman_cloud_\w+", expression))
        assert named
        assert named <= known
        # What is left is arithmetic, and a function that Prometheus has.
        rest = re.sub(r"barman_cloud_\w+", "1", expression)
        assert re.fullmatch(r"[\d\s+*/()<>=.-]+", re.sub(r"\b(?:(?:time|absent)(?=\()|and\b)", "", rest)), expression
        assert expression.count("(") == expression.count(")")
        labels = set(re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values())))
        assert labels <= {"server", "command", "subject"}


def test_every_finding_of_the_doctor_is_explained() -> None:
    sources = [*(PROJECT / "src" / "barman_cloud" / "doctor").glob("*.py")]
    sources += [PROJECT / "src" / "barman_cloud" / "verify" / name for name in ("server_state.py", "pg_wal.py")]
    text = "\n".join(source.read_text() for source in sources)
    subjects = set(
        re.findall(r'(?:\b(?:ok|warning|critical|unknown|_untold)|self\._(?:try|judged))\(\s*"([a-z-]+)"', text)
    )
    assert len(subjects) > 20
    page = (PROJECT / "docs" / "reference" / "doctor.md").read_text()
    explained = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert explained == subjects


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_of_yaml_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.body))


def test_every_shell_block_is_run_or_says_why_not() -> None:
    shell = [block for page in PAGES for block in blocks(page) if block.language in RUN]
    run = [block for block in shell if not block.reason]
    assert len(run) >= 75
    assert len(run) > 2 * len(shell) / 3
    for block in shell:
        if block.reason:
            assert len(block.reason.split()) > 2, f"{block.place}: a reason is a sentence"
            for path in re.findall(r"tests/[\w/]+(?:\.py)?", block.reason):
                assert (PROJECT / path).exists(), f"{block.place}: there is no {path}"
        else:
            assert block.variant in ("", *VARIANTS), f"{block.place}: nothing runs the variant {block.variant}"
            assert name_of(block.page) in PAGES_RUN, block.place


def test_a_comment_before_a_block_is_about_that_block_alone() -> None:
    page = PROJECT / "page.md"
    text = "<!-- not run: needs a moon -->\n```sh\na\n```\n\n<!-- run: s3 -->\n\n```sh\nb\n```\n\n"
    text += "Text.\n\n1. In a list:\n\n"
    text += "   ```console\n   $ one \\\n   >   two\n   printed\n   # three\n   ```\n"
    first, second, third = blocks_of(page, text)
    assert (first.reason, first.variant, second.reason, second.variant) == ("needs a moon", "", "", "s3")
    assert (third.reason, third.variant, third.place) == ("", "", "page.md:16")
    assert third.commands == ["one \\\n>   two", "three"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_shell_could_read_every_block(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(page):
        if block.language in SHELL:
            text = "\n".join(block.commands)
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.place}: {done.stderr}"
            assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets, block.place
