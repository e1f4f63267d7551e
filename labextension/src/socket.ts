/**
 * The one websocket over which the server pushes what runs tell. It is opened again when it breaks, later and later, and
 * each followed run goes on behind the last event that was heard. Knows no view.
 */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { ProblemError } from './problem';
import { Event } from './events';
import { Problem, RunOut } from './wire';

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;
/** Milliseconds that a connection must hold before the next loss counts as a first one. */
const STEADY = 10_000;

/** Who listens to one run. */
export interface Follower {
  events(events: Event[]): void;
  ended(): void;
  problem(problem: ProblemError): void;
}

interface Followed {
  follower: Follower;
  /** Events heard. */
  after: number;
}

interface Message {
  run?: string;
  after?: number;
  events?: Event[];
  ended?: boolean;
  changed?: RunOut[];
  problem?: Problem;
}

export class EventSocket implements IDisposable {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  /** Runs of the list that are new or stand otherwise. */
  get changed(): ISignal<this, RunOut[]> {
    return this._changed;
  }

  /** The connection is there, or is lost; at `true` what happened in between has to be asked for. */
  get connected(): ISignal<this, boolean> {
    return this._connected;
  }

  get isConnected(): boolean {
    return this._socket?.readyState === 1;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    clearTimeout(this._timer);
    this._socket?.close();
    this._socket = null;
    this._followed.clear();
    Signal.clearData(this);
  }

  /** Connect now, and from then on whenever the connection is lost. */
  open(): void {
    if (this._disposed || this._socket) {
      return;
    }
    const { wsUrl, token, appendToken, WebSocket } = this._settings;
    let url = URLExt.join(wsUrl, 'mlops', 'events');
    if (appendToken && token !== '') {
      url += `?token=${encodeURIComponent(token)}`;
    }
    const socket = new WebSocket(url);
    let openTime = 0;
    this._socket = socket;
    socket.onopen = () => {
      openTime = Date.now();
      for (const [runId, { after }] of this._followed) {
        this._say({ follow: runId, after });
      }
      this._connected.emit(true);
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (typeof event.data === 'string') {
        this._hear(JSON.parse(event.data) as Message);
      }
    };
    socket.onclose = () => {
      if (this._socket !== socket || this._disposed) {
        return;
      }
      this._socket = null;
      this._connected.emit(false);
      if (openTime > 0 && Date.now() - openTime > STEADY) {
        this._losses = 0;
      }
      const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this._losses);
      this._losses += 1;
      // Not all browsers of a server that was restarted come back in the same moment.
      this._timer = setTimeout(() => this.open(), longest * (0.5 + Math.random() / 2));
    };
  }

  /** Hear a run's events from the one after the first `after` on, until it has ended or the answer is disposed. */
  follow(runId: string, follower: Follower, after = 0): IDisposable {
    const followed = { follower, after };
    this._followed.set(runId, followed);
    this._say({ follow: runId, after });
    const forget = () => {
      if (this._followed.get(runId) === followed) {
        this._followed.delete(runId);
        this._say({ unfollow: runId });
      }
    };
    let disposed = false;
    return {
      get isDisposed() {
        return disposed;
      },
      dispose: () => {
        disposed = true;
        forget();
      }
    };
  }

  private _say(message: object): void {
    if (this.isConnected) {
      this._socket?.send(JSON.stringify(message));
    }
  }

  private _hear(message: Message): void {
    if (message.changed) {
      this._changed.emit(message.changed);
    }
    const followed = message.run === undefined ? undefined : this._followed.get(message.run);
    if (message.run === undefined || !followed) {
      return;
    }
    if (message.problem) {
      this._followed.delete(message.run);
      const { message: text, hint, code } = message.problem;
      followed.follower.problem(new ProblemError(text, hint, code));
    } else if (message.ended) {
      this._followed.delete(message.run);
      followed.follower.ended();
    } else if (message.events && message.after !== undefined) {
      // What was under way when a run was followed anew may come twice.
      const known = followed.after - (message.after - message.events.length);
      if (known >= 0 && known < message.events.length) {
        followed.after = message.after;
        followed.follower.events(known === 0 ? message.events : message.events.slice(known));
      }
    }
  }

  private _socket: WebSocket | null = null;
  private _followed = new Map<string, Followed>();
  private _losses = 0;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _disposed = false;
  private _changed = new Signal<this, RunOut[]>(this);
  private _connected = new Signal<this, boolean>(this);
}
