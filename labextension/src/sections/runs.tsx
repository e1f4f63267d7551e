/** The list of runs, and the one that was opened from it. */

import { ReactWidget } from '@jupyterlab/ui-components';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';
import { Action, ProblemView, Teach } from '../components/marks';
import { RunDetailsView } from '../components/rundetails';
import { RunList } from '../components/runlist';
import { useSignals } from '../components/signal';
import { Context, Section } from '../context';
import { RunModel } from '../models/run';

const MOST_COMPARED = 10;

export const runsSection: Section = {
  id: 'runs',
  share: 4,
  title: trans => trans.__('Runs'),
  create: context => new RunsWidget(context)
};

/** Keeps what is opened and marked: the list and the details are drawn from it. */
export class RunsWidget extends ReactWidget {
  constructor(private readonly _context: Context) {
    super();
    this.addClass('jp-mlops-section');
    this.addClass('jp-mlops-runs');
  }

  get opened(): RunModel | null {
    return this._opened;
  }

  get takesFocus(): boolean {
    return this._takesFocus;
  }

  /** The run in front is another; null: the list. */
  get openedChanged(): ISignal<this, string | null> {
    return this._openedChanged;
  }

  override dispose(): void {
    this._opened?.dispose();
    super.dispose();
  }

  /** Show a run in detail, with the focus on it; null: the list. */
  open(runId: string | null, takesFocus = true): void {
    if (this._opened?.runId === runId) {
      return;
    }
    this._opened?.dispose();
    this._takesFocus = takesFocus;
    const { api, socket } = this._context;
    this._opened = runId === null ? null : new RunModel(runId, api, socket);
    this._openedChanged.emit(runId);
  }

  protected override render(): React.JSX.Element {
    return <RunsView widget={this} context={this._context} />;
  }

  private _opened: RunModel | null = null;
  private _takesFocus = true;
  private _openedChanged = new Signal<this, string | null>(this);
}

function RunsView({ widget, context }: { widget: RunsWidget; context: Context }): React.JSX.Element {
  const { runs, trans } = context;
  useSignals(runs.changed, widget.openedChanged);
  const [marked, setMarked] = React.useState<ReadonlySet<string>>(new Set());
  const cameFrom = React.useRef<string | null>(null);
  if (widget.opened) {
    cameFrom.current = widget.opened.runId;
    return (
      <RunDetailsView
        key={widget.opened.runId}
        model={widget.opened}
        context={context}
        takesFocus={widget.takesFocus}
        onBack={() => widget.open(null)}
      />
    );
  }
  if (runs.runs.length === 0) {
    return runs.problem ? (
      <ProblemView problem={runs.problem} />
    ) : (
      <Teach>
        <p>
          {runs.isLoaded
            ? trans.__(
                'No runs yet. Each run keeps its notebook, files, parameters, metrics and log, and shows here live.'
              )
            : trans.__('Loading…')}
        </p>
      </Teach>
    );
  }
  const mark = (runId: string) => {
    const next = new Set(marked);
    if (!next.delete(runId) && next.size < MOST_COMPARED) {
      next.add(runId);
    }
    setMarked(next);
  };
  const chosen = runs.runs.filter(run => marked.has(run.run_id));
  return (
    <>
      {runs.problem && <ProblemView problem={runs.problem} />}
      {!context.socket.isConnected && (
        <p className="jp-mlops-note" role="status">
          {trans.__('Not connected: what is shown may be old.')}
        </p>
      )}
      {chosen.length > 0 && (
        <div className="jp-mlops-actions">
          <Action
            label={trans._n('Compare %1 run', 'Compare %1 runs', chosen.length)}
            primary
            disabled={chosen.length < 2}
            title={chosen.length < 2 ? trans.__('Mark a second one: Space, or a click at its left edge') : ''}
            onClick={() => context.compare(chosen)}
          />
          <Action label={trans.__('Unmark')} onClick={() => setMarked(new Set())} />
        </div>
      )}
      <RunList
        model={runs}
        marked={marked}
        cameFrom={cameFrom.current}
        onOpen={id => widget.open(id)}
        onMark={mark}
        trans={trans}
      />
    </>
  );
}
