import { strokes } from '../src/strokes';

describe('a curve', () => {
  it('leaves a gap where there is no number', () => {
    const points = [1, 2, NaN, 3, 4, Infinity, 5].map((value, step) => ({ step, value }));
    expect(strokes(points, 100, 50).length).toBe(2);
  });

  it('has no number in it that SVG cannot read', () => {
    const same = [0, 1, 2].map(step => ({ step, value: 7 }));
    expect(strokes(same, 100, 50).join()).not.toMatch(/NaN|Infinity/);
    expect(strokes([{ step: 0, value: NaN }], 100, 50)).toEqual([]);
    expect(strokes([], 100, 50)).toEqual([]);
  });

  it('goes up where the value does', () => {
    expect(
      strokes(
        [
          { step: 0, value: 0 },
          { step: 1, value: 1 }
        ],
        100,
        50
      )
    ).toEqual(['M2.0 48.0L98.0 2.0']);
  });
});
