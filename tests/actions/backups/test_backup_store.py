"""The backup store: what the local directory does, that another kind can take its place, that no other module knows a path."""

import ast
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from actions.backups.local_directory import LocalDirectoryStore
from actions.backups.select import load_backup, open_plain_backup, prove_backup
from actions.backups.store import SelectedBackup, open_store, open_store_of
from actions.backups.take import take_backup
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from collectors import disk
from collectors.access.context import PollContext
from collectors.backup_catalog.catalog import Backup, CatalogListing, assess_backup
from collectors.backup_catalog.manifest import Manifest, decode_manifest, encode_manifest
from collectors.backup_catalog.names import FILE_PATTERNS, backup_file_name, manifest_name, names_described_by
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import backup_location, find_backups, open_catalog
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import target_of
from tests.support.scenes.run_in_process import work_on

ROOT = Path(__file__).parents[3]
STORE_MODULES = {
    "collectors/backup_catalog/local_directory.py",
    "collectors/backup_catalog/names.py",
    "collectors/backup_catalog/store.py",
    "actions/backups/local_directory.py",
    "actions/backups/store.py",
    "queuekeeper/backup.py",  # the one exception: a process for one number of a manifest would cost more than all else
}
# Where the setting itself is read: it names a directory, never a file in it.
SETTINGS_MODULES = {"exporter/config/assemble.py", "exporter/config/resolve.py"}


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 20)
    return target_of(queue.path, backup=BackupSettings(tmp_path / "backups"), limits=Limits(disk_reserve=0))


@pytest.fixture
def work(target: Target, raw: RawReader) -> ActionContext:
    return work_on(target, raw)


def take(work: ActionContext, label: str = "") -> SelectedBackup:
    store = open_store(work, "--to")
    store.prepare_location()
    published = take_backup(work, store, label, kind="manual")
    return SelectedBackup(store, published.reference, published.manifest)


# --- no other module knows a path


def _docstrings(tree: ast.AST) -> set[int]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {id(statement.value) for statement in first if isinstance(statement, ast.Expr)}


def _path_knowledge(tree: ast.AST) -> Iterator[str]:
    """Parts of a backup's file name, the setting's directory, and imports of a local directory."""
    docstrings = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from (part for part in ("queue_backup_", ".manifest.json", ".zst") if part in node.value)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(("backup.directory", "settings.directory")):
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(".local_directory"):
            yield f"import of {node.module}"


