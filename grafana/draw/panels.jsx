// Draws one panel of a dashboard file with Grafana's own components. The grids of tables and state timelines are ours; their
// texts, units and colours are Grafana's.
import React, { useLayoutEffect } from 'react';
import {
  FieldColorModeId, FieldType, getDisplayProcessor, getFieldDisplayValues, getFieldSeriesColor, stringToJsRegex, toDataFrame,
} from '@grafana/data';
import * as UI from '@grafana/ui';

const ZONE = 'utc';

// One frame for each series of a range query, configured as the panel says.
export function seriesFrames(panel, answers, theme) {
  const frames = answers.flatMap(({ result, legend }) => result.map((series) => toDataFrame({
    fields: [
      { name: 'Time', type: FieldType.time, values: (series.values ?? [series.value]).map(([time]) => time * 1000) },
      { name: named(legend, series.metric), type: FieldType.number, labels: {},
        values: (series.values ?? [series.value]).map(([, value]) => (Number.isFinite(+value) ? +value : null)) },
    ],
  })));
  frames.forEach((frame, index) => frame.fields.forEach((field) => {
    configure(field, merged(panel.fieldConfig.defaults, own(panel, field)), index, theme);
  }));
  return frames;
}

// One frame for a table: the answers joined by the labels of its columns.
export function tableFrame(panel, answers, theme) {
  const options = panel.transformations.find((each) => each.id === 'organize').options;
  const names = Object.keys(options.indexByName).filter((name) => !options.excludeByName[name]).sort((a, b) => options.indexByName[a] - options.indexByName[b]);
  const labels = names.filter((name) => !name.startsWith('Value #'));
  const lines = new Map();
  answers.forEach(({ result, refId }) => result.forEach((series) => {
    const shared = labels.filter((label) => label in series.metric);
    const key = JSON.stringify([series.metric.database, series.metric.instance, series.metric.alertname]);
    const line = lines.get(key) ?? {};
    shared.forEach((label) => { line[label] = series.metric[label]; });
    line[`Value #${refId}`] = +series.value[1];
    lines.set(key, line);
  }));
  const rows = [...lines.values()].sort((a, b) => String(a[labels[0]]).localeCompare(String(b[labels[0]])));
  const frame = toDataFrame({ fields: names.map((name) => ({
    name: options.renameByName[name] ?? name,
    type: labels.includes(name) ? FieldType.string : FieldType.number,
    values: rows.map((row) => row[name] ?? null),
  })) });
  frame.fields.forEach((field, index) => {
    configure(field, merged(panel.fieldConfig.defaults, own(panel, field)), index, theme);
  });
  return frame;
}

// What the panel's overrides say of this field.
function own(panel, field) {
  const meant = ({ id, options }) => (id === 'byRegexp' ? stringToJsRegex(options).test(field.name) : options === field.name);
  return (panel.fieldConfig.overrides ?? []).filter((each) => meant(each.matcher)).flatMap((each) => each.properties).reduce(override, {});
}

function override(found, { id, value }) {
  const [head, rest] = id.split('.');
  return rest ? { ...found, [head]: { ...found[head], [rest]: value } } : { ...found, [head]: value };
}

function merged(defaults, own) {
  return { ...defaults, ...own, custom: { ...defaults.custom, ...own.custom }, links: [] };
}

function configure(field, defaults, index, theme) {
  const steps = defaults.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  const color = defaults.color ?? { mode: FieldColorModeId.Thresholds };
  field.config = { ...defaults, color, thresholds: { ...defaults.thresholds, steps } };
  field.state = { seriesIndex: index, displayName: field.name };
  field.display = getDisplayProcessor({ field, theme, timeZone: ZONE });
}

function named(legend, labels) {
  return (legend || '').replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '') || 'value';
}

export function Body({ panel, frames, width, height, range, theme, events }) {
  if (panel.type === 'table') return <Table {...{ frame: frames, height, theme }} />;
  if (panel.type === 'stat') return <Stat {...{ panel, frames, width, height, theme }} />;
  if (!frames.length) return <div style={{ opacity: 0.6, textAlign: 'center', paddingTop: height / 2 - 20 }}>No data</div>;
  if (panel.type === 'state-timeline') return <Timeline {...{ frames, width, height, range, theme }} />;
  return (
    <UI.TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone={ZONE}
      legend={panel.options.legend} options={panel.options}>
      {(config) => <Marks config={config} events={events} />}
    </UI.TimeSeries>
  );
}

