"""docs/configuration.md is what the schema and its words say."""

from exporter.config.key_descriptions import KEY_DESCRIPTIONS
from exporter.reference import configuration as reference


def test_every_key_has_words_and_no_words_are_left_over() -> None:
    assert set(KEY_DESCRIPTIONS) == {key for key, _, _ in reference.describe_keys()}


def test_the_reference_is_current() -> None:
    assert reference.DOCUMENT.read_text("utf-8") == reference.configuration_document(), "run `make docs`"


def test_it_says_how_a_value_is_written_and_its_default() -> None:
    keys = {key: (kind, default) for key, kind, default in reference.describe_keys()}
    assert keys["poll.interval"] == ("duration", "`15s`")
    assert keys["limits.write_lock"] == ("duration", "`50ms`")
    assert keys["limits.wal_growth"] == ("size, share or `max(size, share)`", "`max(64MiB, 25%)`")
    assert keys["databases[].backup.compress"] == ("`none` or `zstd`", "`none`")
    assert keys["rules[].when.NAME.above"][0] == "level"
    assert keys["actions.enabled"] == ("true or false", "`false`")
    assert keys["databases[].path"] == ("text", "required")
