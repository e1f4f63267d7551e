import { assign, defaultText, misfit, problemsByName, Values } from '../src/values';
import { parameter } from './parameter';

describe('values of parameters', () => {
  it('sends text as it is, also where it reads like something else', () => {
    const declared = [
      parameter('name', { type: 'str' }),
      parameter('maybe', { type: 'str', optional: true })
    ];
    const { parameters, assignments } = assign(declared, { name: 'none', maybe: 'none' });
    expect(parameters).toEqual({ name: 'none' });
    expect(assignments).toEqual({ maybe: 'none' });
  });

  it('sends numbers as typed, however long', () => {
    const typed = '123456789012345678901234567890';
    expect(assign([parameter('n', { type: 'int' })], { n: typed }).assignments).toEqual({ n: typed });
  });

  it('sends a choice as the value that was declared', () => {
    const declared = [parameter('layers', { choices: [1, 2, '3', null] })];
    expect(assign(declared, { layers: '2' }).parameters).toEqual({ layers: 2 });
    expect(assign(declared, { layers: 'none' }).parameters).toEqual({ layers: null });
  });

  it('leaves out what the notebook no longer declares', () => {
    expect(assign([], { gone: '1' })).toEqual({ assignments: {}, parameters: {} });
  });

  it('takes names that objects have of their own', () => {
    const declared = [parameter('constructor', { type: 'int' }), parameter('__proto__', { type: 'int' })];
    expect(JSON.stringify(assign(declared, {}))).toBe('{"assignments":{},"parameters":{}}');
    const values = JSON.parse('{"__proto__": "1", "constructor": "2"}') as Values;
    expect(JSON.stringify(assign(declared, values).assignments)).toBe('{"constructor":"2","__proto__":"1"}');
  });

  it.each([
    ['int', '10', null],
    ['int', '1_000', null],
    ['int', '-0x1F', null],
    ['int', '1.5', 'int'],
    ['int', '', 'int'],
    ['float', '1e-3', null],
    ['float', '.5', null],
    ['float', '3', null],
    ['float', '-inf', null],
    ['float', 'nan', null],
    ['float', 'much', 'float'],
    ['float', '1,5', 'float'],
    ['str', '', null],
    ['list', '[1', null]
  ] as const)('says of %s whether %p can be it: %p', (type, text, expected) =>
    expect(misfit(parameter('x', { type }), text)).toBe(expected)
  );

  it('takes none where None is allowed', () => {
    expect(misfit(parameter('x', { type: 'int', optional: true }), 'None')).toBeNull();
    expect(misfit(parameter('x', { type: 'int' }), 'None')).toBe('int');
  });

  it('misses what is required and only that', () => {
    expect(misfit(parameter('x', { required: true }), undefined)).toBe('required');
    expect(misfit(parameter('x'), undefined)).toBeNull();
  });

  it('shows a default as it is typed', () => {
    expect(defaultText(parameter('x', { default: [64, 32] }))).toBe('[64,32]');
    expect(defaultText(parameter('x', { default: true }))).toBe('true');
    expect(defaultText(parameter('x', { default: null }))).toBe('none');
    expect(defaultText(parameter('x', { default_source: '60 * 60' }))).toBeNull();
    expect(defaultText(parameter('x', { required: true }))).toBeNull();
  });

  it('finds the parameter that each sentence of a problem is about', () => {
    const message = "The parameter 'lr' takes a number, not 'much'.\nThe notebook has no parameter 'depth'.";
    const found = problemsByName(message, [parameter('lr')]);
    expect([...found.keys()]).toEqual(['lr', '']);
  });
});
