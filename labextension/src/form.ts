/** The JSON schema of the form for a notebook's parameters, and its data. Knows no notebook and no server. */

import { TranslationBundle } from '@jupyterlab/translation';
import { printable } from './text';
import { defaultText, own, Values, valueText } from './values';
import { ParameterOut } from './wire';

interface Field {
  type: 'string' | 'boolean';
  title: string;
  description?: string;
  enum?: string[];
  default?: string | boolean;
}

export interface Form {
  schema: { type: 'object'; properties: Record<string, Field>; required: string[] };
  uiSchema: Record<string, Record<string, unknown>>;
  data: Record<string, string | boolean | undefined>;
}

/**
 * The form of these parameters. Fields are named by their position: `constructor` and `__proto__` are fine names for
 * variables, and no names for what a form component keeps in objects. Numbers are text, so that they arrive as typed.
 */
export function formOf(parameters: readonly ParameterOut[], values: Values, trans: TranslationBundle): Form {
  const form: Form = { schema: { type: 'object', properties: {}, required: [] }, uiSchema: {}, data: {} };
  parameters.forEach((parameter, index) => {
    const key = fieldKey(index);
    const text = own(values, parameter.name) ?? defaultText(parameter) ?? undefined;
    const field: Field = { type: 'string', title: printable(parameter.name) };
    if (parameter.help !== '') {
      field.description = printable(parameter.help);
    }
    const options: Record<string, unknown> = { 'ui:kind': kindOf(parameter, trans) };
    if (isSwitch(parameter)) {
      field.type = 'boolean';
      form.data[key] = text === 'true';
    } else {
      form.data[key] = text;
      const choices = choicesOf(parameter);
      if (choices.length > 0) {
        field.enum = choices;
        options['ui:enumNames'] = choices.map(printable);
      } else if (parameter.type === 'list' || parameter.type === 'dict') {
        options['ui:widget'] = 'textarea';
        options['ui:options'] = { rows: 2 };
      }
      if (parameter.default_source !== '') {
        options['ui:placeholder'] = printable(parameter.default_source);
      }
    }
    if (parameter.required) {
      form.schema.required.push(key);
    }
    form.schema.properties[key] = field;
    form.uiSchema[key] = options;
  });
  return form;
}

export function fieldKey(index: number): string {
  return `p${index}`;
}

/**
 * The parameters that differ from before, with their new text; null: the default again.
 *
 * A field that was emptied stands for the default where that is not text, or not known here.
 */
export function edits(
  parameters: readonly ParameterOut[],
  before: Form['data'],
  after: Form['data']
): [string, string | null][] {
  const found: [string, string | null][] = [];
  parameters.forEach((parameter, index) => {
    const key = fieldKey(index);
    if (before[key] === after[key]) {
      return;
    }
    const value = after[key];
    const text = typeof value === 'boolean' ? String(value) : (value ?? '');
    const byDefault = defaultText(parameter);
    const isEmpty = text === '' && (parameter.type !== 'str' || byDefault === null);
    found.push([parameter.name, text === byDefault || isEmpty ? null : text]);
  });
  return found;
}

/** A bool whose values are all that it can be: with None, or without a known default, it takes three states. */
function isSwitch(parameter: ParameterOut): boolean {
  return (
    parameter.type === 'bool' &&
    !parameter.optional &&
    parameter.choices.length === 0 &&
    !parameter.required &&
    parameter.default_source === ''
  );
}

function choicesOf(parameter: ParameterOut): string[] {
  if (parameter.choices.length > 0) {
    return parameter.choices.map(valueText);
  }
  if (parameter.type !== 'bool') {
    return [];
  }
  return parameter.optional ? ['none', 'true', 'false'] : ['true', 'false'];
}

/** What values it takes, in a word or two; empty where the field shows it. */
function kindOf(parameter: ParameterOut, trans: TranslationBundle): string {
  const type = parameter.choices.length > 0 || isSwitch(parameter) ? '' : printable(parameter.type_name);
  const isJSON = parameter.type === 'list' || parameter.type === 'dict';
  return isJSON ? trans.__('%1, as JSON', type) : type;
}
