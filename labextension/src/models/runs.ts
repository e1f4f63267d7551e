/** The list of runs: pages from the server, kept up to date by what it pushes. Knows no view. */

import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { Api, RunsFilter } from '../api';
import { asProblem, ProblemError } from '../problem';
import { isEnd } from '../events';
import { EventSocket } from '../socket';
import { RunOut } from '../wire';

const PAGE = 200;
/** The server pushes changes of its newest runs only; unended ones beyond are asked for, so many milliseconds apart. */
const CHECK_INTERVAL = 30_000;
const WATCHED = 100;

export class RunsModel implements IDisposable {
  constructor(
    private readonly _api: Api,
    socket: EventSocket,
    readonly filter: RunsFilter = {}
  ) {
    socket.changed.connect(this._onChanged, this);
    socket.connected.connect(this._onConnected, this);
    this._timer = setInterval(() => void this._check(), CHECK_INTERVAL);
  }

  /** The list, or what is said about it, is another. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A run ended that was seen before it did. */
  get ended(): ISignal<this, RunOut> {
    return this._ended;
  }

  /** Newest first. */
  get runs(): readonly RunOut[] {
    return this._runs;
  }

  /** Whether there are older ones on the server. */
  get hasMore(): boolean {
    return this._before !== null;
  }

  get isLoading(): boolean {
    return this._loading !== null;
  }

  /** Whether the first page has come. */
  get isLoaded(): boolean {
    return this._loaded;
  }

  get problem(): ProblemError | null {
    return this._problem;
  }

  /** How many of the known runs have not ended. */
  get running(): number {
    return this._runs.reduce((count, run) => count + (isEnd(run.state) ? 0 : 1), 0);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    clearInterval(this._timer);
    Signal.clearData(this);
  }

  find(runId: string): RunOut | undefined {
    return this._byId.get(runId);
  }

  /** Ask for the newest page again. */
  async refresh(): Promise<void> {
    await this._load(null);
  }

  /** Ask for the next older page, if there is one and none is under way. */
  async more(): Promise<void> {
    if (this._before !== null && !this._loading) {
      await this._load(this._before);
    }
  }

  /** Take runs in that were heard of otherwise: pushed, or answered to a request. */
  put(runs: readonly RunOut[]): void {
    const over: RunOut[] = [];
    for (const run of runs) {
      const before = this._byId.get(run.run_id);
      if (before && isEnd(before.state) && !isEnd(run.state)) {
        continue; // an answer that was overtaken
      }
      if (before && !isEnd(before.state) && isEnd(run.state)) {
        over.push(run);
      }
      this._byId.set(run.run_id, run);
    }
    this._runs = [...this._byId.values()].sort(newestFirst);
    this._changed.emit();
    for (const run of over) {
      this._ended.emit(run);
    }
  }

  private async _load(before: string | null): Promise<void> {
    if (this._loading) {
      await this._loading;
      if (before !== null) {
        return;
      }
    }
    const load = this._page(before).finally(() => {
      this._loading = null;
    });
    this._loading = load;
    this._changed.emit();
    await load;
    this._changed.emit();
  }

  private async _page(before: string | null): Promise<void> {
    try {
      const page = await this._api.runs(this.filter, before, PAGE);
      if (this._disposed) {
        return;
      }
      this._problem = null;
      if (before !== null || !this._loaded) {
        this._before = page.next_before;
      } else if (page.next_before !== null && !page.runs.some(run => this._byId.has(run.run_id))) {
        // So many new ones that the pages do not meet: the old ones are asked for again when they are scrolled to.
        this._byId.clear();
        this._before = page.next_before;
      }
      this._loaded = true;
      this.put(page.runs);
    } catch (error) {
      this._problem = asProblem(error);
    }
  }

  private _onChanged(_: EventSocket, runs: RunOut[]): void {
    const { path, state } = this.filter;
    const fitting = runs.filter(
      run =>
        this._byId.has(run.run_id) ||
        ((path === undefined || run.path === path) && (state === undefined || run.state === state))
    );
    if (fitting.length > 0) {
      this.put(fitting);
    }
  }

  private _onConnected(_: EventSocket, connected: boolean): void {
    if (connected) {
      void this.refresh();
    } else {
      this._changed.emit();
    }
  }

  private async _check(): Promise<void> {
    const old = this._runs.filter((run, index) => index >= WATCHED && !isEnd(run.state)).slice(0, 20);
    for (const run of old) {
      try {
        this.put([(await this._api.run(run.run_id)).run]);
      } catch {
        return; // the next turn tries again
      }
    }
  }

  private _runs: RunOut[] = [];
  private _byId = new Map<string, RunOut>();
  private _before: string | null = null;
  private _loading: Promise<void> | null = null;
  private _loaded = false;
  private _problem: ProblemError | null = null;
  private _disposed = false;
  private readonly _timer: ReturnType<typeof setInterval>;
  private _changed = new Signal<this, void>(this);
  private _ended = new Signal<this, RunOut>(this);
}

/** ISO 8601 in UTC with the same number of digits sorts as text; the id decides between equal moments. */
function newestFirst(a: RunOut, b: RunOut): number {
  const times = Date.parse(b.create_time) - Date.parse(a.create_time);
  return times !== 0 ? times : a.run_id < b.run_id ? 1 : -1;
}
