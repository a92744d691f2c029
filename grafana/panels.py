"""Building blocks of dashboards over Grafana's own typed builders: one panel, query, threshold or mapping.

Thresholds are those of the alert rules, from one table, so a colour and an alert never disagree.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as model
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporter.alert_rules.alert import RUNBOOK
from exporter.alert_rules.thresholds import THRESHOLDS
from grafana.meanings import BLUE, GREEN, GREY, RED, colour_overrides

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
AGENT = 'job=~"$job", instance=~"$instance"'
WATCHED = f'{AGENT}, database=~"$database"'
QUEUED = f'{WATCHED}, queue=~"$queue"'
# How a curve is called. The instance tells two agents apart that have a database of the same name.
OF_DATABASE = "{{database}} on {{instance}}"
# Heads of columns that are more than the label with a capital.
COLUMN_TITLES = {
    "alertname": "Alert",
    "sqlite_version": "SQLite",
    "python_version": "Python",
    "owner_sqlite_version": "Owner's SQLite",
}

Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | table.Panel
P = TypeVar("P", stat.Panel, timeseries.Panel, statetimeline.Panel, table.Panel)
Steps = dashboard.ThresholdsConfig
Query = prometheus.Dataquery


def red_above(threshold: str, colour: str = RED) -> Steps:
    """Green up to the threshold of this name; a count is whole, so the first bad one is the next."""
    bound = THRESHOLDS[threshold]
    return threshold_steps((None, GREEN), (bound.value + (bound.unit == "count"), colour))


def red_below(threshold: str) -> Steps:
    """Red below the threshold of this name."""
    return threshold_steps((None, RED), (THRESHOLDS[threshold].value, GREEN))


def threshold_steps(*pairs: tuple[float | None, str]) -> Steps:
    """Threshold steps; None is minus infinity."""
    made = [Threshold(value=value, color=colour) for value, colour in pairs]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


PLAIN = threshold_steps((None, BLUE))


def range_query(expression: str, legend: str) -> Query:
    """A query over the time that is shown."""
    return _data_query(expression).legend_format(legend).range()


def instant_query(expression: str, legend: str = "") -> Query:
    """A query of this moment."""
    return _data_query(expression).legend_format(legend).instant()


def growth_query(metric: str, by: str, labels: str) -> str:
    """How much a counter grew in each step of the curve, summed by these labels: for `bars`, whose steps do not overlap.

    In whole numbers: `increase` would extrapolate one run to 1.3. 0 where it went back: a file that was replaced.
    """
    counter = f"{metric}{{{labels}}}"
    return f"sum by ({by}) (clamp_min({counter} - {counter} offset $__interval, 0))"


def event_query(metric: str, by: str, labels: str) -> str:
    """`grown` for counters of our own, whose first event counts too: a counter begins with it.

    Others of the same counter must have been there before, else a life's events would be new when Prometheus first sees
    them. One that went back began again at 0: what it has is new.
    """
    counter = f"{metric}{{{labels}}}"
    before = f"{counter} offset $__interval"
    began = f"{counter} and on (job, instance, database) {before}"
    return f"sum by ({by}) (({counter} - {before} >= 0) or {began})"


def number_panel(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "short",
    thresholds: Steps = PLAIN,
    alert: str = "",
    mappings: Sequence[ValueMapping] = (),
    none: str = "no data",
    width: int = 3,
) -> stat.Panel:
    """One number, now, in the colour of its threshold. `none`: the words where there is no value."""
    panel = (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(model.BigValueColorMode.VALUE)
        .graph_mode(model.BigValueGraphMode.NONE)
        .with_target(instant_query(expression, title).ref_id("A"))
        .mappings([*mappings, *_null_mapping(none)])
    )
    return _finish_panel(panel, title, description, unit, thresholds, alert).span(width).height(4)


def line_panel(
    title: str,
    description: str,
    *targets: Query,
    unit: str,
    thresholds: Steps | None = None,
    alert: str = "",
    stacked: bool = False,
    most: float | None = None,
    words: Mapping[str, str] | None = None,
    width: int = 8,
) -> timeseries.Panel:
    """Curves over time; gaps stay gaps, because an absent reading is not a value. `words`: the colours of meanings.py."""
    line = model.GraphThresholdsStyleMode.DASHED if thresholds else model.GraphThresholdsStyleMode.OFF
    panel = (
        _time_series_panel("lastNotNull", targets, unit, words)
        .draw_style(model.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(25 if stacked else 0)
        .show_points(model.VisibilityMode.AUTO)
        .stacking(_stacking_config(stacked))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(line))
    )
    if most is not None:
        panel.max(most)
    return _finish_panel(panel, title, description, unit, thresholds or PLAIN, alert).span(width).height(8)


def bar_panel(
    title: str,
    description: str,
    *targets: Query,
    unit: str = "short",
    alert: str = "",
    words: Mapping[str, str] | None = None,
    width: int = 8,
    height: int = 8,
) -> timeseries.Panel:
    """`events` as stacked bars, of at least a minute: shorter ones would hold less than two scrapes."""
    panel = (
        _time_series_panel("sum", targets, unit, words)
        .interval("1m")
        .draw_style(model.GraphDrawStyle.BARS)
        .line_width(0)
        .fill_opacity(80)
        .stacking(_stacking_config(True))
    )
    return _finish_panel(panel, title, description, unit, PLAIN, alert).span(width).height(height)


def state_panel(
    title: str, description: str, *targets: Query, words: Mapping[str, tuple[int, str]], alert: str = "", width: int = 8
) -> statetimeline.Panel:
    """One bar for each series, in the colour of its state."""
    panel = (
        statetimeline.Panel()
        .targets(list(_add_reference_ids(targets)))
        .mappings(value_mapping(words))
        .merge_values(True)
        .show_value(model.VisibilityMode.AUTO)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(False))
    )
    return _finish_panel(panel, title, description, "short", PLAIN, alert).span(width).height(8)


def table_panel(
    title: str,
    description: str,
    columns: Mapping[str, Query],
    *,
    by: Sequence[str],
    overrides: Mapping[str, Sequence[DynamicConfigValue]],
    width: int = 24,
    height: int = 8,
    alert: str = "",
) -> table.Panel:
    """A table: the queries' values side by side, one line for each value of the labels `by`, the first one sorted by.

    A query without a head is there for its labels: its value is not shown.
    """
    panel = table.Panel()
    for letter, query in zip(_reference_ids(), columns.values(), strict=False):
        panel.with_target(query.ref_id(letter).format(PromQueryFormat.TABLE))
    names = dict(zip((f"Value #{letter}" for letter in _reference_ids()), columns, strict=False))
    panel.transformations(
        [
            DataTransformerConfig(id_val="merge", options={}),
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True, **{name: True for name, head in names.items() if not head}},
                    "indexByName": {name: place for place, name in enumerate([*by, *names])},
                    "renameByName": {**{label: _column_title(label) for label in by}, **names},
                },
            ),
        ]
    )
    for name, properties in overrides.items():
        panel.override_by_name(name, list(properties))
    panel.sort_by([common.TableSortByFieldState().display_name(_column_title(by[0]))]).cell_height(
        model.TableCellHeight.SM
    )
    return _finish_panel(panel, title, description, "short", PLAIN, alert).span(width).height(height)


def _column_title(label: str) -> str:
    return COLUMN_TITLES.get(label, label.replace("_", " ").capitalize())


def column_style(
    *, unit: str = "", thresholds: Steps | None = None, link: str = "", words: Sequence[ValueMapping] = ()
) -> list[DynamicConfigValue]:
    """How one column of a table looks: its unit, its colours, where a click leads."""
    properties = [DynamicConfigValue(id_val="unit", value=unit)] if unit else []
    if thresholds is not None:
        properties += [
            DynamicConfigValue(id_val="thresholds", value=thresholds.build()),
            DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
    if words:
        properties.append(DynamicConfigValue(id_val="mappings", value=list(words)))
    if link:
        properties.append(DynamicConfigValue(id_val="links", value=[{"title": "Show this database", "url": link}]))
    return properties


def value_mapping(values: Mapping[str, tuple[int, str]]) -> list[ValueMapping]:
    """Words and colours for numbers."""
    options = {str(value): ValueMappingResult(text=text, color=colour) for text, (value, colour) in values.items()}
    return [ValueMap(options=options)]


def _null_mapping(words: str) -> list[ValueMapping]:
    null = SpecialValueMap()
    null.options.match = SpecialValueMatch.NULL
    null.options.result = ValueMappingResult(text=words, color=GREY)
    return [null]


def _data_query(expression: str) -> Query:
    return prometheus.Dataquery().expr(expression).datasource(DATASOURCE)


def _finish_panel(panel: P, title: str, description: str, unit: str, thresholds: Steps, alert: str) -> P:
    """What every panel has. `alert` links to the runbook's section of the alert that the panel explains."""
    by_series = isinstance(panel, timeseries.Panel)
    mode = FieldColorModeId.PALETTE_CLASSIC if by_series else FieldColorModeId.THRESHOLDS
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit).min(0)
    panel.thresholds(thresholds).color_scheme(dashboard.FieldColor().mode(mode))
    if alert:
        link = dashboard.DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOK}#{alert.lower()}").target_blank(True)])
    return panel


