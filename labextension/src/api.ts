/** The server's REST interface under `/mlops`, typed by its own description (`wire.ts`). Knows no view. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { Event } from './events';
import { ProblemError, problemOf, UNREACHABLE } from './problem';
import * as wire from './wire';

export type NotebookContent = Record<string, unknown>;

/** A run to start; what is left out is the server's to choose. */
export type NewRun = Partial<wire.NewRun> & Pick<wire.NewRun, 'path'>;

export interface RunsFilter {
  path?: string;
  state?: wire.RunState;
}

/** One kind of GPU of a Kubernetes, as `/mlops/capacity` tells it; null: may not be seen. */
export interface CapacityKind {
  resource: string;
  product: string;
  total: number | null;
  free: number | null;
  queued: number | null;
  quota_left: number | null;
}

export interface Capacity {
  host: string;
  namespace: string;
  kinds: CapacityKind[];
  missing: string[];
}

export class Api {
  constructor(readonly settings: ServerConnection.ISettings) {}

  runs(filter: RunsFilter, before: string | null, limit: number): Promise<wire.RunPage> {
    const query = { ...filter, limit: `${limit}`, ...(before === null ? {} : { before }) };
    return this._ask('GET', ['runs'], { query });
  }

  start(run: NewRun): Promise<wire.Submitted> {
    return this._ask('POST', ['runs'], { body: run });
  }

  run(runId: string): Promise<wire.RunDetails> {
    return this._ask('GET', ['runs', runId]);
  }

  cancel(runId: string): Promise<wire.RunOut> {
    return this._ask('POST', ['runs', runId, 'cancel'], { body: {} });
  }

  retry(runId: string): Promise<wire.RunOut> {
    return this._ask('POST', ['runs', runId, 'retry'], { body: {} });
  }

  events(runId: string, after: number, limit: number): Promise<{ events: Event[]; after: number }> {
    return this._ask('GET', ['runs', runId, 'events'], {
      query: { after: `${after}`, limit: `${limit}` }
    });
  }

  executedNotebook(runId: string): Promise<NotebookContent> {
    return this._ask('GET', ['runs', runId, 'notebook']);
  }

  compare(runIds: readonly string[]): Promise<wire.ComparedOut[]> {
    return this._ask('GET', ['compare'], { query: { runs: runIds.join(',') } });
  }

  parameters(path: string, content: NotebookContent): Promise<wire.Parameters> {
    return this._ask('POST', ['parameters'], { body: { path, content } });
  }

  profiles(): Promise<wire.ProfileOut[]> {
    return this._ask('GET', ['profiles']);
  }

  capacity(profile: string): Promise<Capacity> {
    return this._ask('GET', ['capacity'], { query: { profile } });
  }

  private async _ask<T>(
    method: 'GET' | 'POST',
    parts: string[],
    { query, body }: { query?: Record<string, string>; body?: object } = {}
  ): Promise<T> {
    const path = parts.map(encodeURIComponent).join('/');
    const url =
      URLExt.join(this.settings.baseUrl, 'mlops', path) + (query ? URLExt.objectToQueryString(query) : '');
    const init = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this.settings);
    } catch {
      throw new ProblemError(
        'The Jupyter server does not answer.',
        'Is it running, and the network up?',
        UNREACHABLE
      );
    }
    const text = await response.text();
    const answer = parsed(text);
    if (response.ok) {
      return answer as T;
    }
    throw problemOf(answer, response.status);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
