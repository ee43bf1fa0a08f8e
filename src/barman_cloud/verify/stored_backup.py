"""Is one backup what was stored? Every object of it, every member of its archives, in one pass and without a disk."""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from barman_cloud import logs
from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.manifest import ManifestFile, ManifestReader, ManifestSpool
from barman_cloud.archive.tar import Member
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import ConflictError, IntegrityError, NotFoundError, UnsafeArchiveError, UsageError
from barman_cloud.incremental.file_format import PREFIX
from barman_cloud.postgres import page_checksum
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.restore.pipeline import run_all
from barman_cloud.restore.tree import split
from barman_cloud.restore.verify import LEFT_OUT, MANIFEST, is_of
from barman_cloud.restore.worker import Window, read_archive
from barman_cloud.verify.findings import Finding, critical, ok, warning
from barman_cloud.verify.stored_pages import MemberPages, StoredPages

log = logs.get_logger(__name__)

_LOST = "this backup can't be trusted: restore another one, and take a new one"
_NAMED = 5
_DAMAGE = (IntegrityError, NotFoundError, ConflictError, UnsafeArchiveError)
"""What says that an object is damaged or gone; anything else means that it couldn't be read."""


@dataclass
class BackupVerdict:
    """What was found out about one backup."""

    backup_id: str
    findings: list[Finding] = field(default_factory=list)
    broken: bool = False
    """It can't be restored as it was taken."""
    size: int = 0
    """Stored bytes that were read."""
    pages: int = 0
    pages_are_damaged: bool = False

    def fail(self, subject: str, message: str, *objects: str) -> None:
        """Note damage."""
        self.broken = True
        self.findings.append(critical(subject, message, _LOST, self.backup_id, *objects))


def verify_backup(catalog: Catalog, info: BackupInfo, jobs: int, *, quick: bool) -> BackupVerdict:
    """Verify the archives of a complete backup; ``quick`` compares only the names and sizes of its objects.

    Damage is told by the verdict. Errors of the store other than a missing object are raised.
    """
    verdict = BackupVerdict(info.backup_id)
    if info.snapshots_info is not None:
        verdict.findings.append(
            warning(
                "disk-snapshots",
                f"{info.backup_id} consists of disk snapshots, which can't be read from here",
                "restore it to a machine to see whether they work",
                info.backup_id,
            )
        )
        return verdict
    found = catalog.archives(info.backup_id)
    _find_missing(catalog, info, found, verdict)
    archives = [archive for parts in found.values() for archive in parts]
    text = _sidecar(catalog, info, len(archives), verdict)
    records = _records(catalog, info, text, verdict)
    if records is not None:
        _compare_sizes(catalog, archives, records, verdict)
    if quick:
        if not verdict.broken:
            what = "have the recorded sizes" if records else "are there; it has no record of their sizes"
            message = f"the {counted(len(archives), 'archive')} of {info.backup_id} {what}"
            verdict.findings.append(ok("archive-sizes", message, info.backup_id))
        return verdict
    content = _Content(catalog, info, records, text, verdict)
    content.read(archives, jobs)
    content.conclude(len(archives))
    return verdict


def _find_missing(
    catalog: Catalog, info: BackupInfo, found: dict[str, list[ArchiveObject]], verdict: BackupVerdict
) -> None:
    for base in (DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or [])):
        parts = {archive.part for archive in found.get(base, [])}
        for missing in sorted(set(range(max(parts, default=0) + 1)) - parts):
            key = catalog.store.object_url(catalog.layout.archive(info.backup_id, base, missing))
            verdict.fail("archives", f"{info.backup_id} lacks the archive {key}[.*]", key)


def _sidecar(catalog: Catalog, info: BackupInfo, archives: int, verdict: BackupVerdict) -> str | None:
    key = catalog.layout.archives_json(info.backup_id)
    try:
        return catalog.store.get(key, limit=archives_json.largest_plausible(archives)).decode()
    except NotFoundError:
        return None
    except (UnicodeDecodeError, IntegrityError) as error:
        verdict.fail("archives", f"{catalog.store.object_url(key)} can't be read: {error}", key)
        return None


def _records(
    catalog: Catalog, info: BackupInfo, text: str | None, verdict: BackupVerdict
) -> dict[str, ArchiveRecord] | None:
    """Return the records by key; None for a backup without ``archives.json``, as Barman makes them."""
    if text is None:
        return None
    key = catalog.layout.archives_json(info.backup_id)
    folder = catalog.layout.backup_dir(info.backup_id)
    try:
        return {folder + record.name: record for record in archives_json.parse(text, catalog.store.object_url(key))}
    except IntegrityError as error:
        verdict.fail("archives", str(error), key)
        return None