// A line through the curves for each event, as Grafana draws annotations.
function Marks({ config, events }) {
  useLayoutEffect(() => config.addHook('draw', ({ ctx, bbox, valToPos }) => {
    ctx.save();
    ctx.setLineDash([3, 3]);
    events.forEach(([time, colour]) => {
      const x = Math.round(valToPos(time, 'x', true));
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillRect(x - 2, bbox.top + bbox.height - 4, 5, 4);
    });
    ctx.restore();
  }), [config, events]);
  return null;
}

function Table({ frame, height, theme }) {
  const edge = `1px solid ${theme.colors.border.weak}`;
  const cell = { padding: '5px 8px', textAlign: 'left', whiteSpace: 'nowrap', borderBottom: edge };
  const coloured = (field) => field.config.custom?.cellOptions?.type === 'color-text';
  return (
    <div style={{ height, overflow: 'hidden' }}>
      <table style={{ width: '100%', fontSize: 12, borderCollapse: 'collapse' }}>
        <thead><tr>{frame.fields.map((field) => <th key={field.name} style={{ ...cell, color: theme.colors.text.link }}>{field.name}</th>)}</tr></thead>
        <tbody>
          {Array.from({ length: frame.length }, (_, line) => (
            <tr key={line}>{frame.fields.map((field) => {
              const value = field.values[line];
              const shown = value === null ? { text: '' } : field.display(value);
              const style = coloured(field) ? { ...cell, color: shown.color } : cell;
              return <td key={field.name} style={style}>{shown.prefix}{shown.text}{shown.suffix}</td>;
            })}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Stat({ panel, frames, width, height, theme }) {
  const replaceVariables = (text) => text;
  const values = frames.length
    ? getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables, theme,
      data: frames, timeZone: ZONE })
    : [{ display: nothing(panel) }];
  return values.map(({ display }, index) => (
    <UI.BigValue key={index} value={{ ...display, title: undefined }} width={width / values.length} height={height} theme={theme}
      colorMode={panel.options.colorMode} graphMode="none" justifyMode="center" textMode="value" />
  ));
}

function nothing(panel) {
  const none = (panel.fieldConfig.defaults.mappings ?? []).find((each) => each.options?.match === 'null');
  return { text: none ? none.options.result.text : 'No data', numeric: NaN, color: '#8e8e8e' };
}

function Timeline({ frames, width, height, range, theme }) {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const names = 165;
  const place = (time) => names + ((time - from) / (to - from)) * (width - names);
  const each = Math.min(46, (height - 10) / frames.length);
  return (
    <svg width={width} height={height} style={{ fontSize: 12 }}>
      {frames.map((frame, line) => {
        const [times, values] = frame.fields;
        const y = line * each + 4;
        return (
          <g key={line}>
            <text x={0} y={y + each / 2 + 4} fill={theme.colors.text.secondary}>{values.name.slice(0, 24)}</text>
            {runs(times.values, values.values).map(([start, end, value]) => {
              const shown = values.display(value);
              const x = place(start);
              const w = Math.max(1, place(end) - x);
              return (
                <g key={start}>
                  <rect x={x} y={y} width={w} height={each * 0.8} fill={shown.color} fillOpacity={0.8} />
                  {w > 50 && <text x={x + 6} y={y + each / 2 + 2} fill="#fff">{shown.text}</text>}
                </g>
              );
            })}
          </g>
        );
      })}
    </svg>
  );
}

// [start, end, value] of stretches with one value; a gap of several steps ends one.
function runs(times, values) {
  const step = times.length > 1 ? times[1] - times[0] : 1000;
  const found = [];
  times.forEach((time, index) => {
    const last = found[found.length - 1];
    if (last && last[2] === values[index] && time - last[1] <= step * 1.5) last[1] = time + step;
    else found.push([time, time + step, values[index]]);
  });
  return found;
}
