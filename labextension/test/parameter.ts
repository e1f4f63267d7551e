/** A parameter as the server describes it, for the tests. */

import { ParameterOut } from '../src/wire';

export const parameter = (name: string, more: Partial<ParameterOut> = {}): ParameterOut => ({
  name,
  type: 'any',
  type_name: 'any',
  optional: false,
  choices: [],
  default: null,
  default_source: '',
  required: false,
  help: '',
  ...more
});
