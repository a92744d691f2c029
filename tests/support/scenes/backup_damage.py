"""What a bad disk, a careless person and a wrong clock do to a folder of backups, on real files."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collectors.backup_catalog.local_directory import manifest_path
from collectors.target import Target

# Root that may no longer read what its mode forbids: the nearest thing to another user that needs no other folders.
BOUND_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


def flip_byte(path: Path, at: int) -> None:
    """Change one byte in place: size and name stay."""
    with path.open("r+b") as file:
        file.seek(at % path.stat().st_size)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


def read_manifest_fields(backup: Path) -> dict[str, Any]:
    """The fields of the manifest beside this backup."""
    fields: dict[str, Any] = json.loads(manifest_path(backup).read_text())
    return fields


def write_manifest_fields(backup: Path, fields: Mapping[str, Any]) -> None:
    """Replace the manifest beside this backup."""
    manifest_path(backup).write_text(json.dumps(fields))


def run_backups_command(target: Target, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Type `queuekeeper backups WORDS DB --from ... --state ...`, behind the words of another command."""
    assert target.backup is not None
    command = [*before, sys.executable, "-m", "exporter.commands", "backups", words[0], str(target.path), *words[1:]]
    command += ["--from", str(target.backup.directory)]
    if words[0] != "list":
        command += ["--state", str(target.state)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
