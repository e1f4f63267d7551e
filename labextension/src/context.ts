/** What every section of the panel is made with. */

import { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import { Api } from './api';
import { LaunchModel } from './models/launch';
import { NotebookModel } from './models/notebook';
import { RunsModel } from './models/runs';
import { EventSocket } from './socket';
import { RunOut } from './wire';

export interface Context {
  api: Api;
  socket: EventSocket;
  runs: RunsModel;
  notebook: NotebookModel;
  launch: LaunchModel;
  trans: TranslationBundle;
  /** Show a section, unfolded, with the focus in it. */
  show(section: string): void;
  /** Show a run in detail. */
  showRun(runId: string): void;
  openExecuted(run: RunOut): void;
  compare(runs: readonly RunOut[]): void;
  openNotebook(path: string): void;
}

/** One section of the panel; all of them are listed in `sections/index.ts`. */
export interface Section {
  id: string;
  /** How much of the panel's height it gets beside the others. */
  share: number;
  title(trans: TranslationBundle): string;
  create(context: Context): Widget;
}
