/** The last lines that a run printed; stays at the end while it is there. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { LogTail } from '../log';

export function LogView({ log, trans }: { log: LogTail; trans: TranslationBundle }): React.JSX.Element {
  const box = React.useRef<HTMLDivElement>(null);
  const atEnd = React.useRef(true);
  React.useLayoutEffect(() => {
    if (box.current && atEnd.current) {
      box.current.scrollTop = box.current.scrollHeight;
    }
  });
  return (
    <div
      ref={box}
      className="jp-mlops-log"
      role="log"
      aria-live="off"
      aria-label={trans.__('Log')}
      // A keyboard must be able to scroll it.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      onScroll={event => {
        const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
        atEnd.current = scrollHeight - scrollTop - clientHeight < 8;
      }}
    >
      {log.leftOut > 0 && (
        <p className="jp-mlops-note">{trans._n('%1 earlier line', '%1 earlier lines', log.leftOut)}</p>
      )}
      {log.lines.map(line => (
        <div key={line.number} className={`jp-mlops-logLine jp-mod-${line.stream}`}>
          {line.text || '\u00a0'}
        </div>
      ))}
    </div>
  );
}
