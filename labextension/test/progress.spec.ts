import { CellEvent, Event, RunEvent } from '../src/events';
import { Progress } from '../src/progress';

const time = (seconds: number) => new Date(seconds * 1000).toISOString();
const run = (state: RunEvent['state'], seconds: number, more: Partial<RunEvent> = {}): RunEvent => ({
  type: 'run',
  time: time(seconds),
  state,
  phase: '',
  code: null,
  message: '',
  hint: '',
  cell_index: null,
  line: null,
  mlflow_run_id: null,
  mlflow_url: null,
  total_cells: null,
  ...more
});
const cell = (
  number: number,
  state: CellEvent['state'],
  seconds: number,
  more: Partial<CellEvent> = {}
): CellEvent => ({
  type: 'cell',
  time: time(seconds),
  index: number,
  number,
  state,
  title: '',
  digest: `d${number}`,
  duration: state === 'running' ? null : 1,
  ...more
});
const fold = (events: Event[], expected: Record<string, number> = {}) => {
  const progress = new Progress(expected);
  events.forEach(event => progress.apply(event));
  return progress;
};

describe('progress', () => {
  it('counts cells that ended well', () => {
    const progress = fold([
      run('running', 0, { total_cells: 4 }),
      cell(1, 'running', 1),
      cell(1, 'succeeded', 2),
      cell(2, 'running', 2)
    ]);
    expect(progress.fraction).toBe(0.25);
    expect(progress.current?.number).toBe(2);
  });

  it('keeps the title of a cell whose end says none', () => {
    expect(fold([cell(1, 'running', 0, { title: 'train' }), cell(1, 'failed', 1)]).cells.get(1)?.title).toBe(
      'train'
    );
  });

  it('tells the rest by the times of the last run', () => {
    const events = [
      run('running', 0, { total_cells: 3 }),
      cell(1, 'running', 0),
      cell(1, 'succeeded', 10),
      cell(2, 'running', 10)
    ];
    expect(fold(events, { d1: 10, d2: 20, d3: 30 }).remaining(15_000)).toBe(45);
  });

  it('does not promise a negative rest', () => {
    const events = [run('running', 0, { total_cells: 1 }), cell(1, 'running', 0)];
    expect(fold(events, { d1: 10 }).remaining(99_000)).toBe(0);
  });

  it('tells no rest without an earlier run, nor after the end', () => {
    expect(fold([cell(1, 'running', 0)]).remaining(0)).toBeNull();
    expect(fold([run('failed', 1)], { d1: 1 }).remaining(0)).toBeNull();
  });

  it('lets an end stand against what comes later', () => {
    const progress = fold([
      run('cancelled', 1, { message: 'by ada' }),
      run('succeeded', 2),
      cell(1, 'running', 3)
    ]);
    expect(progress.state).toBe('cancelled');
    expect(progress.end?.message).toBe('by ada');
    expect(progress.current).toBeNull();
  });

  it('keeps the course of a long metric within bounds', () => {
    const progress = fold(
      Array.from({ length: 5000 }, (_, step): Event => ({
        type: 'metric',
        time: time(0),
        key: 'loss',
        value: step,
        step
      }))
    );
    const points = progress.metrics.get('loss') ?? [];
    expect(points.length).toBeLessThanOrEqual(600);
    expect(points[0]?.step).toBe(0);
    expect(points[points.length - 1]?.step).toBe(4999);
  });

  it('takes metrics of any name, and counts those beyond the first fifty', () => {
    const names = ['__proto__', 'constructor', ...Array.from({ length: 60 }, (_, index) => `m${index}`)];
    const progress = fold(
      names.map((key): Event => ({ type: 'metric', time: time(0), key, value: 'NaN', step: 0 }))
    );
    expect(progress.metrics.get('__proto__')?.[0]?.value).toBeNaN();
    expect([progress.metrics.size, progress.metricsLeftOut.size]).toEqual([50, 12]);
  });
});