def test_only_the_store_knows_where_a_backup_lies() -> None:
    knowing = {}
    for package in ("collectors", "actions", "exporter", "queuekeeper"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = sorted(set(_path_knowledge(ast.parse(file.read_text("utf-8")))))
            if parts:
                knowing[str(file.relative_to(ROOT))] = parts
    assert set(knowing) <= STORE_MODULES | SETTINGS_MODULES, knowing
    assert all("directory" in part for name in SETTINGS_MODULES for part in knowing.get(name, [])), knowing


# --- the local directory


def test_a_published_backup_is_listed_read_and_opened_by_its_reference(work: ActionContext) -> None:
    backup = take(work)
    (listed,) = find_backups(work.target)
    assert (listed.reference, listed.state, listed.name) == (backup.reference, "verified", backup.name)
    assert open_store(work, "--from").reference_of(backup.name) == backup.reference
    assert backup.store.read_manifest(backup.reference) == backup.manifest
    with backup.store.open_local(backup.reference) as file:
        assert file.stat().st_size == backup.store.stored_size(backup.reference) == listed.size
    assert backup_location(work.target) == str(Path(backup.reference).parent)


def test_a_name_in_use_is_never_overwritten(work: ActionContext) -> None:
    backup = take(work)
    with backup.store.create_draft("other") as draft:
        draft.write_bytes(b"other")
        with pytest.raises(Failed, match="exists already"):
            backup.store.publish_draft(draft, backup.name)
    assert backup.store.stored_size(backup.reference) == backup.manifest.bytes


def test_a_deleted_backup_takes_its_manifest_along_and_an_orphan_is_named(work: ActionContext) -> None:
    backup, orphan = take(work), take(work, "orphan")
    assert backup.store.delete_backup(backup.reference) == backup.manifest.bytes
    assert not backup.store.has_backup(backup.reference)
    Path(orphan.reference).unlink()
    (name,) = backup.store.orphaned_manifests()
    assert names_described_by(name)[0] == orphan.name
    assert backup.store.delete_backup(backup.store.reference_of(name)) == 0
    assert list(Path(orphan.reference).parent.iterdir()) == []


def test_a_backup_elsewhere_has_a_store_of_its_own(work: ActionContext, tmp_path: Path) -> None:
    backup = take(work)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(Path(backup.reference).parent, elsewhere)
    loaded = load_backup(work, str(elsewhere / backup.name))
    prove_backup(work, loaded)
    assert loaded.store.location == str(elsewhere)
    assert open_store_of(work, loaded.reference).draft_directory == elsewhere


def test_free_space_is_known_before_the_directory_is_made(work: ActionContext, tmp_path: Path) -> None:
    catalog = open_catalog(work.target)
    assert catalog is not None
    assert catalog.space_directory(0.0) == tmp_path / "backups"
    spaces = {space.role: space for space in disk.read(PollContext(work.target, 0.0, work.raw), None).file_systems}
    assert 0 < spaces["backups"].free < spaces["backups"].size
    assert not (tmp_path / "backups").exists()
    with pytest.raises(Refused, match="the backup needs"):
        open_store(work, "--to").require_space(2**60, 0, "the backup")


def test_without_a_place_there_is_no_store_and_no_backup(
    work: ActionContext, raw: RawReader, queue: prismq.Queue
) -> None:
    bare = work_on(target_of(queue.path), raw)
    with pytest.raises(Refused) as refusal:
        open_store(bare, "--from")
    assert "give --from DIR" in refusal.value.next_step
    assert (open_catalog(bare.target), find_backups(bare.target)) == (None, ())


def test_names_are_told_apart() -> None:
    name = backup_file_name("a/b", "label", 1_790_000_000.25)
    assert name == "queue_backup_label_a_b_20260921T141320_250000Z.db"
    assert manifest_name(name + ".zst") == manifest_name(name)
    assert all(Path(file).match(FILE_PATTERNS[0]) for file in (name, manifest_name(name)))


# --- another kind of store


@dataclass
class MemoryStore:
    """A store whose backups are no files until they are opened, as in an object store."""

    target: Target
    draft_directory: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    location: str = "memory://bucket"

    def reference_of(self, name: str) -> str:
        return f"{self.location}/{name}"

    def list_backups(self, before: CatalogListing | None = None, now: float = 0.0) -> CatalogListing:  # noqa: ARG002 a store of this size lists everything
        names = [reference for reference in self.objects if reference.endswith((".db", ".zst"))]
        return CatalogListing({reference: self._backup(reference) for reference in names})

    def _backup(self, reference: str) -> Backup:
        size = self.stored_size(reference)
        state, manifest = assess_backup(lambda: self.read_manifest(reference), size, self.target)
        return Backup(reference.rpartition("/")[2], reference, size, 0.0, state, manifest)

    def has_backup(self, reference: str) -> bool:
        return reference in self.objects

    def stored_size(self, reference: str) -> int:
        return len(self.objects[reference])

    def read_manifest(self, reference: str) -> Manifest:
        return decode_manifest(self.objects[self._manifest(reference)])

    @contextmanager
    def open_local(self, reference: str) -> Iterator[Path]:
        file = self.draft_directory / reference.rpartition("/")[2]
        file.write_bytes(self.objects[reference])
        try:
            yield file
        finally:
            file.unlink()

    def space_directory(self, now: float) -> Path | None:  # noqa: ARG002 a store elsewhere fills no disk of this machine
        return None

    def prepare_location(self) -> int:
        return 0

    def require_space(self, needed: int, reserve: int, what: str) -> None:
        pass

    @contextmanager
    def create_draft(self, name: str) -> Iterator[Path]:
        file = self.draft_directory / f"draft-{name}"
        file.touch()
        yield file
        file.unlink()

    def publish_draft(self, draft: Path, name: str) -> str:
        self.objects[self.reference_of(name)] = draft.read_bytes()
        return self.reference_of(name)

    def write_manifest(self, reference: str, manifest: Manifest) -> None:
        self.objects[self._manifest(reference)] = encode_manifest(manifest).encode()

    def orphaned_manifests(self) -> list[str]:
        return []

    def delete_backup(self, reference: str) -> int:
        return len(self.objects.pop(reference))

    def sync_deletions(self) -> None:
        pass

    def _manifest(self, reference: str) -> str:
        return self.reference_of(manifest_name(reference.rpartition("/")[2]))


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_store_without_local_files_takes_proves_and_withdraws(
    target: Target, raw: RawReader, tmp_path: Path, compress: str
) -> None:
    settings = BackupSettings(tmp_path / "unused", compress="zstd" if compress == "zstd" else "none")
    work = work_on(replace(target, backup=settings), raw)
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    store = MemoryStore(work.target, drafts)
    published = take_backup(work, store, "", kind="manual")
    backup = SelectedBackup(store, published.reference, published.manifest)
    prove_backup(work, backup)
    newest = newest_verified(store.list_backups().backups.values(), time.time())
    assert newest is not None
    assert newest.reference == backup.reference
    with open_plain_backup(work, backup, drafts) as plain:
        assert plain.stat().st_size == backup.plain_bytes
    store.objects[backup.reference] = b"damaged" + store.objects[backup.reference][7:]
    with pytest.raises(Unverified, match="is not what was written"):
        prove_backup(work, backup)
    assert newest_verified(store.list_backups().backups.values(), time.time()) is None
    assert list(drafts.iterdir()) == []
    assert not settings.directory.exists()


def test_the_local_directory_is_such_a_store(work: ActionContext) -> None:
    assert isinstance(open_store(work, "--to"), LocalDirectoryStore)
