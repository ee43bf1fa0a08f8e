import pytest

from tests.support.installations import parse_version


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("postgres (PostgreSQL) 18.6", (18, "18.6")),
        ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", (15, "15.20")),
        ("postgres (PostgreSQL) 19beta2", (19, "19beta2")),
        ("postgres (PostgreSQL) 19rc1", (19, "19rc1")),
        ("postgres (PostgreSQL) 20devel", (20, "20devel")),
        ("mysqld 8.0.1", None),
        ("", None),
    ],
)
def test_the_version_of_an_installation(shown: str, version: tuple[int, str] | None) -> None:
    assert parse_version(shown) == version
