/** From what a person typed into the form to what the request carries. Knows no form and no server. */

import { ParameterOut } from './wire';

/** What a person set, by parameter, as text; what is not in it keeps its default. */
export type Values = Readonly<Record<string, string>>;

export interface Assigned {
  /** Text that the server reads by the declared type. */
  assignments: Record<string, string>;
  /** Values as they are. */
  parameters: Record<string, unknown>;
}

/** The default as the form shows it; null where only Python can say it, or there is none. */
export function defaultText(parameter: ParameterOut): string | null {
  if (parameter.required || parameter.default_source !== '') {
    return null;
  }
  return valueText(parameter.default);
}

/** A value as a person writes it. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) {
    return 'none';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The request's part for these values; those of names that the notebook no longer declares are left out. */
export function assign(parameters: readonly ParameterOut[], values: Values): Assigned {
  const assigned: Assigned = { assignments: emptyRecord(), parameters: emptyRecord() };
  for (const parameter of parameters) {
    const text = own(values, parameter.name);
    if (text === undefined) {
      continue;
    }
    const choice = parameter.choices.find(each => valueText(each) === text);
    if (choice !== undefined) {
      assigned.parameters[parameter.name] = choice;
    } else if (parameter.type === 'str' && !parameter.optional) {
      assigned.parameters[parameter.name] = text; // as it is, also where it reads like something else
    } else {
      assigned.assignments[parameter.name] = text;
    }
  }
  return assigned;
}

/** Why a text cannot be the parameter's value as far as that can be said here, in a word for `problemText`. */
export type Misfit = 'required' | 'int' | 'float' | null;

// Python's own spelling of numbers: signs, underscores between digits, other bases, exponents.
const INT = /^\s*[+-]?(?:\d+(?:_\d+)*|0[xX](?:_?[\da-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+)\s*$/;
const FLOAT =
  /^\s*[+-]?(?:(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:[eE][+-]?\d+(?:_\d+)*)?|inf(?:inity)?|nan)\s*$/i;
const NONE = /^\s*(?:none|null)\s*$/i;

export function misfit(parameter: ParameterOut, text: string | undefined): Misfit {
  if (text === undefined) {
    return parameter.required ? 'required' : null;
  }
  if (parameter.choices.length > 0 || (parameter.optional && NONE.test(text))) {
    return null;
  }
  if (parameter.type === 'int' && !INT.test(text)) {
    return 'int';
  }
  return parameter.type === 'float' && !FLOAT.test(text) && !INT.test(text) ? 'float' : null;
}

/**
 * Which parameter each sentence of a problem is about: the server names it in quotes. Sentences about none come under the
 * empty name, which no variable has.
 */
export function problemsByName(message: string, parameters: readonly ParameterOut[]): Map<string, string[]> {
  const names = new Set(parameters.map(parameter => parameter.name));
  const found = new Map<string, string[]>();
  for (const sentence of message.split('\n')) {
    const name = /'([^']+)'/.exec(sentence)?.[1] ?? '';
    const about = names.has(name) ? name : '';
    found.set(about, [...(found.get(about) ?? []), sentence]);
  }
  return found;
}

/** An entry of a record, never of its prototype: `constructor` is a fine name for a parameter. */
export function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.prototype.hasOwnProperty.call(record, name) ? record[name] : undefined;
}

/** A record for names that may be anything, `__proto__` too. */
export function emptyRecord<T>(): Record<string, T> {
  return Object.create(null) as Record<string, T>;
}
