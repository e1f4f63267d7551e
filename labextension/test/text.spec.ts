import {
  formatBytes,
  formatDuration,
  formatMetric,
  parseMetric,
  printable,
  withoutColours
} from '../src/text';

describe('text', () => {
  it.each([
    [0, '0 s'],
    [0.035, '35 ms'],
    [4.06, '4.1 s'],
    [9.96, '10 s'],
    [65, '1 min 05 s'],
    [7384, '2 h 03 min'],
    [100_000, '1 d 03 h'],
    [-1, '?'],
    [NaN, '?'],
    [Infinity, '?']
  ])('writes %p seconds as %p', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [200 * 2 ** 20, '200 MiB'],
    [NaN, '?']
  ])('writes %p bytes as %p', (count, text) => expect(formatBytes(count)).toBe(text));

  it.each([
    [0.97312, '0.9731'],
    [0, '0'],
    [12345.67, '12345.7'],
    [0.0000123, '1.23e-5'],
    [NaN, 'NaN'],
    [-Infinity, '-Infinity']
  ])('writes the metric %p as %p', (value, text) => expect(formatMetric(value)).toBe(text));

  it('reads what JSON has no word for', () => {
    expect(['NaN', 'Infinity', '-Infinity', 1.5].map(parseMetric)).toEqual([NaN, Infinity, -Infinity, 1.5]);
  });

  it('shows what a browser would obey', () => {
    expect(printable('a\u202eb\u0000\u001b[31m\u2028\ud800')).toBe('a\\u202eb␀␛[31m\\u2028\\ud800');
  });

  it('leaves ordinary text of any language alone', () => {
    expect(printable('Größe 日本 🚀 <b>')).toBe('Größe 日本 🚀 <b>');
  });

  it('takes colours out and nothing else', () => {
    expect(withoutColours('\u001b[1;32mok\u001b[0m \u001b]8;;http://x\u0007link\u001b]8;;\u0007 [31m')).toBe(
      'ok link [31m'
    );
  });
});
