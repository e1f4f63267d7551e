/** The cells of a run with their times, beside what they took last time. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { stateIcons } from '../icons';
import { Cell, Progress } from '../progress';
import { formatDuration, printable } from '../text';
import { useClock } from './signal';
import { stateWord } from './words';

const MOST = 200;

export function CellList({
  progress,
  trans
}: {
  progress: Progress;
  trans: TranslationBundle;
}): React.JSX.Element {
  const now = useClock(progress.current !== null);
  const cells = [...progress.cells.values()].sort((a, b) => a.index - b.index);
  const left = cells.length - MOST;
  return (
    <>
      {left > 0 && <p className="jp-mlops-note">{trans._n('%1 earlier cell', '%1 earlier cells', left)}</p>}
      <ol className="jp-mlops-cells">
        {cells.slice(-MOST).map(cell => (
          <CellRow key={cell.index} cell={cell} progress={progress} now={now} trans={trans} />
        ))}
      </ol>
    </>
  );
}

interface CellRowProps {
  cell: Cell;
  progress: Progress;
  now: number;
  trans: TranslationBundle;
}

function CellRow({ cell, progress, now, trans }: CellRowProps): React.JSX.Element {
  // A run that was ended from outside leaves its last cell without an end.
  const state = cell.state === 'running' && progress.end ? 'cancelled' : cell.state;
  const icon = stateIcons[state];
  const expected = progress.expected[cell.digest];
  const took = cell.duration ?? (state === 'running' ? Math.max(0, now - cell.since) / 1000 : null);
  return (
    <li className={`jp-mlops-cell jp-mod-${state}`}>
      <icon.react tag="span" className="jp-mlops-stateIcon" title={stateWord(state, trans)} />
      <span className="jp-mlops-cellTitle">
        {`${cell.number}. ${printable(cell.title)}`}
        <span className="jp-mlops-hidden">{`, ${stateWord(state, trans)}`}</span>
      </span>
      <span
        className="jp-mlops-cellTime"
        title={expected === undefined ? undefined : trans.__('%1 last time', formatDuration(expected))}
      >
        {took === null ? '' : formatDuration(took)}
        {state === 'running' && expected !== undefined && ` / ${formatDuration(expected)}`}
      </span>
    </li>
  );
}
