/** The commands, as the palette, menus, toolbar, shortcuts and context menu call them (see `schema/panel.json`). */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Context } from './context';
import { runIcon } from './icons';

export const Commands = {
  open: 'mlops:open-panel',
  choose: 'mlops:run',
  start: 'mlops:run-now',
  runFile: 'mlops:run-file',
  tag: 'mlops:tag-parameters'
} as const;

/** The path of the notebook that is chosen in the file browser; null: none is. */
export type ChosenFile = () => string | null;

export function addCommands(app: JupyterFrontEnd, context: Context, chosenFile: ChosenFile): void {
  const { notebook, launch, trans } = context;
  const { commands } = app;
  const hasNotebook = () => notebook.path !== null;
  const add = (id: string, options: Parameters<typeof commands.addCommand>[1]) =>
    commands.addCommand(id, options);

  add(Commands.open, {
    label: trans.__('Show Runs Panel'),
    caption: trans.__('Parameters, runs and their progress'),
    execute: () => context.show('runs')
  });
  add(Commands.choose, {
    label: trans.__('Run on Cluster…'),
    caption: trans.__('Choose parameters and resources for a run of this notebook'),
    icon: runIcon,
    isEnabled: hasNotebook,
    execute: () => context.show('run')
  });
  add(Commands.start, {
    label: trans.__('Run on Cluster Now'),
    caption: trans.__('Run this notebook with the parameters and the profile of the panel'),
    isEnabled: hasNotebook,
    execute: async () => {
      if ((await launch.start()) === null) {
        context.show('run'); // the reason stands there
      }
    }
  });
  add(Commands.runFile, {
    label: trans.__('Run on Cluster…'),
    icon: runIcon,
    isVisible: () => chosenFile() !== null,
    execute: () => {
      const path = chosenFile();
      if (path !== null) {
        context.openNotebook(path);
        context.show('run');
      }
    }
  });
  add(Commands.tag, {
    label: trans.__('Tag Cell as Parameters'),
    caption: trans.__('A run can set other values than those of this cell'),
    isEnabled: () => hasNotebook() && notebook.panel?.content.activeCell?.model.type === 'code',
    execute: () => {
      notebook.tagActiveCell();
    }
  });
}
