/** A run about to start: on what, with what, and what the server says about it before and after. Knows no view. */

import { UUID } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { Debouncer } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import { Api, Capacity, NewRun } from '../api';
import { asProblem, ProblemError, UNREACHABLE } from '../problem';
import { assign, misfit, own, problemsByName } from '../values';
import { ProfileOut, Resources, RunOut, Submitted } from '../wire';
import { NotebookModel } from './notebook';

const QUIET = 700;
const CAPACITY_INTERVAL = 30_000;

/** Resources that a person changed for this run, as typed; empty: the profile's. */
export interface Overrides {
  gpus: string;
  cpus: string;
  memory: string;
}

/** What happens to edits that are not saved. */
export type UnsavedEdits = 'save' | 'ship';

const NO_OVERRIDES: Overrides = { gpus: '', cpus: '', memory: '' };

export class LaunchModel implements IDisposable {
  constructor(
    private readonly _api: Api,
    readonly notebook: NotebookModel
  ) {
    notebook.changed.connect(this._onNotebookChanged, this);
    this._timer = setInterval(() => {
      if (this._watched && !document.hidden) {
        void this._readCapacity();
      }
    }, CAPACITY_INTERVAL);
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A run was accepted. */
  get started(): ISignal<this, RunOut> {
    return this._started;
  }

  get profiles(): readonly ProfileOut[] {
    return this._profiles;
  }

  get profile(): ProfileOut | null {
    const named = this._profiles.find(each => each.name === this._profileName);
    return named ?? this._profiles.find(each => each.is_default) ?? this._profiles[0] ?? null;
  }

  /** The name that was chosen; null: the server's default. */
  get chosen(): string | null {
    return this._profileName;
  }

  get overrides(): Overrides {
    return this._overrides;
  }

  /** Free GPUs of the chosen profile's Kubernetes; null: not known, or it has none. */
  get capacity(): Capacity | null {
    return this._capacity;
  }

  /** Whether a request is under way: a second one is not made. */
  get isStarting(): boolean {
    return this._starting;
  }

  /** What the last dry run said; null while it stands out. */
  get checked(): Submitted | null {
    return this._checked;
  }

  /** Why the run cannot start as things stand, beyond what is said beside the fields. */
  get problem(): ProblemError | null {
    return this._problem;
  }

  /** What the server says about single parameters, by name. */
  get problemsOf(): ReadonlyMap<string, string[]> {
    return this._problemsOf;
  }

  /** Whether somebody tried to start it as it stands: only then are empty required fields an error. */
  get wasTried(): boolean {
    return this._tried;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  unsavedEdits: UnsavedEdits = 'save';

  set isWatched(watched: boolean) {
    this._watched = watched;
    if (watched) {
      void this._readProfiles();
      this._checkLater();
    }
  }

  dispose(): void {
    this._disposed = true;
    clearInterval(this._timer);
    this._later.dispose();
    Signal.clearData(this);
  }

  choose(profile: string | null): void {
    this._profileName = profile;
    this._overrides = NO_OVERRIDES;
    this._capacity = null;
    void this._readCapacity();
    this._edited();
  }

  override(changes: Partial<Overrides>): void {
    this._overrides = { ...this._overrides, ...changes };
    this._edited();
  }

  /** Start the run; false: it could not be, `problem` or the fields say why. */
  async start(): Promise<RunOut | null> {
    if (this._starting) {
      return null;
    }
    this._starting = true;
    this._tried = true;
    this._problem = null;
    this._changed.emit();
    try {
      if (this._hasMisfits()) {
        return null;
      }
      const request = await this._request();
      // The same key until the server has answered: after a lost connection, the second try finds the first one's run.
      this._runKey ??= UUID.uuid4();
      const answer = await this._api.start({ ...request, run_key: this._runKey });
      this._runKey = null;
      this._tried = false;
      this._checked = answer;
      if (answer.run) {
        this._started.emit(answer.run);
      }
      return answer.run;
    } catch (error) {
      const problem = asProblem(error);
      this._tell(problem);
      if (problem.code !== UNREACHABLE) {
        this._runKey = null;
      }
      return null;
    } finally {
      this._starting = false;
      this._changed.emit();
    }
  }

  private async _request(): Promise<NewRun> {
    const { notebook } = this;
    if (notebook.path === null) {
      throw new ProblemError(
        'No notebook of this server is open.',
        'Open one from the file browser.',
        'no_notebook'
      );
    }
    const mustShip = notebook.panel?.context.contentsModel?.writable === false;
    if (notebook.isDirty && this.unsavedEdits === 'save' && !mustShip) {
      await notebook.save();
      // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- saving changes it
      if (notebook.isDirty) {
        throw new ProblemError('The notebook could not be saved, so nothing was started.', '', 'not_saved');
      }
    }
    return {
      ...this._draft(),
      path: notebook.path,
      content: notebook.isDirty ? notebook.content() : null
    };
  }

  /** The request without what saves or ships edits. */
  private _draft(): Omit<NewRun, 'path'> {
    const { parameters } = this.notebook;
    return {
      ...assign(parameters?.parameters ?? [], this.notebook.values),
      resources: resources(this.profile?.name ?? null, this._overrides)
    };
  }

  private _hasMisfits(): boolean {
    const declared = this.notebook.parameters?.parameters ?? [];
    return declared.some(each => misfit(each, own(this.notebook.values, each.name)) !== null);
  }

  private _onNotebookChanged(): void {
    if (this.notebook.path !== this._path) {
      this._path = this.notebook.path;
      this._tried = false;
      this._checked = null;
      this._problem = null;
      this._problemsOf = new Map();
    }
    this._edited();
  }

  private _edited(): void {
    this._runKey = null; // what was changed is another run
    this._changed.emit();
    this._checkLater();
  }

  private _checkLater(): void {
    if (this._watched) {
      void this._later.invoke().catch(() => undefined);
    }
  }

  /** Ask the server what it would say. */
  private async _check(): Promise<void> {
    const { notebook } = this;
    if (!this._watched || notebook.path === null || !notebook.parameters || this._starting) {
      return;
    }
    const count = ++this._checks;
    const incomplete = this._hasMisfits();
    try {
      const content = notebook.isDirty ? notebook.content() : null;
      const answer = await this._api.start({
        ...this._draft(),
        path: notebook.path,
        content,
        dry_run: true
      });
      if (count === this._checks) {
        this._checked = answer;
        this._problem = null;
        this._problemsOf = new Map();
      }
    } catch (error) {
      const problem = asProblem(error);
      if (count === this._checks) {
        this._checked = null;
        this._problem = null;
        this._tell(problem, incomplete);
      }
    }
    this._changed.emit();
  }

  /** Put a problem where it belongs: beside the parameters that it names, the rest below the button. */
  private _tell(problem: ProblemError, incomplete = false): void {
    const declared = this.notebook.parameters?.parameters ?? [];
    if (!problem.code.startsWith('parameter')) {
      this._problem = problem;
      return;
    }
    const found = problemsByName(problem.message, declared);
    const rest = found.get('') ?? [];
    found.delete('');
    this._problemsOf = found;
    if (rest.length > 0 && !incomplete) {
      this._problem = new ProblemError(rest.join('\n'), problem.hint, problem.code);
    }
  }

  private async _readProfiles(): Promise<void> {
    try {
      this._profiles = await this._api.profiles();
      void this._readCapacity();
    } catch (error) {
      this._problem = asProblem(error);
    }
    this._changed.emit();
  }

  private async _readCapacity(): Promise<void> {
    const profile = this.profile;
    if (profile?.runner !== 'kubernetes') {
      this._capacity = null;
      return;
    }
    let capacity: Capacity | null;
    try {
      capacity = await this._api.capacity(profile.name);
    } catch {
      capacity = null; // the cluster may be away: what is free is not known then, and a run says why by itself
    }
    if (this.profile?.name === profile.name) {
      this._capacity = capacity;
      this._changed.emit();
    }
  }

  private _profiles: ProfileOut[] = [];
  private _profileName: string | null = null;
  private _overrides = NO_OVERRIDES;
  private _capacity: Capacity | null = null;
  private _starting = false;
  private _tried = false;
  private _checked: Submitted | null = null;
  private _checks = 0;
  private _problem: ProblemError | null = null;
  private _problemsOf: ReadonlyMap<string, string[]> = new Map();
  private _runKey: string | null = null;
  private _path: string | null = null;
  private _watched = false;
  private _disposed = false;
  private readonly _timer: ReturnType<typeof setInterval>;
  private readonly _later = new Debouncer(() => this._check(), QUIET);
  private _changed = new Signal<this, void>(this);
  private _started = new Signal<this, RunOut>(this);
}

/**
 * The request's resources: what is not typed is the profile's.
 *
 * @throws ProblemError what was typed is no number; memory is the server's to read.
 */
export function resources(profile: string | null, overrides: Overrides): Resources {
  const number = (text: string, name: string): number | null => {
    if (text.trim() === '') {
      return null;
    }
    const value = Number(text);
    if (!Number.isFinite(value)) {
      throw new ProblemError(
        `${name}: ${JSON.stringify(text)} is no number.`,
        'Leave it empty for the profile’s.',
        'usage'
      );
    }
    return value;
  };
  return {
    profile,
    gpus: number(overrides.gpus, 'GPUs'),
    cpus: number(overrides.cpus, 'CPUs'),
    memory: overrides.memory.trim() || null,
    workers: null
  };
}
