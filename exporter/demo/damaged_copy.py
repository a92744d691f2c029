"""The demo's scene of a disk that damages the newest backup: a scrub finds it, and a restore takes the intact one before it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.demo.person import run_shown_command
from exporter.demo.stage import DemoStage

Say = Callable[..., None]
DAMAGED_BYTES = 4


def damage_and_scrub(stage: DemoStage, say: Say) -> Iterator[None]:
    """Take two more backups, damage the newer one, and show what a scrub and a restore make of it.

    They lie in a folder of their own: the backups of the agent stay as they are.
    """
    folder = stage.folder / "second-copies"
    folder.mkdir(mode=0o700)
    for _ in range(2):
        run_shown_command(stage, say, "backup", "jobs", "--to", str(folder), shown=1)
        yield
    newest = max(folder.glob("*.db"))
    _flip_bytes(newest)
    say(f"the disk: {DAMAGED_BYTES} bytes of the newer copy are no longer what was written, its size is the same")
    run_shown_command(stage, say, "backups", "scrub", "jobs", "--from", str(folder), shown=3)
    restored = stage.folder / "restored.db"
    run_shown_command(stage, say, "restore", "jobs", "--from", str(folder), "--to", str(restored), shown=1)


def _flip_bytes(backup: Path) -> None:
    """Invert a few bytes in the middle of the last page."""
    with backup.open("r+b") as file:
        file.seek(-DAMAGED_BYTES - 512, os.SEEK_END)
        original = file.read(DAMAGED_BYTES)
        file.seek(-DAMAGED_BYTES, os.SEEK_CUR)
        file.write(bytes(byte ^ 0xFF for byte in original))