def _time_series_panel(
    calculation: str, targets: Sequence[Query], unit: str, words: Mapping[str, str] | None
) -> timeseries.Panel:
    """A legend that takes the room of its names only: a table shows two series and hides the others."""
    legend = (
        common.VizLegendOptions()
        .display_mode(model.LegendDisplayMode.LIST)
        .placement(model.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([calculation])
    )
    tooltip = common.VizTooltipOptions().mode(model.TooltipDisplayMode.MULTI).sort(model.SortOrder.DESCENDING)
    panel = (
        timeseries.Panel().targets(list(_add_reference_ids(targets))).legend(legend).tooltip(tooltip).span_nulls(False)
    )
    if unit == "short":  # counts: a panel of zeros ends at 1, not at 100
        panel.axis_soft_max(1)
    for pattern, look in colour_overrides(words or {}):
        panel.override_by_regexp(pattern, look)
    return panel


def _stacking_config(stacked: bool) -> common.StackingConfig:
    return common.StackingConfig().mode(model.StackingMode.NORMAL if stacked else model.StackingMode.NONE).group("A")


def _add_reference_ids(targets: Sequence[Query]) -> list[Query]:
    return [query.ref_id(letter) for letter, query in zip(_reference_ids(), targets, strict=False)]


def _reference_ids() -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
