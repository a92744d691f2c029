"""Sizes and durations mean what people write."""

import pytest

from exporter.config.sizes import GrowthBudget, parse_duration, parse_growth, parse_level, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("15s", 15), ("1h30m", 5400), ("26h", 93600), ("7d", 604800), ("0.5s", 0.5), (0, 0)],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["15", 15, "-1s", "1 h", "", None, True, False, "1h-", "\u0661s", "1e3s", [1]])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it with a unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 67_108_864), ("1.5GB", 1_500_000_000), ("1 kB", 1000), (0, 0), ("7B", 7)]
)
def test_a_size_is_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["64", 64, "64mib", "-1MiB", "MiB", None, True])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "growth"),
    [
        ("64MiB", GrowthBudget(67_108_864, 0)),
        ("25%", GrowthBudget(0, 0.25)),
        ("max(64MiB, 25%)", GrowthBudget(67_108_864, 0.25)),
        ("max( 25% ,64MiB )", GrowthBudget(67_108_864, 0.25)),
        ("max(1MiB, 2MiB)", GrowthBudget(2_097_152, 0)),
    ],
)
def test_a_budget_is_a_size_a_share_or_both(text: str, growth: GrowthBudget) -> None:
    assert parse_growth(text) == growth


@pytest.mark.parametrize("text", ["max(64MiB)", "min(1MiB, 2%)", "25", "max(max(1B,2B),1%)", 5])
def test_what_is_no_budget_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a budget"):
        parse_growth(text)


@pytest.mark.parametrize(
    ("text", "level"), [(0, 0), (-1.5, -1.5), ("64MiB", 67_108_864), ("26h", 93600), ("25%", 0.25)]
)
def test_a_level_is_a_number_in_base_units(text: object, level: float) -> None:
    assert parse_level(text) == level


@pytest.mark.parametrize("text", ["much", True, None, "5"])
def test_what_is_no_level_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a level"):
        parse_level(text)
