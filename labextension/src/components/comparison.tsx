/** Runs side by side in a tab: what differs first to the eye, and the curves of each metric in one picture. */

import { MainAreaWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';
import { Api } from '../api';
import { asProblem, ProblemError } from '../problem';
import { mlopsIcon } from '../icons';
import { strokes } from '../strokes';
import { formatDuration, formatMetric, parseMetric, printable } from '../text';
import { ComparedOut, RunState } from '../wire';
import { ProblemView, StateMark } from './marks';

const WIDTH = 320;
const HEIGHT = 120;

export function comparisonWidget(
  api: Api,
  runIds: readonly string[],
  trans: TranslationBundle
): MainAreaWidget {
  const content = ReactWidget.create(<Comparison api={api} runIds={runIds} trans={trans} />);
  content.addClass('jp-mlops-comparison');
  const widget = new MainAreaWidget({ content });
  widget.id = `jupyter-mlops-compare-${runIds.join('-')}`;
  widget.title.label = trans._n('Compare %1 run', 'Compare %1 runs', runIds.length);
  widget.title.icon = mlopsIcon;
  widget.title.closable = true;
  return widget;
}

interface ComparisonProps {
  api: Api;
  runIds: readonly string[];
  trans: TranslationBundle;
}

function Comparison({ api, runIds, trans }: ComparisonProps): React.JSX.Element {
  const [runs, setRuns] = React.useState<ComparedOut[] | null>(null);
  const [problem, setProblem] = React.useState<ProblemError | null>(null);
  const [onlyDifferent, setOnlyDifferent] = React.useState(false);
  React.useEffect(() => {
    let wanted = true;
    api.compare(runIds).then(
      found => wanted && setRuns(found),
      (error: unknown) => wanted && setProblem(asProblem(error))
    );
    return () => {
      wanted = false;
    };
  }, [api, runIds]);
  if (problem) {
    return <ProblemView problem={problem} />;
  }
  if (!runs) {
    return <p>{trans.__('Loading…')}</p>;
  }
  const shown = (rows: TableRow[]) => (onlyDifferent ? rows.filter(row => row.differs) : rows);
  const curves = keysOf(runs.map(run => run.history)).filter(key =>
    runs.some(run => (run.history[key]?.length ?? 0) > 1)
  );
  return (
    <>
      <label className="jp-mlops-switch">
        <input
          type="checkbox"
          checked={onlyDifferent}
          onChange={event => setOnlyDifferent(event.currentTarget.checked)}
        />
        {trans.__('Only what differs')}
      </label>
      <table>
        <thead>
          <tr>
            <td />
            {runs.map((run, index) => (
              <th key={run.run_id} scope="col">
                <span className={`jp-mlops-swatch jp-mod-${index}`} aria-hidden="true" />
                {printable(run.name)}
                <div className="jp-mlops-note">{run.run_id.slice(0, 12)}</div>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">{trans.__('State')}</th>
            {runs.map(run => (
              <td key={run.run_id}>
                <StateMark state={run.state as RunState} trans={trans} />
              </td>
            ))}
          </tr>
          <tr>
            <th scope="row">{trans.__('Time')}</th>
            {runs.map(run => (
              <td key={run.run_id}>{run.duration === null ? '' : formatDuration(run.duration)}</td>
            ))}
          </tr>
        </tbody>
        <Rows
          title={trans.__('Parameters')}
          rows={shown(
            rowsOf(
              runs.map(run => run.params),
              String
            )
          )}
          trans={trans}
        />
        <Rows
          title={trans.__('Metrics')}
          rows={shown(
            rowsOf(
              runs.map(run => run.metrics),
              value => formatMetric(parseMetric(value))
            )
          )}
          trans={trans}
        />
      </table>
      <div className="jp-mlops-overlays">
        {curves.map(key => (
          <Overlay key={key} name={key} runs={runs} trans={trans} />
        ))}
      </div>
    </>
  );
}

export interface TableRow {
  name: string;
  values: string[];
  differs: boolean;
}

/** One row for each name that any of the runs has, in order of appearance; what a run lacks is empty. */
export function rowsOf<T>(records: readonly Record<string, T>[], write: (value: T) => string): TableRow[] {
  return keysOf(records).map(name => {
    const values = records.map(record => (Object.hasOwn(record, name) ? write(record[name] as T) : ''));
    return { name, values, differs: new Set(values).size > 1 };
  });
}

function keysOf(records: readonly Record<string, unknown>[]): string[] {
  return [...new Set(records.flatMap(record => Object.keys(record)))];
}

function Rows({
  title,
  rows,
  trans
}: {
  title: string;
  rows: TableRow[];
  trans: TranslationBundle;
}): React.JSX.Element | null {
  if (rows.length === 0) {
    return null;
  }
  return (
    <tbody>
      <tr>
        <th scope="rowgroup" colSpan={(rows[0]?.values.length ?? 0) + 1} className="jp-mlops-group">
          {title}
        </th>
      </tr>
      {rows.map(row => (
        <tr key={row.name} className={row.differs ? 'jp-mod-differs' : ''}>
          <th scope="row">
            {printable(row.name)}
            {row.differs && <span className="jp-mlops-hidden">{trans.__(', differs')}</span>}
          </th>
          {row.values.map((value, index) => (
            <td key={index}>{printable(value)}</td>
          ))}
        </tr>
      ))}
    </tbody>
  );
}

interface OverlayProps {
  name: string;
  runs: readonly ComparedOut[];
  trans: TranslationBundle;
}

/** The curves of one metric over the same axes. */
function Overlay({ name, runs, trans }: OverlayProps): React.JSX.Element {
  const series = runs.map(run =>
    (run.history[name] ?? []).map(([step, value]) => ({ step, value: parseMetric(value) }))
  );
  const all = series.flat().filter(point => Number.isFinite(point.value));
  const corners = [
    {
      step: Math.min(...all.map(point => point.step)),
      value: Math.min(...all.map(point => point.value))
    },
    { step: Math.max(...all.map(point => point.step)), value: Math.max(...all.map(point => point.value)) }
  ];
  const said = runs.map((run, index) => {
    const last = series[index]?.at(-1);
    return `${printable(run.name)} ${run.run_id.slice(0, 6)}: ${last ? formatMetric(last.value) : trans.__('none')}`;
  });
  return (
    <figure className="jp-mlops-overlay">
      <figcaption>{printable(name)}</figcaption>
      <svg
        role="img"
        aria-label={trans.__('%1, last values: %2', printable(name), said.join(', '))}
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
      >
        {series.map((points, index) =>
          strokes(points, WIDTH, HEIGHT, corners).map((path, part) => (
            <path
              key={`${index}-${part}`}
              className={`jp-mod-${index}`}
              d={path}
              vectorEffect="non-scaling-stroke"
            />
          ))
        )}
      </svg>
      <div className="jp-mlops-axis">
        <span>{corners[0] && Number.isFinite(corners[0].value) ? formatMetric(corners[0].value) : ''}</span>
        <span>{corners[1] && Number.isFinite(corners[1].value) ? formatMetric(corners[1].value) : ''}</span>
      </div>
    </figure>
  );
}
