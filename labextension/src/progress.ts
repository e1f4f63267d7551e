/**
 * How a run stands as far as its events tell: a pure fold, the clock is given. The same rules as
 * `jupyter_mlops/progress/state.py`. Knows no view and no connection; every collection is bounded.
 */

import { CellEvent, Event, isEnd, MetricEvent, NoticeEvent, ResourceEvent, RunEvent } from './events';
import { LogTail } from './log';
import { parseMetric } from './text';
import { RunState } from './wire';

const SERIES_POINTS = 300;
const SERIES_COUNT = 50;
const NOTICES = 20;
const CELLS = 10_000;

export interface Cell {
  index: number;
  number: number;
  title: string;
  digest: string;
  state: CellEvent['state'];
  since: number;
  /** Seconds, once ended. */
  duration: number | null;
}

export interface Point {
  step: number;
  value: number;
}

export class Progress {
  state: RunState = 'pending';
  phase = '';
  totalCells: number | null = null;
  readonly cells = new Map<number, Cell>();
  current: Cell | null = null;
  resource: ResourceEvent | null = null;
  readonly metrics = new Map<string, Point[]>();
  /** Metrics beyond the first keys that are kept. */
  readonly metricsLeftOut = new Set<string>();
  readonly log = new LogTail();
  readonly notices: NoticeEvent[] = [];
  mlflowUrl: string | null = null;
  /** The event that ended the run. */
  end: RunEvent | null = null;
  startTime: number | null = null;
  endTime: number | null = null;

  constructor(
    /** Seconds a cell took last time, by the digest of its source. */
    public expected: Readonly<Record<string, number>> = {}
  ) {}

  apply(event: Event): void {
    const time = Date.parse(event.time);
    this.startTime ??= time;
    switch (event.type) {
      case 'run':
        this._run(event, time);
        break;
      case 'cell':
        this._cell(event, time);
        break;
      case 'metric':
        this._metric(event);
        break;
      case 'log':
        this.log.append(event);
        break;
      case 'resource':
        this.resource = event;
        break;
      case 'notice':
        if (!this.notices.some(notice => notice.message === event.message)) {
          this.notices.push(event);
          this.notices.splice(0, this.notices.length - NOTICES);
        }
        break;
    }
  }

  /** Code cells that ended well. */
  get done(): number {
    let count = 0;
    for (const cell of this.cells.values()) {
      count += cell.state === 'succeeded' ? 1 : 0;
    }
    return count;
  }

  /** How much is done, 0 to 1; null while that is unknown. */
  get fraction(): number | null {
    if (this.state === 'succeeded') {
      return 1;
    }
    return this.totalCells ? Math.min(1, this.done / this.totalCells) : null;
  }

  /** Seconds that the rest will take by the last run; null: it tells nothing, or this one has ended. */
  remaining(now: number): number | null {
    const known = Object.entries(this.expected);
    if (known.length === 0 || this.end) {
      return null;
    }
    const mean = known.reduce((sum, [, seconds]) => sum + seconds, 0) / known.length;
    const seen = new Set([...this.cells.values()].map(cell => cell.digest));
    const unseen = known.filter(([digest]) => !seen.has(digest)).map(([, seconds]) => seconds);
    const count = this.totalCells === null ? unseen.length : Math.max(0, this.totalCells - this.cells.size);
    const sum = unseen.reduce((total, seconds) => total + seconds, 0);
    // Cells were taken out since: which of the unseen are still to come is not known.
    let rest = unseen.length <= count ? sum + (count - unseen.length) * mean : (count * sum) / unseen.length;
    if (this.current) {
      const whole = this.expected[this.current.digest] ?? mean;
      rest += Math.max(0, whole - (now - this.current.since) / 1000);
    }
    return rest;
  }

  private _run(event: RunEvent, time: number): void {
    this.totalCells = event.total_cells ?? this.totalCells;
    this.mlflowUrl = event.mlflow_url ?? this.mlflowUrl;
    if (this.end) {
      return; // an end stands: what is written after it was late or a second opinion
    }
    this.state = event.state;
    this.phase = event.phase;
    if (isEnd(event.state)) {
      this.end = event;
      this.endTime = time;
      this.current = null;
    }
  }

  private _cell(event: CellEvent, time: number): void {
    const before = this.cells.get(event.index);
    if (!before && this.cells.size >= CELLS) {
      return;
    }
    const running = event.state === 'running';
    const cell: Cell = {
      index: event.index,
      number: event.number,
      title: event.title || (before?.title ?? ''),
      digest: event.digest || (before?.digest ?? ''),
      state: event.state,
      since: running || !before ? time : before.since,
      duration: event.duration
    };
    this.cells.set(event.index, cell);
    if (running) {
      this.current = this.end ? null : cell;
    } else if (this.current?.index === event.index) {
      this.current = null;
    }
  }

  private _metric(event: MetricEvent): void {
    let points = this.metrics.get(event.key);
    if (!points) {
      if (this.metrics.size >= SERIES_COUNT) {
        if (this.metricsLeftOut.size < CELLS) {
          this.metricsLeftOut.add(event.key);
        }
        return;
      }
      points = [];
      this.metrics.set(event.key, points);
    }
    points.push({ step: event.step, value: parseMetric(event.value) });
    if (points.length > 2 * SERIES_POINTS) {
      // Every second point goes, so that a long curve keeps its whole course.
      const last = points.length - 1;
      const kept = points.filter((_, index) => index % 2 === 0 || index === last);
      points.splice(0, points.length, ...kept);
    }
  }
}
