import { scrollToRow, visibleRows } from '../src/window';

describe('the rows of a long list', () => {
  it('are few, wherever one is', () => {
    for (const top of [0, 1234, 10_000 * 46 - 500]) {
      const { first, end } = visibleRows(top, 500, 46, 10_000);
      expect(end - first).toBeLessThan(30);
      expect(first * 46).toBeLessThanOrEqual(top);
      expect(end * 46).toBeGreaterThanOrEqual(Math.min(top + 500, 10_000 * 46));
    }
  });

  it('are none of an empty list, and never beyond its end', () => {
    expect(visibleRows(0, 500, 46, 0)).toEqual({ first: 0, end: 0 });
    expect(visibleRows(99_999, 500, 46, 3)).toEqual({ first: 3, end: 3 });
  });

  it('are scrolled to no further than needed', () => {
    expect(scrollToRow(5, 0, 460, 46)).toBe(0);
    expect(scrollToRow(10, 0, 460, 46)).toBe(46);
    expect(scrollToRow(1, 460, 460, 46)).toBe(46);
  });
});
