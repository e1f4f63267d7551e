/** One run in detail: its record, and its events as they come. Knows no view. */

import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { Api } from '../api';
import { asProblem, ProblemError } from '../problem';
import { Event } from '../events';
import { Progress } from '../progress';
import { EventSocket } from '../socket';
import { RunDetails, RunOut } from '../wire';

export class RunModel implements IDisposable {
  constructor(
    readonly runId: string,
    private readonly _api: Api,
    private readonly _socket: EventSocket
  ) {
    void this._start();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get details(): RunDetails | null {
    return this._details;
  }

  get run(): RunOut | null {
    return this._details?.run ?? null;
  }

  get problem(): ProblemError | null {
    return this._problem;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  /** What the events told so far. */
  readonly progress = new Progress();

  dispose(): void {
    this._disposed = true;
    cancelAnimationFrame(this._frame);
    this._following?.dispose();
    Signal.clearData(this);
  }

  private async _start(): Promise<void> {
    this._following = this._socket.follow(this.runId, {
      events: events => this._take(events),
      ended: () => void this._load(),
      problem: problem => this._fail(problem)
    });
    await this._load();
  }

  private async _load(): Promise<void> {
    try {
      const details = await this._api.run(this.runId);
      this._details = details;
      this._problem = null;
      this.progress.expected = details.expected;
    } catch (error) {
      this._problem = asProblem(error);
    }
    this._tell();
  }

  private _take(events: Event[]): void {
    for (const event of events) {
      this.progress.apply(event);
    }
    this._tell();
  }

  private _fail(problem: ProblemError): void {
    this._problem = problem;
    this._tell();
  }

  /** At most once a frame: a notebook may print thousands of lines a second. */
  private _tell(): void {
    if (this._disposed || this._frame !== 0) {
      return;
    }
    this._frame = requestAnimationFrame(() => {
      this._frame = 0;
      this._changed.emit();
    });
  }

  private _details: RunDetails | null = null;
  private _problem: ProblemError | null = null;
  private _following: IDisposable | null = null;
  private _frame = 0;
  private _disposed = false;
  private _changed = new Signal<this, void>(this);
}
