"""Writes every generated file: `python -m grafana.build` after a change; `--check` tells which ones were forgotten."""

import sys

from grafana.outputs import OUTPUTS, ROOT


def outdated_files() -> list[str]:
    """The files, relative to the project, that do not hold what they shall."""
    made = ((path, make()) for path, make in OUTPUTS.items())
    return [str(path.relative_to(ROOT)) for path, text in made if not path.exists() or path.read_text() != text]


def write_files() -> None:
    """Write all of them."""
    for path, make in OUTPUTS.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(make())


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only compare: exit code 1 when one differs from what would be written."""
    if arguments != ["--check"]:
        write_files()
        return 0
    forgotten = outdated_files()
    if forgotten:
        sys.stdout.write(f"out of date: {', '.join(forgotten)}; run `python -m grafana.build`\n")
    return 1 if forgotten else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
