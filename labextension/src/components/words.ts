/** The words for states and problems, in the language of the person. */

import { TranslationBundle } from '@jupyterlab/translation';
import { Misfit } from '../values';
import { RunState } from '../wire';

export function stateWord(state: RunState, trans: TranslationBundle): string {
  switch (state) {
    case 'pending':
      return trans.__('Pending');
    case 'running':
      return trans.__('Running');
    case 'succeeded':
      return trans.__('Succeeded');
    case 'failed':
      return trans.__('Failed');
    case 'cancelled':
      return trans.__('Cancelled');
  }
}

export function misfitText(kind: NonNullable<Misfit>, trans: TranslationBundle): string {
  switch (kind) {
    case 'required':
      return trans.__('Set a value: it has no default.');
    case 'int':
      return trans.__('Takes a whole number, like 10.');
    case 'float':
      return trans.__('Takes a number, like 0.1 or 1e-3.');
  }
}
