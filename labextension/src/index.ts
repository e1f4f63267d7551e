/** The plugins: what is made, and where it is put in JupyterLab and Notebook 7. */

import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Api } from './api';
import { addCommands, Commands } from './commands';
import { comparisonWidget } from './components/comparison';
import { Context } from './context';
import { ExecutedDrive, executedPath, withoutKernels } from './executed';
import { LaunchModel, UnsavedEdits } from './models/launch';
import { NotebookModel } from './models/notebook';
import { RunsModel } from './models/runs';
import { tellEnds, Told } from './notifications';
import { MLOpsPanel } from './panel';
import { RunsWidget } from './sections/runs';
import { EventSocket } from './socket';
import { KeptState, readState, stateKeeper } from './state';
import { statusWidget } from './status';

const PLUGIN_ID = 'jupyter-mlops:panel';
const RANK = 900;

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: 'Runs of notebooks: parameters, start, live progress, comparison.',
  autoStart: true,
  requires: [INotebookTracker, IDocumentManager],
  optional: [
    ITranslator,
    ISettingRegistry,
    IStateDB,
    ILayoutRestorer,
    ICommandPalette,
    IStatusBar,
    IFileBrowserFactory,
    ILabShell
  ],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    documents: IDocumentManager,
    translator: ITranslator | null,
    settings: ISettingRegistry | null,
    state: IStateDB | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    statusBar: IStatusBar | null,
    browsers: IFileBrowserFactory | null,
    labShell: ILabShell | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('jupyter_mlops');
    const { contents, serverSettings } = app.serviceManager;
    const api = new Api(serverSettings);
    const socket = new EventSocket(serverSettings);
    const runs = new RunsModel(api, socket);
    const notebook = new NotebookModel(api, contents, tracker);
    const launch = new LaunchModel(api, notebook);

    contents.addDrive(new ExecutedDrive(api));
    withoutKernels(tracker, contents);

    const context: Context = {
      api,
      socket,
      runs,
      notebook,
      launch,
      trans,
      show: section => {
        app.shell.activateById(panel.id);
        panel.reveal(section);
      },
      showRun: runId => {
        context.show('runs');
        runsWidget.open(runId);
      },
      openExecuted: run => {
        documents.openOrReveal(executedPath(run), 'Notebook');
      },
      openNotebook: path => {
        documents.openOrReveal(path);
      },
      compare: chosen => {
        const widget = comparisonWidget(
          api,
          chosen.map(run => run.run_id),
          trans
        );
        const known = [...app.shell.widgets('main')].find(each => each.id === widget.id);
        if (known) {
          widget.dispose();
        } else {
          app.shell.add(widget, 'main');
        }
        app.shell.activateById(widget.id);
      }
    };
    const panel = new MLOpsPanel(context);
    const runsWidget = panel.section('runs') as RunsWidget;
    app.shell.add(panel, 'right', { rank: RANK, type: 'MLOps' });
    restorer?.add(panel, panel.id);

    const watch = () => {
      notebook.isWatched = panel.isShown('parameters') || panel.isShown('run');
      launch.isWatched = panel.isShown('parameters') || panel.isShown('run');
    };
    panel.changed.connect(watch);

    addCommands(app, context, () => {
      const chosen = browsers?.tracker.currentWidget?.selectedItems();
      const item = chosen ? [...chosen][0] : undefined;
      return item?.type === 'notebook' ? item.path : null;
    });
    for (const command of [Commands.open, Commands.choose, Commands.start, Commands.tag]) {
      palette?.addItem({ command, category: trans.__('Runs') });
    }
    tracker.currentChanged.connect(() => app.commands.notifyCommandChanged());
    statusBar?.registerStatusItem('jupyter-mlops:running', {
      item: statusWidget(context),
      align: 'left',
      rank: 50,
      isActive: () => runs.running > 0,
      activeStateChanged: runs.changed
    });

    let told: Told = 'all';
    tellEnds(context, () => told);
    launch.started.connect((_, run) => {
      runs.put([run]);
      context.showRun(run.run_id);
    });
    void settings?.load(PLUGIN_ID).then(
      loaded => {
        const read = () => {
          told = loaded.get('notifications').composite as Told;
          launch.unsavedEdits = loaded.get('unsavedEdits').composite as UnsavedEdits;
        };
        read();
        loaded.changed.connect(read);
      },
      (error: unknown) =>
        console.warn('jupyter-mlops: its settings cannot be read, the defaults are used.', error)
    );

    // Nothing is asked of the server before Lab stands: it is not what a person waits for at the start.
    void app.restored.then(async () => {
      if (state) {
        const current = (): KeptState => ({
          unfolded: panel.unfolded,
          profile: launch.chosen,
          runId: runsWidget.opened?.runId ?? null,
          values: notebook.keep()
        });
        const kept = await readState(state);
        if (kept.unfolded) {
          panel.unfolded = kept.unfolded;
        }
        if (kept.profile != null) {
          launch.choose(kept.profile);
        }
        if (kept.runId != null) {
          runsWidget.open(kept.runId, false);
        }
        notebook.restore(kept.values ?? []);
        const keep = stateKeeper(state, current);
        panel.changed.connect(keep);
        launch.changed.connect(keep);
        notebook.changed.connect(keep);
        runsWidget.openedChanged.connect(keep);
      }
      socket.open();
      watch();
    });
    labShell?.layoutModified.connect(watch);
  }
};

export default plugin;
