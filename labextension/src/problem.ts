/** What went wrong, in words for a person: as the server says it, or where it says nothing. Knows no view. */

import { Problem } from './wire';

/** What the server refused, or that it could not be reached, in words for a person. */
export class ProblemError extends Error {
  constructor(
    message: string,
    readonly hint: string,
    readonly code: string
  ) {
    super(message);
    this.name = 'ProblemError';
  }
}

export const UNREACHABLE = 'unreachable';

/** What an answer other than a success says; a proxy in between may say something else than the server would. */
export function problemOf(answer: unknown, status: number): ProblemError {
  const { message, hint, code } = (answer ?? {}) as Partial<Problem>;
  if (typeof message === 'string' && message !== '') {
    return new ProblemError(message, hint ?? '', code ?? 'error');
  }
  if (status === 404) {
    return new ProblemError(
      'This Jupyter server does not know jupyter-mlops.',
      'Enable it where the server runs: jupyter server extension enable jupyter_mlops',
      'missing'
    );
  }
  const away = status >= 502 && status <= 504;
  return new ProblemError(`The server answered with status ${status}.`, '', away ? UNREACHABLE : 'error');
}

/** Any error as one that can be shown. */
export function asProblem(error: unknown): ProblemError {
  if (error instanceof ProblemError) {
    return error;
  }
  return new ProblemError(error instanceof Error ? error.message : String(error), '', 'error');
}
