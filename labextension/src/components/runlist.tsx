/**
 * The list of runs: only the rows that are seen are in the DOM, older pages come when they are scrolled to. One stop for
 * the Tab key; arrows, Home, End and the page keys move, Enter opens, Space marks a run for comparing.
 */

import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { isEnd } from '../events';
import { RunsModel } from '../models/runs';
import { formatDuration, formatMoment, printable } from '../text';
import { scrollToRow, visibleRows } from '../window';
import { RunOut } from '../wire';
import { StateMark } from './marks';
import { useClock } from './signal';

export const ROW_HEIGHT = 46;
const NEAR = 20;

export interface RunListProps {
  model: RunsModel;
  marked: ReadonlySet<string>;
  /** The run that one comes back from: the focus goes to it. */
  cameFrom: string | null;
  onOpen(runId: string): void;
  onMark(runId: string): void;
  trans: TranslationBundle;
}

export function RunList({ model, marked, cameFrom, onOpen, onMark, trans }: RunListProps): React.JSX.Element {
  const { runs } = model;
  const box = React.useRef<HTMLDivElement>(null);
  const [{ top, height }, setView] = React.useState({ top: 0, height: 600 });
  // By id: new runs push the rows down, and the focus stays with its run.
  const [activeId, setActiveId] = React.useState<string | null>(cameFrom);
  const active = Math.max(
    0,
    runs.findIndex(run => run.run_id === activeId)
  );
  const range = visibleRows(top, height, ROW_HEIGHT, runs.length);
  const shown = runs.slice(range.first, range.end);
  const now = useClock(shown.some(run => !isEnd(run.state)));

  React.useEffect(() => {
    const element = box.current;
    if (!element) {
      return undefined;
    }
    if (cameFrom !== null) {
      element.focus();
    }
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    look();
    return () => observer.disconnect();
  }, [cameFrom]);

  const end = range.end;
  React.useEffect(() => {
    if (model.hasMore && !model.isLoading && end > runs.length - NEAR) {
      void model.more();
    }
  }, [model, model.hasMore, model.isLoading, end, runs.length]);

  const moveTo = (index: number) => {
    const row = Math.max(0, Math.min(runs.length - 1, index));
    setActiveId(runs[row]?.run_id ?? null);
    if (box.current) {
      box.current.scrollTop = scrollToRow(row, box.current.scrollTop, box.current.clientHeight, ROW_HEIGHT);
    }
  };
  const page = Math.max(1, Math.floor(height / ROW_HEIGHT) - 1);
  const onKeyDown = (event: React.KeyboardEvent) => {
    const moves: Record<string, number> = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: runs.length - 1
    };
    const to = moves[event.key];
    const run = runs[active];
    if (to !== undefined) {
      moveTo(to);
    } else if (event.key === 'Enter' && run) {
      onOpen(run.run_id);
    } else if (event.key === ' ' && run) {
      onMark(run.run_id);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div
      ref={box}
      className="jp-mlops-runList"
      role="listbox"
      aria-label={trans.__('Runs, newest first')}
      aria-multiselectable="true"
      aria-activedescendant={runs.length > 0 ? rowId(runs[active]) : undefined}
      tabIndex={0}
      onScroll={event =>
        setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })
      }
      onKeyDown={onKeyDown}
    >
      <div role="presentation" className="jp-mlops-runRows" style={{ height: runs.length * ROW_HEIGHT }}>
        {shown.map((run, index) => (
          <Row
            key={run.run_id}
            run={run}
            position={range.first + index}
            count={model.hasMore ? -1 : runs.length}
            isActive={range.first + index === active}
            isMarked={marked.has(run.run_id)}
            now={isEnd(run.state) ? 0 : now}
            onOpen={onOpen}
            onMark={onMark}
            trans={trans}
          />
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  run: RunOut;
  position: number;
  count: number;
  isActive: boolean;
  isMarked: boolean;
  now: number;
  onOpen(runId: string): void;
  onMark(runId: string): void;
  trans: TranslationBundle;
}

const Row = React.memo(function Row(props: RowProps): React.JSX.Element {
  const { run, position, count, isActive, isMarked, now, onOpen, onMark, trans } = props;
  const name = printable(run.name);
  return (
    // The keys are the list's, see there.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events
    <div
      id={rowId(run)}
      className={`jp-mlops-run${isActive ? ' jp-mod-active' : ''}${isMarked ? ' jp-mod-marked' : ''}`}
      role="option"
      tabIndex={-1}
      aria-selected={isMarked}
      aria-posinset={position + 1}
      aria-setsize={count}
      style={{ top: position * ROW_HEIGHT, height: ROW_HEIGHT }}
      title={`${name} · ${run.run_id}`}
      onClick={() => onOpen(run.run_id)}
    >
      {/* For the mouse; with the keyboard it is Space. */}
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions, jsx-a11y/click-events-have-key-events */}
      <span
        className="jp-mlops-check"
        title={trans.__('Mark for comparing')}
        onClick={event => {
          event.stopPropagation();
          onMark(run.run_id);
        }}
      >
        {isMarked && <checkIcon.react tag="span" />}
      </span>
      <span className="jp-mlops-runName">{name}</span>
      <StateMark state={run.state} trans={trans} />
      <span className="jp-mlops-runFacts">{facts(run, now)}</span>
    </div>
  );
});

function rowId(run: RunOut | undefined): string | undefined {
  return run && `jp-mlops-run-${run.run_id}`;
}

function facts(run: RunOut, now: number): string {
  const created = new Date(run.create_time);
  const parts = [formatMoment(created, new Date()), printable(run.profile)];
  if (run.start_time !== null) {
    const end = run.end_time === null ? now : Date.parse(run.end_time);
    parts.push(formatDuration(Math.max(0, (end - Date.parse(run.start_time)) / 1000)));
  }
  return parts.join(' · ');
}