def _compare_sizes(
    catalog: Catalog, archives: list[ArchiveObject], records: dict[str, ArchiveRecord], verdict: BackupVerdict
) -> None:
    by_key = {archive.key: archive for archive in archives}
    for key, record in records.items():
        url = catalog.store.object_url(key)
        archive = by_key.get(key)
        if archive is None:
            verdict.fail("archives", f"{verdict.backup_id} lacks the archive {url}", url)
        elif archive.size != record.size:
            verdict.fail("archive-sizes", f"{url} has {archive.size} bytes instead of {record.size}", url)


class _Content:
    """What the archives of one backup hold, in 16 bytes for each file."""

    def __init__(
        self,
        catalog: Catalog,
        info: BackupInfo,
        records: dict[str, ArchiveRecord] | None,
        sidecar: str | None,
        verdict: BackupVerdict,
    ) -> None:
        self._catalog = catalog
        self._info = info
        self._records = records
        self._verdict = verdict
        self._pages = self._page_checks(sidecar)
        self._contents = array("q")
        self._sizes = array("q")
        self._manifest: ManifestSpool | None = None
        self._lock = threading.Lock()
        self._progress = progress.current()

    def read(self, archives: list[ArchiveObject], jobs: int) -> None:
        """Read all archives, the largest first."""
        window = Window.of_each(max(1, min(jobs, len(archives))))
        size = sum(archive.size for archive in archives)
        self._progress.phase(
            f"reading {self._info.backup_id}", total=size, items=len(archives), measure=progress.STORED
        )

        def task(archive: ArchiveObject) -> Callable[[threading.Event], None]:
            return lambda stop: self._read(archive, window, stop)

        run_all([task(archive) for archive in sorted(archives, key=lambda archive: -archive.size)], jobs)

    def conclude(self, archives: int) -> None:
        """Compare what was read with the manifest, and tell of pages."""
        self._progress.phase("comparing with the manifest")
        verdict, backup_id = self._verdict, self._info.backup_id
        if not verdict.broken:
            sums = "recorded checksums" if self._records else "no recorded checksums, but can be read to their ends"
            message = f"the {counted(archives, 'archive')} of {backup_id} ({verdict.size} bytes) have {sums}"
            verdict.findings.append(ok("archives", message, backup_id))
        self._compare_manifest()
        self._tell_of_pages()

    def _page_checks(self, sidecar: str | None) -> StoredPages | None:
        info = self._info
        if info.data_checksums != "on" or not page_checksum.is_available():
            return None
        try:
            begin, end = parse_lsn(info.begin_xlog or ""), parse_lsn(info.end_xlog or "")
        except UsageError:
            return None
        return StoredPages(begin, end, archives_json.parse_page_checksums(sidecar) if sidecar else None)

    def _read(self, archive: ArchiveObject, window: Window, stop: threading.Event) -> None:
        store = self._catalog.store
        expected = (self._records or {}).get(archive.key)
        url = store.object_url(archive.key)
        pages = self._pages.checker() if self._pages else None
        members = 0
        try:
            if self._records is not None and expected is None:
                raise IntegrityError(f"{url} isn't in archives.json of its backup")
            with self._progress.item(archive.key.rpartition("/")[2], archive.size) as item:
                for member, content in read_archive(
                    store, archive, window=window, stop=stop, expected=expected, item=item
                ):
                    self._see(archive.base, member, content, pages)
                    members += 1
            if expected is not None and members != expected.members:
                raise IntegrityError(f"{url} holds {members} members instead of {expected.members}")
        except _DAMAGE as error:
            message = str(error) if archive.key in str(error) else f"{url}: {error}"
            with self._lock:
                self._verdict.fail("archives", message, url)
        finally:
            if pages is not None:
                pages.flush()
        with self._lock:
            self._verdict.size += archive.size
        log.info("read %s: %d members", url, members)

    def _see(self, base: str, member: Member, content: Iterator[Buffer], pages: MemberPages | None) -> None:
        if member.kind != "file":
            return
        name = "/".join(split(member.name))
        path = name if base == DATA else f"pg_tblspc/{base}/{name}"
        if path == MANIFEST:
            self._keep_manifest(content)
            return
        tally = Tally(content)
        if is_incremental(name):
            checks = pages or MemberPages(StoredPages(0, 0, None))
            checks.incremental(path, name, member.size, iter(tally), pages=pages is not None)
        else:
            for _ in pages.watch(path, name, tally) if pages else tally:
                pass
        with self._lock:
            self._contents.append(hash((path, tally.size, tally.crc32c)))
            self._sizes.append(hash((path, tally.size)))

    def _keep_manifest(self, content: Iterator[Buffer]) -> None:
        spool = ManifestSpool()
        for piece in content:
            spool.add(piece)
        spool.finish()
        with self._lock:
            self._manifest = spool

    def _compare_manifest(self) -> None:
        backup_id, url = self._info.backup_id, MANIFEST
        try:
            chunks: Iterator[Buffer] | None = iter(self._manifest) if self._manifest is not None else None
            if chunks is None and self._records is not None:
                key = self._catalog.layout.manifest(backup_id)
                url = self._catalog.store.object_url(key)
                chunks = self._catalog.store.read(key)
            if chunks is None:
                message = f"{backup_id} has no backup_manifest of its own: the files in it are taken as they are"
                self._verdict.findings.append(ok("manifest", message, backup_id))
                return
            reader = ManifestReader(chunks, f"{url} of {backup_id}")
            self._compare(reader)
        except _DAMAGE as error:
            self._verdict.fail("manifest", str(error), url)

    def _compare(self, reader: ManifestReader) -> None:
        contents, sizes = set(self._contents), set(self._sizes)
        wrong: list[str] = []
        bad = count = unchecked = 0
        for entry in reader:
            if entry.path in LEFT_OUT:
                continue
            count += 1
            unchecked += entry.crc is None
            if problem := _difference(entry, contents, sizes):
                bad += 1
                if len(wrong) < _NAMED:
                    wrong.append(f"{entry.path} {problem}")
        backup_id = self._info.backup_id
        if not is_of(reader.wal_ranges, self._info):
            if self._records is None:  # PGDATA was restored once, and still has that manifest
                message = f"the backup_manifest in {backup_id} is of another backup: nothing was compared with it"
                self._verdict.findings.append(ok("manifest", message, backup_id))
                return
            self._verdict.fail("manifest", f"the backup_manifest of {backup_id} is of another backup")
        elif bad:
            more = f" (and {bad - len(wrong)} more)" if bad > len(wrong) else ""
            self._verdict.fail("manifest", f"{backup_id} doesn't match its manifest: {'; '.join(wrong)}{more}")
        else:
            without = f", {unchecked} of them without a CRC-32C there" if unchecked else ""
            message = f"the {counted(count, 'file')} of {backup_id} are as its manifest says{without}"
            self._verdict.findings.append(ok("manifest", message, backup_id))

    def _tell_of_pages(self) -> None:
        info, verdict = self._info, self._verdict
        if info.data_checksums != "on":
            message = f"the cluster of {info.backup_id} has no page checksums"
            verdict.findings.append(ok("page-checksums", message, info.backup_id))
            return
        if self._pages is None:
            verdict.findings.append(
                warning(
                    "page-checksums",
                    f"page checksums of {info.backup_id} weren't verified",
                    "install NumPy: pip install 'barman-cloud[verify]'",
                    info.backup_id,
                )
            )
            return
        verdict.pages, files = self._pages.conclude()
        if not files:
            message = f"the checksums of {verdict.pages} pages of {info.backup_id} are right"
            verdict.findings.append(ok("page-checksums", message, info.backup_id))
            return
        verdict.pages_are_damaged = True
        named = "; ".join(f"{file.path}: {file.describe()}" for file in files[:_NAMED])
        more = f"; and {len(files) - _NAMED} more files" if len(files) > _NAMED else ""
        verdict.findings.append(
            critical(
                "page-checksums",
                f"pages in {info.backup_id} fail their checksum (file: blocks): {named}{more}",
                "the cluster was damaged when it was backed up: look at these relations with pg_amcheck, and keep "
                "older backups until that is settled",
                info.backup_id,
                *(file.path for file in files),
            )
        )


def _difference(entry: ManifestFile, contents: set[int], sizes: set[int]) -> str | None:
    if entry.crc is not None and hash((entry.path, entry.size, entry.crc)) in contents:
        return None
    if hash((entry.path, entry.size)) not in sizes:
        return "is missing or hasn't its size there"
    return None if entry.crc is None else "has another checksum"


def is_incremental(name: str) -> bool:
    """Tell whether a member is an incremental file: of a relation, as no other file may be named so."""
    return re.search(rf"(?:^|/){re.escape(PREFIX)}\d", name) is not None
