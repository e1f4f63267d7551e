/** The extension's own icons. */

import { LabIcon } from '@jupyterlab/ui-components';
import cancelled from '../style/icons/cancelled.svg';
import failed from '../style/icons/failed.svg';
import mlops from '../style/icons/mlops.svg';
import pending from '../style/icons/pending.svg';
import run from '../style/icons/run.svg';
import running from '../style/icons/running.svg';
import succeeded from '../style/icons/succeeded.svg';
import { RunState } from './wire';

export const mlopsIcon = new LabIcon({ name: 'mlops:panel', svgstr: mlops });
export const runIcon = new LabIcon({ name: 'mlops:run', svgstr: run });

export const stateIcons: Readonly<Record<RunState, LabIcon>> = {
  pending: new LabIcon({ name: 'mlops:pending', svgstr: pending }),
  running: new LabIcon({ name: 'mlops:running', svgstr: running }),
  succeeded: new LabIcon({ name: 'mlops:succeeded', svgstr: succeeded }),
  failed: new LabIcon({ name: 'mlops:failed', svgstr: failed }),
  cancelled: new LabIcon({ name: 'mlops:cancelled', svgstr: cancelled })
};
