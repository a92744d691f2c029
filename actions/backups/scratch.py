"""A private folder for what is thrown away: beside our history, never beside an application's database."""

from pathlib import Path

from actions.model.context import ActionContext


def make_scratch_folder(work: ActionContext) -> Path:
    """The folder, made when it is missing."""
    assert work.target.state is not None  # noqa: S101 the door gives every target a state directory
    folder = work.target.state / "scratch"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
