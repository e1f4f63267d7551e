/** A metric as a small curve. What cannot be drawn (NaN, infinity) leaves a gap. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { Point } from '../progress';
import { strokes } from '../strokes';
import { formatMetric, printable } from '../text';

const WIDTH = 160;
const HEIGHT = 36;

export interface CurveProps {
  name: string;
  points: readonly Point[];
  trans: TranslationBundle;
}

export function Curve({ name, points, trans }: CurveProps): React.JSX.Element {
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
          {strokes(points, WIDTH, HEIGHT).map((path, index) => (
            <path key={index} d={path} vectorEffect="non-scaling-stroke" />
          ))}
        </svg>
      )}
    </figure>
  );
}
