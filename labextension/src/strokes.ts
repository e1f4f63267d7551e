/** Curves as SVG paths. Pure arithmetic. */

import { Point } from './progress';

const MARGIN = 2;

/**
 * SVG paths of the points, one for each part without a gap.
 *
 * @param within Points whose ranges are the axes; else those of the points themselves.
 */
export function strokes(points: readonly Point[], width: number, height: number, within = points): string[] {
  const across = range(within.map(point => point.step));
  const up = range(within.map(point => point.value));
  const paths: string[] = [];
  let path = '';
  for (const point of points) {
    if (!Number.isFinite(point.value)) {
      paths.push(path);
      path = '';
      continue;
    }
    const x = MARGIN + along(point.step, across) * (width - 2 * MARGIN);
    const y = height - MARGIN - along(point.value, up) * (height - 2 * MARGIN);
    path += `${path === '' ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  paths.push(path);
  return paths.filter(each => each.includes('L'));
}

function range(values: number[]): [number, number] {
  const finite = values.filter(Number.isFinite);
  return [Math.min(...finite), Math.max(...finite)];
}

/** Where a value stands in a range, 0 to 1; in the middle of one without an extent. */
function along(value: number, [from, to]: [number, number]): number {
  return to > from ? (value - from) / (to - from) : 0.5;
}
