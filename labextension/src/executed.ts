/**
 * Executed notebooks as a drive of Lab's contents that can be read and nothing else: they open as any notebook, without a
 * kernel, and nothing is written into anybody's directory.
 */

import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';
import { Api, NotebookContent } from './api';
import { RunOut } from './wire';

export const DRIVE = 'MLOpsRun';

/** Where Lab finds a run's executed notebook. */
export function executedPath(run: RunOut): string {
  const source = run.path ?? run.source;
  const name = source.slice(source.lastIndexOf('/') + 1).replace(/\.ipynb$/, '') || 'notebook';
  return `${DRIVE}:${run.run_id}/${name} (run ${run.run_id.slice(0, 8)}).ipynb`;
}

export class ExecutedDrive implements Contents.IDrive {
  constructor(private readonly _api: Api) {
    this.serverSettings = _api.settings;
  }

  readonly name = DRIVE;
  readonly serverSettings: ServerConnection.ISettings;

  get fileChanged(): ISignal<Contents.IDrive, Contents.IChangedArgs> {
    return this._fileChanged;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    Signal.clearData(this);
  }

  async get(localPath: string, options?: Contents.IFetchOptions): Promise<Contents.IModel> {
    const [runId = '', ...rest] = localPath.split('/');
    const time = new Date(0).toISOString();
    const model = { path: localPath, writable: false, created: time, last_modified: time, mimetype: '' };
    if (rest.length === 0) {
      return {
        ...model,
        name: runId,
        type: 'directory',
        format: 'json',
        content: options?.content === false ? null : []
      };
    }
    const content = options?.content === false ? null : untrusted(await this._api.executedNotebook(runId));
    return {
      ...model,
      name: rest.join('/'),
      type: 'notebook',
      format: content ? 'json' : null,
      content
    };
  }

  getDownloadUrl(): Promise<string> {
    return refuse();
  }

  newUntitled(): Promise<Contents.IModel> {
    return refuse();
  }

  delete(): Promise<void> {
    return refuse();
  }

  rename(): Promise<Contents.IModel> {
    return refuse();
  }

  save(): Promise<Contents.IModel> {
    return refuse();
  }

  copy(): Promise<Contents.IModel> {
    return refuse();
  }

  createCheckpoint(): Promise<Contents.ICheckpointModel> {
    return refuse();
  }

  listCheckpoints(): Promise<Contents.ICheckpointModel[]> {
    return Promise.resolve([]);
  }

  restoreCheckpoint(): Promise<void> {
    return refuse();
  }

  deleteCheckpoint(): Promise<void> {
    return refuse();
  }

  private _disposed = false;
  private _fileChanged = new Signal<this, Contents.IChangedArgs>(this);
}

/** No kernel is started for an executed notebook, also where a saved layout opens it again. */
export function withoutKernels(tracker: INotebookTracker, contents: Contents.IManager): void {
  const prepare = (panel: NotebookPanel) => {
    if (contents.driveName(panel.context.path) === DRIVE) {
      panel.sessionContext.kernelPreference = {
        ...panel.sessionContext.kernelPreference,
        shouldStart: false,
        canStart: false,
        autoStartDefault: false
      };
      panel.addClass('jp-mlops-executed');
    }
  };
  tracker.forEach(prepare);
  tracker.widgetAdded.connect((_, panel) => prepare(panel));
}

/** What a run says about itself makes its outputs no more trusted: Lab shows HTML in them without its scripts. */
export function untrusted(notebook: NotebookContent): NotebookContent {
  const cells = Array.isArray(notebook['cells']) ? (notebook['cells'] as Record<string, unknown>[]) : [];
  return {
    ...notebook,
    cells: cells.map(cell => {
      const metadata = { ...(cell['metadata'] as Record<string, unknown> | undefined) };
      delete metadata['trusted'];
      return { ...cell, metadata };
    })
  };
}

function refuse(): Promise<never> {
  return Promise.reject(
    new Error('The executed notebook of a run can only be read; save a copy with File > Save As.')
  );
}
