"""What is declared about an action, in one place: its own file holds one `SPEC`, and everything else follows from it.

The registry, the command line, the configuration's words, the page, the guards, the generated documents and the import
contracts all read it. A new action is one new file in actions/; a new option of an action is one line in its spec.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from actions.model.options import ActionOption

Lane = Literal["short", "long"]
BackupDirectory = Literal["unused", "optional", "required"]
ContentLossHeed = Literal["never", "automatic", "always"]


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """The facts of one action. `name` is also the name of its file.

    `summary` is one sentence for the page and the command line; `caution` follows it on the page; `details` follow it in
    the command's help. `lane`: long actions have a lane of their own, so that they do not hold short ones up.
    `automatic`: rules and schedules may enqueue it. `needs_window`: its automatic runs happen only inside a window.
    `needs_fresh_backup`: it destroys data, so its automatic runs need a fresh verified backup and the page asks twice.
    `needs_database` is false where it works without the database file. `checks_own_space`: it looks after its disk space
    itself, or writes nothing to the WAL; any other action is refused while the database's disk is nearly full.
    `heeds_content_loss`: which of its runs are refused while most of the database's content is gone: none (it only reads or
    copies), the automatic ones, or all (it deletes what the content can be restored from).
    `writes_pages`: it writes pages of the database, which only the application may do where they hold bytes of its own.
    `remote`: it can be requested over the page and the API. `command_group`: the command is part of this group.
    """

    name: str
    summary: str
    caution: str = ""
    details: str = ""
    options: Mapping[str, ActionOption] = field(default_factory=dict)
    lane: Lane = "short"
    automatic: bool = True
    needs_window: bool = False
    needs_fresh_backup: bool = False
    needs_database: bool = True
    backup_directory: BackupDirectory = "unused"
    checks_own_space: bool = False
    heeds_content_loss: ContentLossHeed = "automatic"
    writes_pages: bool = True
    remote: bool = True
    command_group: str = ""

    @property
    def command(self) -> str:
        """The words of its command after `queuekeeper`."""
        return f"{self.command_group} {self.name}".strip()

    @property
    def is_long(self) -> bool:
        """Whether it takes the lane of long actions."""
        return self.lane == "long"

    @property
    def needs_backups(self) -> bool:
        """Whether it needs a place for backups: it writes or reads them, or must find a fresh one."""
        return self.backup_directory == "required" or self.needs_fresh_backup

    @property
    def remote_options(self) -> Mapping[str, ActionOption]:
        """The options that may be given over the page and the API: none that names a file of this machine."""
        return {name: option for name, option in self.options.items() if option.kind != "path"}
