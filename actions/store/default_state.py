"""Where history lives when nothing is configured."""

import os
from pathlib import Path


def default_state_directory() -> Path:
    """`$XDG_STATE_HOME/queuekeeper`, by default `~/.local/state/queuekeeper` (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "queuekeeper"
