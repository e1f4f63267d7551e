/** What a run tells, as it comes over the wire: the events of `jupyter_mlops/events.py`. Knows no view. */

import { RunState } from './wire';

/** A number; what JSON has no word for comes as text (`NaN`, `Infinity`, `-Infinity`). */
export type WireNumber = number | string;

export interface RunEvent {
  type: 'run';
  time: string;
  state: RunState;
  phase: string;
  code: string | null;
  message: string;
  hint: string;
  cell_index: number | null;
  line: string | null;
  mlflow_run_id: string | null;
  mlflow_url: string | null;
  total_cells: number | null;
}

export interface CellEvent {
  type: 'cell';
  time: string;
  index: number;
  number: number;
  state: 'running' | 'succeeded' | 'failed';
  title: string;
  digest: string;
  duration: number | null;
}

export interface MetricEvent {
  type: 'metric';
  time: string;
  key: string;
  value: WireNumber;
  step: number;
}

export interface LogEvent {
  type: 'log';
  time: string;
  stream: 'stdout' | 'stderr' | 'worker';
  text: string;
  cell_index: number | null;
}

export interface GPUUse {
  index: number;
  name: string;
  utilization: number;
  memory_used: number;
  memory_total: number;
}

export interface DaskUse {
  workers: number;
  threads: number;
  tasks: number;
  processing: number;
}

export interface ResourceEvent {
  type: 'resource';
  time: string;
  cpu_percent: number;
  memory: number;
  memory_limit: number | null;
  gpus: GPUUse[];
  dask: DaskUse | null;
}

export interface NoticeEvent {
  type: 'notice';
  time: string;
  level: 'info' | 'warning';
  message: string;
}

export type Event = RunEvent | CellEvent | MetricEvent | LogEvent | ResourceEvent | NoticeEvent;

/** Whether nothing can follow a state. */
export function isEnd(state: RunState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled';
}
