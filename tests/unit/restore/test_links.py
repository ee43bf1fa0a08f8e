from pathlib import Path

import pytest

from barman_cloud.archive.tar import Member
from barman_cloud.restore.extract import Extractor
from barman_cloud.restore.links import warn_of_links_outside
from barman_cloud.restore.tree import Tree


@pytest.mark.parametrize(
    ("name", "target", "warned"),
    [
        ("server.key", "{}/live/file", True),
        ("base/5/16384", "{}/live/file", True),
        ("relative", "../live/file", True),
        ("directory", "{}/live", True),
        ("gone", "{}/nothing", False),
        ("inside", "PG_VERSION", False),
        ("inside-absolute", "{}/copy/PG_VERSION", False),
    ],
)
def test_links_to_what_exists_outside_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, target: str, warned: bool
) -> None:
    for directory in ("live", "copy/base/5"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "live/file").touch()
    (tmp_path / "copy/PG_VERSION").touch()
    tree = Tree(tmp_path / "copy")
    extractor = Extractor(tree, 0)
    extractor.extract(Member(name, "symlink", linkname=target.format(tmp_path)), ())
    tree.add(0, extractor.outcome)
    tree.make_links()
    warn_of_links_outside(tree)
    extractor.close()
    tree.close()
    found = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in found] == ([f"{tmp_path}/copy/{name}"] if warned else [])
