"""Chains in the catalog: what builds on what, what a deletion takes with it, and what it leaves."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.catalog import keep
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id
from barman_cloud.catalog.lineage import Weight, descendants, disown, kinship_of, stored_sizes, weigh
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.catalog.summary import list_as_json, list_as_text, show_as_json, show_as_text
from barman_cloud.cli import backup_delete
from barman_cloud.errors import OperationError
from tests.unit.catalog.builders import backup, fill, memory_catalog, run, segment, where


def day(number: int) -> str:
    return f"202601{number:02d}T000000"


def chains(parents: dict[int, int | None], keeps: dict[int, str] | None = None) -> Catalog:
    """A catalog of backups of these days, with the day of each one's parent; both ends of each link are recorded."""
    infos = []
    for number, parent in parents.items():
        children = [day(child) for child, of in parents.items() if of == number]
        info = backup(day(number), segment(number), parent_backup_id=parent and day(parent))
        info.children_backup_ids = children or None
        infos.append(info)
    kept = {day(number): text for number, text in (keeps or {}).items()}
    return fill(memory_catalog("a"), infos, [segment(number) for number in range(1, 10)], keeps=kept)


TREE = {1: None, 2: 1, 3: 2, 4: 1, 5: None}


def delete(catalog: Catalog, number: int, minimum: int = 0, **options: bool) -> str:
    out = io.StringIO()
    with_children = options.pop("with_children", False)
    delete_by_id(
        catalog, catalog.load(), day(number), minimum, DeletionOptions(**options), out, with_children=with_children
    )
    return out.getvalue()


def left(catalog: Catalog) -> list[str]:
    return list(catalog.load().backups)


def test_a_backup_that_others_build_on_is_refused_with_their_list() -> None:
    catalog = chains(TREE)
    with pytest.raises(OperationError, match=f"build on it: {day(2)}, {day(3)}, {day(4)}") as caught:
        delete(catalog, 1)
    assert "--with-children" in (caught.value.hint or "")
    assert len(left(catalog)) == 5


def test_with_children_the_tree_goes_and_nothing_else() -> None:
    catalog = chains(TREE)
    assert run(backup_delete, catalog, "--with-children", "--backup-id", day(1), *where(catalog)) == 0
    assert left(catalog) == [day(5)]
    assert not [item for item in catalog.store.list("") if day(1) in item.key or day(3) in item.key]


def test_children_go_before_what_they_build_on() -> None:
    assert descendants(chains(TREE).load().backups, day(1)) == [day(4), day(3), day(2)]


def test_a_dry_run_names_all_and_deletes_nothing() -> None:
    catalog = chains(TREE)
    before = [item.key for item in catalog.store.list("")]
    printed = delete(catalog, 1, with_children=True, dry_run=True)
    assert all(f"{day(number)}/data.tar" in printed for number in (1, 2, 3, 4))
    assert day(5) not in printed
    assert [item.key for item in catalog.store.list("")] == before


@pytest.mark.parametrize("kept", [1, 3])
def test_one_kept_member_holds_the_tree(kept: int) -> None:
    catalog = chains(TREE, {kept: "full"})
    with pytest.raises(OperationError, match=f"{day(kept)} is not deleted: it has a keep annotation"):
        delete(catalog, 1, with_children=True)
    assert len(left(catalog)) == 5


def test_only_full_backups_are_kept() -> None:
    catalog = chains(TREE)
    with pytest.raises(
        OperationError, match=f"{day(3)} can't be kept: it is incremental, and of no use without {day(2)}"
    ):
        keep.keep(catalog, day(3), "full")
    assert keep.read_all(catalog) == {}


def test_minimum_redundancy_counts_full_backups() -> None:
    catalog = chains(TREE)
    delete(catalog, 3, minimum=2)
    with pytest.raises(OperationError, match="1 DONE backup would remain"):
        delete(catalog, 1, minimum=2, with_children=True)
    delete(catalog, 1, minimum=1, with_children=True)
    assert left(catalog) == [day(5)]


def test_the_parent_forgets_a_child_that_is_deleted() -> None:
    catalog = chains(TREE)
    delete(catalog, 4)
    assert catalog.load_one(day(1)).children_backup_ids == [day(2)]
    delete(catalog, 2, with_children=True)
    parent = catalog.load_one(day(1))
    assert (parent.children_backup_ids, parent.status) == (None, "DONE")


def test_a_deletion_of_the_parent_that_begins_meanwhile_keeps_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = chains(TREE)
    save = catalog.save

    def meanwhile(*arguments: object) -> None:
        catalog.store.delete([catalog.layout.archive(day(1), "data")])
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "save", meanwhile)
    disown(catalog, day(1), day(4))
    assert catalog.load_one(day(1)).status == "FAILED"


def test_a_parent_that_is_gone_is_no_error() -> None:
    disown(chains(TREE), day(9), day(4))


def weight(catalog: Catalog, number: int) -> Weight:
    view = catalog.load()
    return weigh(kinship_of(view.backups, day(number)), stored_sizes(catalog, view.backups))


def test_what_a_chain_weighs() -> None:
    catalog = chains(TREE)
    catalog.store.put(catalog.layout.archive(day(1), "data"), b"x" * 99)
    assert weight(catalog, 1) == Weight(stored=100, chain=100, saved=None)
    assert weight(catalog, 3) == Weight(stored=2, chain=104, saved=98.0)
    view = catalog.load()
    sizes = stored_sizes(catalog, view.backups)
    kinship = kinship_of(view.backups, day(3))
    told = json.loads(list_as_json(view, sizes))["backups_list"][2]
    shown = json.loads(show_as_json(view.backups[day(3)], kinship, weigh(kinship, sizes)))["cloud"]
    for entry in (told, shown):
        assert (entry["stored_size"], entry["chain_size"], entry["saved_percent"]) == (2, 104, 98.0)
    assert "104 B" in list_as_text(view, {}, sizes).splitlines()[3]
    assert "98.0% of the root's size" in show_as_text(view.backups[day(3)], "a", kinship, weigh(kinship, sizes))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8), st.integers(1, 8), st.booleans())
def test_a_deletion_never_leaves_a_child_without_its_parent(links: list[int], chosen: int, with_children: bool) -> None:
    """The model: what is left is closed under "builds on", and what goes is the tree of the chosen one, or nothing."""
    parents = {number: link if link < number and link else None for number, link in enumerate(links, 1)}
    chosen = min(chosen, len(links))
    tree = {chosen}
    for number in range(chosen + 1, len(links) + 1):
        if parents[number] in tree:
            tree.add(number)
    catalog = chains(parents)
    if len(tree) > 1 and not with_children:
        with pytest.raises(OperationError):
            delete(catalog, chosen)
        tree = set()
    else:
        delete(catalog, chosen, with_children=with_children)
    assert left(catalog) == [day(number) for number in parents if number not in tree]
    for info in catalog.load().backups.values():
        assert info.parent_backup_id is None or info.parent_backup_id in left(catalog)
        assert set(info.children_backup_ids or ()) <= set(left(catalog))
