// The page that a headless browser opens: /?dashboard=overview&theme=dark&end=1790000000&range=300&first=0&last=40
import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import * as UI from '@grafana/ui';
import { Body, seriesFrames, tableFrame } from './panels.jsx';

const COLUMN = 60, LINE = 36, GAP = 8, HEADER = 38;
const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: asked.get('theme') } });
const seconds = +asked.get('range');
const end = +asked.get('end');
const range = { from: dateTime((end - seconds) * 1000), to: dateTime(end * 1000), raw: { from: `now-${seconds}s`, to: 'now' } };
const LABEL = 'over `queuekeeper demo`; drawn with @grafana/ui 13.2.2 in headless Chromium, not by a Grafana server';
const CHOSEN = { database: asked.get('database') || '.+', queue: '.*' };

function expression(target, step) {
  const windows = { __rate_interval: `${Math.max(4 * step, 10)}s`, __interval: `${step}s`, __range: `${seconds}s` };
  return target.expr.replace(/\$\{?(\w+)\}?/g, (_, name) => windows[name] ?? CHOSEN[name] ?? '.+');
}

async function answer(target, panel) {
  // Where a panel wants bars of at least a minute, the picture of some minutes has bars of five seconds.
  const step = panel.interval ? 5 : Math.max(1, Math.round(seconds / 240));
  const asks = expression(target, step);
  const path = target.instant
    ? `/api/v1/query?time=${end}` : `/api/v1/query_range?start=${end - seconds}&end=${end}&step=${step}`;
  const reply = await (await fetch(`${path}&query=${encodeURIComponent(asks)}`)).json();
  if (reply.status !== 'success') throw new Error(`${reply.error} in ${asks}`);
  return { result: reply.data.result, legend: target.legendFormat, refId: target.refId };
}

// [time in ms, colour] of what the dashboard's annotations find.
async function marks(board) {
  const found = await Promise.all(board.annotations.list.map(async ({ expr, iconColor }) => {
    const { result } = await answer({ expr }, { interval: '10s' });
    return result.flatMap(({ values }) => begins(values).map((time) => [time * 1000, theme.visualization.getColorByName(iconColor)]));
  }));
  return found.flat();
}

// Where a series appears after not having been there.
function begins(values) {
  return values.map(([time]) => time).filter((time, index, times) => index === 0 || time - times[index - 1] > 10);
}

async function drawn(panel, events, top) {
  const answers = await Promise.all(panel.targets.map((target) => answer(target, panel)));
  const frames = panel.type === 'table' ? tableFrame(panel, answers, theme) : seriesFrames(panel, answers, theme);
  const [width, height] = [panel.gridPos.w * COLUMN - GAP, panel.gridPos.h * LINE - GAP];
  const place = { position: 'absolute', left: panel.gridPos.x * COLUMN, top: (panel.gridPos.y - top) * LINE, width, height };
  return (
    <div key={panel.id} style={place}>
      <UI.PanelChrome title={panel.title} width={width} height={height} padding="md">
        {(innerWidth, innerHeight) => <Body {...{ panel, frames, range, theme, events }} width={innerWidth} height={innerHeight} />}
      </UI.PanelChrome>
    </div>
  );
}

function Title({ board }) {
  const look = { height: HEADER, fontSize: 20, padding: '4px 4px', display: 'flex', justifyContent: 'space-between' };
  const small = { fontSize: 11, opacity: 0.65, paddingTop: 10, paddingRight: 8 };
  return <div style={look}><span>{board.title}</span><span style={small}>{LABEL}</span></div>;
}

function Row({ panel, top }) {
  const place = { position: 'absolute', left: 4, top: (panel.gridPos.y - top) * LINE + 6, fontSize: 15, fontWeight: 500 };
  return <div style={place}>{panel.title}</div>;
}

async function main() {
  const board = await (await fetch(`/${asked.get('dashboard')}.json`)).json();
  const [first, last] = [+asked.get('first'), +asked.get('last')];
  const shown = board.panels.filter(({ gridPos }) => gridPos.y >= first && gridPos.y + gridPos.h <= last);
  const top = Math.min(...shown.map(({ gridPos }) => gridPos.y));
  const events = await marks(board);
  const bodies = await Promise.all(shown.filter((panel) => panel.type !== 'row').map((panel) => drawn(panel, events, top)));
  const rows = shown.filter((panel) => panel.type === 'row').map((panel) => <Row key={panel.id} panel={panel} top={top} />);
  const look = { background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 8, width: 24 * COLUMN + 8,
    fontFamily: 'Liberation Sans, DejaVu Sans, sans-serif' };
  const height = (Math.max(...shown.map((panel) => panel.gridPos.y + panel.gridPos.h)) - top) * LINE;
  document.title = `height ${height + HEADER + 16}`;
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <UI.GlobalStyles />
      <div style={look}><Title board={board} /><div style={{ position: 'relative', height }}>{rows}{bodies}</div></div>
    </ThemeContext.Provider>,
  );
}

main().catch((error) => { document.getElementById('root').innerText = `FAILED ${error.stack}`; });
