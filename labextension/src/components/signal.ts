/** React components that follow models. */

import { ISignal } from '@lumino/signaling';
import * as React from 'react';

/** Draw the component anew whenever one of these signals is emitted. */
export function useSignals(...signals: ISignal<unknown, unknown>[]): void {
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const slot = () => redraw();
    for (const signal of signals) {
      signal.connect(slot);
    }
    redraw(); // what was emitted between drawing and now
    return () => {
      for (const signal of signals) {
        signal.disconnect(slot);
      }
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the list has a fixed length at each call
  }, signals);
}

/** The time now, again and again while `active`. */
export function useClock(active: boolean, interval = 1000): number {
  const [now, setNow] = React.useState(() => Date.now());
  React.useEffect(() => {
    if (!active) {
      return undefined;
    }
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), interval);
    return () => clearInterval(timer);
  }, [active, interval]);
  return now;
}
