"""What a person types in the demo: real commands, with their answers."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from actions.model.outcome import EXIT_CODES, Outcome
from exporter.demo.stage import DemoStage

Say = Callable[..., None]
RETRY_SECONDS = 0.5
TRIES = 100


def run_shown_command(stage: DemoStage, say: Say, *words: str, shown: int = 20) -> None:
    """Run `queuekeeper WORDS` on the demo's configuration and show its exit code and its first lines."""
    done = _run_until_unlocked(stage, words, TRIES)
    answer = [f"    {text}" for text in (done.stdout + done.stderr).strip().splitlines()[:shown]]
    say(f"a person: queuekeeper {' '.join(words)} -> exit {done.returncode}", *answer)


def _run_until_unlocked(stage: DemoStage, words: Sequence[str], tries: int) -> "subprocess.CompletedProcess[str]":
    """Run the command again while the agent itself acts on the database, up to `tries` times."""
    command = [sys.executable, "-I", "-m", "exporter.commands", *words, "--config.file", str(stage.config_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own command
    if done.returncode != EXIT_CODES[Outcome.LOCKED] or tries == 1:
        return done
    time.sleep(RETRY_SECONDS)
    return _run_until_unlocked(stage, words, tries - 1)
