/** What comes back after a reload: kept in Lab's state database, read once at the start. */

import { IStateDB } from '@jupyterlab/statedb';
import { ReadonlyPartialJSONValue } from '@lumino/coreutils';
import { Debouncer } from '@lumino/polling';
import { KeptValues } from './models/notebook';

const KEY = 'jupyter-mlops:panel';
const QUIET = 500;

export interface KeptState {
  unfolded?: string[];
  profile?: string | null;
  runId?: string | null;
  values?: KeptValues;
}

/** Read what was kept; what does not look like it (of another version) is left out. */
export async function readState(state: IStateDB): Promise<KeptState> {
  const kept = (await state.fetch(KEY)) as Record<string, unknown> | undefined;
  if (!kept || typeof kept !== 'object') {
    return {};
  }
  const found: KeptState = {};
  if (Array.isArray(kept['unfolded'])) {
    found.unfolded = kept['unfolded'].filter(isText);
  }
  if (isText(kept['profile'])) {
    found.profile = kept['profile'];
  }
  if (isText(kept['runId'])) {
    found.runId = kept['runId'];
  }
  if (Array.isArray(kept['values'])) {
    found.values = (kept['values'] as unknown[]).filter(isNotebookValues);
  }
  return found;
}

/** A function that keeps the state a moment after it was last called. */
export function stateKeeper(state: IStateDB, current: () => KeptState): () => void {
  const later = new Debouncer(() => state.save(KEY, current() as ReadonlyPartialJSONValue), QUIET);
  return () => void later.invoke();
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isNotebookValues(value: unknown): value is KeptValues[number] {
  return (
    Array.isArray(value) &&
    value.length === 2 &&
    isText(value[0]) &&
    typeof value[1] === 'object' &&
    value[1] !== null &&
    Object.values(value[1] as object).every(isText)
  );
}
