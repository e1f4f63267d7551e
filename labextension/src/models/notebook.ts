/** The notebook that is open in front: its parameters as it stands in the browser, and what a person set for them. */

import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { Contents } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Debouncer } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import { Api, NotebookContent } from '../api';
import { asProblem, ProblemError } from '../problem';
import { emptyRecord, own, Values } from '../values';
import { Parameters } from '../wire';

const QUIET = 500;
const TAG = 'parameters';
const NOTEBOOKS_KEPT = 30;

/** What comes back after a reload: values by path, the latest last. */
export type KeptValues = [string, Record<string, string>][];

export class NotebookModel implements IDisposable {
  constructor(
    private readonly _api: Api,
    private readonly _contents: Contents.IManager,
    private readonly _tracker: INotebookTracker
  ) {
    _tracker.currentChanged.connect(this._onCurrentChanged, this);
    this._onCurrentChanged();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get panel(): NotebookPanel | null {
    return this._panel;
  }

  /** Path in the server's contents; null: no notebook is open, or it is none of this server's files. */
  get path(): string | null {
    return this._path;
  }

  /** Whether the notebook in front is not among the server's files (a view of a run, another drive). */
  get isElsewhere(): boolean {
    return this._panel !== null && this._path === null;
  }

  get parameters(): Parameters | null {
    return this._parameters;
  }

  get problem(): ProblemError | null {
    return this._problem;
  }

  get isDirty(): boolean {
    return this._panel?.context.model.dirty ?? false;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  /** What was set for the notebook in front. */
  get values(): Values {
    return (this._path === null ? undefined : this._values.get(this._path)) ?? NOTHING;
  }

  /** Whether somebody looks: while nobody does, edits are not sent to the server. */
  set isWatched(watched: boolean) {
    this._watched = watched;
    if (watched) {
      void this._read();
    }
  }

  dispose(): void {
    this._disposed = true;
    this._later.dispose();
    Signal.clearData(this);
  }

  /** Set a value as text; null: the default again. */
  set(name: string, text: string | null): void {
    if (this._path === null || (own(this.values, name) ?? null) === text) {
      return;
    }
    const values: Record<string, string> = emptyRecord();
    for (const [key, value] of Object.entries(this.values)) {
      values[key] = value;
    }
    if (text === null) {
      // eslint-disable-next-line @typescript-eslint/no-dynamic-delete
      delete values[name];
    } else {
      values[name] = text;
    }
    this._values.delete(this._path);
    this._values.set(this._path, values);
    this._changed.emit();
  }

  /** Every value its default again. */
  reset(): void {
    if (this._path !== null) {
      this._values.delete(this._path);
      this._changed.emit();
    }
  }

  keep(): KeptValues {
    return [...this._values].slice(-NOTEBOOKS_KEPT).map(([path, values]) => [path, { ...values }]);
  }

  restore(kept: KeptValues): void {
    for (const [path, values] of kept) {
      if (!this._values.has(path)) {
        this._values.set(path, values);
      }
    }
    this._changed.emit();
  }

  /** The notebook's JSON as it stands, without outputs: the parameters and a run need none. */
  content(): NotebookContent | null {
    const model = this._panel?.context.model;
    if (!model) {
      return null;
    }
    const content = model.toJSON() as { cells?: Record<string, unknown>[] };
    const cells = (content.cells ?? []).map(cell =>
      cell['cell_type'] === 'code' ? { ...cell, outputs: [], execution_count: null } : cell
    );
    return { ...content, cells };
  }

  /** Save the notebook in front, as a person does. */
  async save(): Promise<void> {
    await this._panel?.context.save();
  }

  /** Tag the active cell as the parameters cell. */
  tagActiveCell(): boolean {
    const notebook = this._panel?.content;
    const cell = notebook?.activeCell;
    if (!notebook?.model || cell?.model.type !== 'code') {
      return false;
    }
    const tags = cell.model.getMetadata('tags') as unknown;
    const others = Array.isArray(tags) ? (tags as unknown[]) : [];
    if (!others.includes(TAG)) {
      notebook.model.sharedModel.transact(() => cell.model.setMetadata('tags', [...others, TAG]));
    }
    return true;
  }

  /** Put a first cell with an example into the notebook, tagged. */
  insertCell(source: string): void {
    const notebook = this._panel?.content;
    if (!notebook?.model) {
      return;
    }
    notebook.activeCellIndex = 0;
    NotebookActions.insertAbove(notebook);
    notebook.model.sharedModel.getCell(0).setSource(source);
    this.tagActiveCell();
  }

  private _onCurrentChanged(): void {
    const panel = this._tracker.currentWidget;
    if (panel === this._panel) {
      return;
    }
    if (this._panel) {
      this._panel.context.model.contentChanged.disconnect(this._onEdited, this);
      this._panel.context.model.stateChanged.disconnect(this._onState, this);
      this._panel.context.pathChanged.disconnect(this._onPathChanged, this);
    }
    this._panel = panel;
    this._forget();
    if (panel) {
      panel.context.model.contentChanged.connect(this._onEdited, this);
      panel.context.model.stateChanged.connect(this._onState, this);
      panel.context.pathChanged.connect(this._onPathChanged, this);
      void panel.context.ready.then(() => this._read());
    }
    this._changed.emit();
  }

  private _onPathChanged(): void {
    const values = this.values;
    this._forget();
    if (this._path !== null && values !== NOTHING) {
      this._values.set(this._path, values); // it was renamed, the work on it goes along
    }
    void this._read();
  }

  private _onEdited(): void {
    if (this._watched) {
      void this._later.invoke().catch(() => undefined); // a debouncer that was disposed rejects
    }
  }

  private _onState(_: unknown, { name }: { name: string }): void {
    if (name === 'dirty') {
      this._changed.emit();
    }
  }

  private _forget(): void {
    const path = this._panel?.context.path ?? '';
    const drive = this._contents.driveName(path);
    // Real-time collaboration serves the same files under a drive of its own.
    const own = path !== '' && (drive === '' || drive === 'RTC');
    this._path = own ? this._contents.localPath(path) : null;
    this._parameters = null;
    this._problem = null;
    this._sent = '';
  }

  private async _read(): Promise<void> {
    const panel = this._panel;
    const path = this._path;
    if (!this._watched || path === null || !panel?.context.isReady) {
      return;
    }
    const content = this.content();
    if (!content) {
      return;
    }
    const text = JSON.stringify(content);
    if (text === this._sent) {
      return;
    }
    this._sent = text;
    try {
      const parameters = await this._api.parameters(path, content);
      if (this._sent === text) {
        this._parameters = parameters;
        this._problem = null;
        this._changed.emit();
      }
    } catch (error) {
      if (this._sent === text) {
        this._sent = '';
        this._problem = asProblem(error);
        this._changed.emit();
      }
    }
  }

  private _panel: NotebookPanel | null = null;
  private _path: string | null = null;
  private _parameters: Parameters | null = null;
  private _problem: ProblemError | null = null;
  private _values = new Map<string, Values>();
  private _watched = false;
  private _sent = '';
  private _disposed = false;
  private readonly _later = new Debouncer(() => this._read(), QUIET);
  private _changed = new Signal<this, void>(this);
}

const NOTHING: Values = Object.freeze(emptyRecord<string>());
