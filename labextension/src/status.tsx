/** The status bar's item: how many runs have not ended. */

import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';
import { useSignals } from './components/signal';
import { Context } from './context';
import { mlopsIcon } from './icons';

export function statusWidget(context: Context): ReactWidget {
  const widget = ReactWidget.create(<RunningCount context={context} />);
  widget.addClass('jp-mlops-status');
  return widget;
}

function RunningCount({ context }: { context: Context }): React.JSX.Element {
  const { runs, trans } = context;
  useSignals(runs.changed);
  const text = trans._n('%1 run', '%1 runs', runs.running);
  return (
    <button
      type="button"
      title={trans.__('Runs that have not ended; click to see them')}
      aria-label={trans._n('%1 run has not ended', '%1 runs have not ended', runs.running)}
      onClick={() => context.show('runs')}
    >
      <mlopsIcon.react tag="span" aria-hidden="true" />
      {text}
    </button>
  );
}
