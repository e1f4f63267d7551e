import { nullTranslator } from '@jupyterlab/translation/lib/base';
import { edits, formOf } from '../src/form';
import { parameter } from './parameter';

const trans = nullTranslator.load('');

describe('the form', () => {
  it('fills in the defaults, and marks what is required', () => {
    const form = formOf(
      [
        parameter('lr', { type: 'float', type_name: 'float', default: 0.1 }),
        parameter('shuffle', { type: 'bool', default: true }),
        parameter('data', { type: 'str', required: true })
      ],
      {},
      trans
    );
    expect(form.data).toEqual({ p0: '0.1', p1: true, p2: undefined });
    expect(form.schema.required).toEqual(['p2']);
    expect(form.schema.properties['p1']?.type).toBe('boolean');
  });

  it('offers None beside the two of an optional bool', () => {
    const form = formOf([parameter('flag', { type: 'bool', optional: true, default: null })], {}, trans);
    expect(form.schema.properties['p0']?.enum).toEqual(['none', 'true', 'false']);
  });

  it('tells what was edited, and what is the default again', () => {
    const declared = [
      parameter('lr', { type: 'float', default: 0.1 }),
      parameter('name', { type: 'str', default: 'a' }),
      parameter('data', { type: 'str', required: true }),
      parameter('size', { type: 'int', default_source: '60 * 60' })
    ];
    const before = { p0: '0.1', p1: 'a', p2: 'x', p3: undefined };
    expect(edits(declared, before, { ...before, p0: '0.5' })).toEqual([['lr', '0.5']]);
    expect(edits(declared, { ...before, p0: '0.5' }, before)).toEqual([['lr', null]]);
    expect(edits(declared, before, { ...before, p1: '' })).toEqual([['name', '']]);
    expect(edits(declared, before, { ...before, p2: undefined })).toEqual([['data', null]]);
    expect(edits(declared, { ...before, p3: '1' }, { ...before, p3: '' })).toEqual([['size', null]]);
  });
});
