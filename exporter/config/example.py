"""The example configuration that is shipped: it loads, and explains every part."""

from importlib.resources import files


def example_text() -> str:
    """The text of the example file."""
    return files("exporter.config").joinpath("example.yaml").read_text("utf-8")
