// The page that a headless browser opens: /?dashboard=overview&theme=dark&range=300
import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import * as UI from '@grafana/ui';
import { Body, seriesFrames, tableFrame } from './panels.jsx';

const COLUMN = 60, LINE = 36, GAP = 8, HEADER = 38;
const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: asked.get('theme') } });
const seconds = +asked.get('range');
const end = Math.floor(Date.now() / 1000);
const range = { from: dateTime((end - seconds) * 1000), to: dateTime(end * 1000), raw: { from: `now-${seconds}s`, to: 'now' } };
const CHOSEN = { database: asked.get('database') || '.+', queue: '.*' };

function expression(target, step) {
  const windows = { __rate_interval: `${Math.max(4 * step, 10)}s`, __interval: `${step}s`, __range: `${seconds}s` };
  return target.expr.replace(/\$\{?(\w+)\}?/g, (_, name) => windows[name] ?? CHOSEN[name] ?? '.+');
}

async function answer(target, panel) {
  // Where a panel wants bars of at least a minute, the picture of some minutes has bars of ten seconds.
  const step = panel.interval ? 10 : Math.max(1, Math.round(seconds / 240));
  const asks = expression(target, step);
  const path = target.instant
    ? `/api/v1/query?time=${end}` : `/api/v1/query_range?start=${end - seconds}&end=${end}&step=${step}`;
  const reply = await (await fetch(`${path}&query=${encodeURIComponent(asks)}`)).json();
  if (reply.status !== 'success') throw new Error(`${reply.error} in ${asks}`);
  return { result: reply.data.result, legend: target.legendFormat, refId: target.refId };
}

async function drawn(panel) {
  const answers = await Promise.all(panel.targets.map((target) => answer(target, panel)));
  const frames = panel.type === 'table' ? tableFrame(panel, answers, theme) : seriesFrames(panel, answers, theme);
  const [width, height] = [panel.gridPos.w * COLUMN - GAP, panel.gridPos.h * LINE - GAP];
  const place = { position: 'absolute', left: panel.gridPos.x * COLUMN, top: panel.gridPos.y * LINE, width, height };
  return (
    <div key={panel.id} style={place}>
      <UI.PanelChrome title={panel.title} width={width} height={height} padding="md">
        {(innerWidth, innerHeight) => <Body {...{ panel, frames, range, theme }} width={innerWidth} height={innerHeight} />}
      </UI.PanelChrome>
    </div>
  );
}

function Title({ board }) {
  return <div style={{ height: HEADER, fontSize: 20, padding: '4px 4px' }}>{board.title}</div>;
}

function Row({ panel }) {
  const place = { position: 'absolute', left: 4, top: panel.gridPos.y * LINE + 6, fontSize: 15, fontWeight: 500 };
  return <div style={place}>{panel.title}</div>;
}

async function main() {
  const board = await (await fetch(`/${asked.get('dashboard')}.json`)).json();
  const last = +asked.get('lines') || Infinity;
  const shown = board.panels.filter((panel) => panel.gridPos.y + panel.gridPos.h <= last);
  const bodies = await Promise.all(shown.filter((panel) => panel.type !== 'row').map(drawn));
  const rows = shown.filter((panel) => panel.type === 'row').map((panel) => <Row key={panel.id} panel={panel} />);
  const look = { background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 8, width: 24 * COLUMN + 8,
    fontFamily: 'Liberation Sans, DejaVu Sans, sans-serif' };
  const height = Math.max(...shown.map((panel) => panel.gridPos.y + panel.gridPos.h)) * LINE;
  document.title = `height ${height + HEADER + 16}`;
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <UI.GlobalStyles />
      <div style={look}><Title board={board} /><div style={{ position: 'relative', height }}>{rows}{bodies}</div></div>
    </ThemeContext.Provider>,
  );
}

main().catch((error) => { document.getElementById('root').innerText = `FAILED ${error.stack}`; });
