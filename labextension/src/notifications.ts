/** Lab's notifications when a run ends. */

import { Notification } from '@jupyterlab/apputils';
import { Context } from './context';
import { printable } from './text';
import { RunOut } from './wire';

const STAY = 8000;
const LONGEST = 140;

/** Which ends are told. */
export type Told = 'all' | 'failures' | 'none';

export function tellEnds(context: Context, told: () => Told): void {
  const { runs, trans } = context;
  const show = (run: RunOut) => ({ label: trans.__('Show'), callback: () => context.showRun(run.run_id) });
  runs.ended.connect((_, run) => {
    const wanted = told();
    // Runs of notebooks elsewhere are in the list, and somebody else's to hear of.
    if (wanted === 'none' || run.path === null) {
      return;
    }
    if (run.state === 'failed') {
      const message = trans.__('%1 failed: %2', nameOf(run), short(run.message));
      Notification.error(message, { actions: [show(run)], autoClose: 2 * STAY });
    } else if (wanted === 'all' && run.state === 'succeeded') {
      Notification.success(trans.__('%1 succeeded.', nameOf(run)), {
        actions: [show(run)],
        autoClose: STAY
      });
    } else if (wanted === 'all') {
      Notification.info(trans.__('%1 was cancelled.', nameOf(run)), {
        actions: [show(run)],
        autoClose: STAY
      });
    }
  });
}

function nameOf(run: RunOut): string {
  return short(run.name);
}

function short(text: string): string {
  const shown = printable(text);
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST - 1)}…` : shown;
}
