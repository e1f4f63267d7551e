/** A metric as a small curve. What cannot be drawn (NaN, infinity) leaves a gap. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { Point } from '../progress';
import { formatMetric, printable } from '../text';

const WIDTH = 160;
const HEIGHT = 36;
const MARGIN = 2;

export interface CurveProps {
  name: string;
  points: readonly Point[];
  trans: TranslationBundle;
}

export function Curve({ name, points, trans }: CurveProps): JSX.Element {
  const shown = printable(name);
  const last = points[points.length - 1];
  const text = last ? formatMetric(last.value) : '';
  return (
    <figure className="jp-mlops-curve">
      <figcaption>
        <span className="jp-mlops-metricName" title={shown}>
          {shown}
        </span>
        <span className="jp-mlops-metricValue">{text}</span>
      </figcaption>
      {points.length > 1 && (
        <svg
          role="img"
          aria-label={trans.__('%1: last %2, at step %3', shown, text, last?.step ?? 0)}
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
        >
          {strokes(points).map((path, index) => (
            <path key={index} d={path} vectorEffect="non-scaling-stroke" />
          ))}
        </svg>
      )}
    </figure>
  );
}

/**
 * SVG paths of the points, one for each part without a gap.
 *
 * @param within Points whose ranges are the axes; else those of the points themselves.
 */
export function strokes(points: readonly Point[], width = WIDTH, height = HEIGHT, within = points): string[] {
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
