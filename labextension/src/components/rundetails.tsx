/** One run: how it stands, what went wrong, its cells, metrics and log, and what can be done with it. */

import * as React from 'react';
import { asProblem, ProblemError } from '../problem';
import { Context } from '../context';
import { isEnd } from '../events';
import { RunModel } from '../models/run';
import { formatBytes, formatDuration, formatMoment, printable } from '../text';
import { valueText } from '../values';
import { RunOut } from '../wire';
import { CellList } from './cells';
import { Curve } from './curve';
import { LogView } from './log';
import { Action, Hint, ProblemView, StateMark } from './marks';
import { useClock, useSignals } from './signal';

export interface RunDetailsProps {
  model: RunModel;
  context: Context;
  /** Whether a person asked for it just now. */
  takesFocus: boolean;
  onBack(): void;
}

export function RunDetailsView({ model, context, takesFocus, onBack }: RunDetailsProps): React.JSX.Element {
  const { trans } = context;
  useSignals(model.changed, context.runs.changed);
  const heading = React.useRef<HTMLHeadingElement>(null);
  React.useEffect(() => {
    if (takesFocus) {
      heading.current?.focus();
    }
  }, [model, takesFocus]);
  const run = newest(model, context);
  if (!run) {
    return (
      <div className="jp-mlops-details">
        <Back context={context} onBack={onBack} />
        {model.problem ? <ProblemView problem={model.problem} /> : <p>{trans.__('Loading…')}</p>}
      </div>
    );
  }
  const { progress } = model;
  // The record and the events come by different ways: whichever got further is right.
  const state = isEnd(run.state) || progress.state === 'pending' ? run.state : progress.state;
  return (
    <div className="jp-mlops-details">
      <Back context={context} onBack={onBack} />
      <h3 ref={heading} tabIndex={-1}>
        {printable(run.name)}
      </h3>
      <p className="jp-mlops-summary" aria-live="polite">
        <StateMark state={state} trans={trans} />
        {!isEnd(state) && progress.phase !== '' && <span>{printable(progress.phase)}</span>}
      </p>
      <Bar model={model} context={context} />
      <Failure model={model} run={run} />
      {model.problem && <ProblemView problem={model.problem} />}
      <Actions model={model} run={run} context={context} />
      {progress.notices.map((notice, index) => (
        <p key={index} className={`jp-mlops-notice jp-mod-${notice.level}`}>
          {notice.level === 'warning'
            ? trans.__('Warning: %1', printable(notice.message))
            : printable(notice.message)}
        </p>
      ))}
      {progress.metrics.size > 0 && (
        <Fold title={trans.__('Metrics')} open>
          <div className="jp-mlops-curves">
            {[...progress.metrics].map(([name, points]) => (
              <Curve key={name} name={name} points={points} trans={trans} />
            ))}
          </div>
          {progress.metricsLeftOut.size > 0 && (
            <p className="jp-mlops-note">
              {trans.__('%1 more are in MLflow.', progress.metricsLeftOut.size)}
            </p>
          )}
        </Fold>
      )}
      {progress.cells.size > 0 && (
        <Fold title={trans.__('Cells')} open>
          <CellList progress={progress} trans={trans} />
        </Fold>
      )}
      {progress.log.lines.length > 0 && (
        <Fold title={trans.__('Log')} open={state === 'failed' || !isEnd(state)}>
          <LogView log={progress.log} trans={trans} />
        </Fold>
      )}
      <Fold title={trans.__('Facts')}>
        <Facts model={model} run={run} context={context} />
      </Fold>
    </div>
  );
}

/** The list hears of a change first where the details were asked for before it. */
function newest(model: RunModel, { runs }: Context): RunOut | null {
  const listed = runs.find(model.runId);
  return listed && (!model.run || isEnd(listed.state)) ? listed : (model.run ?? listed ?? null);
}

function Back({ context: { trans }, onBack }: { context: Context; onBack(): void }): React.JSX.Element {
  return (
    <button type="button" className="jp-mlops-back" onClick={onBack}>
      {trans.__('← All runs')}
    </button>
  );
}

function Bar({
  model: { progress },
  context: { trans }
}: {
  model: RunModel;
  context: Context;
}): React.JSX.Element | null {
  const now = useClock(!progress.end);
  if (progress.startTime === null) {
    return null;
  }
  const elapsed = Math.max(0, (progress.endTime ?? now) - progress.startTime) / 1000;
  const rest = progress.remaining(now);
  const { fraction } = progress;
  const percent = fraction === null ? 0 : Math.round(fraction * 100);
  const words = [
    progress.totalCells === null ? '' : trans.__('%1 of %2 cells', progress.done, progress.totalCells),
    formatDuration(elapsed),
    rest === null || progress.end ? '' : trans.__('about %1 left', formatDuration(rest))
  ];
  return (
    <div className="jp-mlops-progress">
      <div
        className={`jp-mlops-bar jp-mod-${progress.state}`}
        role="progressbar"
        aria-label={trans.__('Progress of the run')}
        aria-valuemin={0}
        aria-valuemax={100}
        {...(fraction === null ? {} : { 'aria-valuenow': percent })}
      >
        <div style={{ width: `${percent}%` }} />
      </div>
      <p className="jp-mlops-note">{words.filter(word => word !== '').join(' · ')}</p>
      {progress.resource && !progress.end && (
        <p className="jp-mlops-note">
          {[
            trans.__('CPU %1 %', progress.resource.cpu_percent.toFixed(0)),
            formatBytes(progress.resource.memory),
            ...progress.resource.gpus.map(gpu =>
              trans.__(
                'GPU %1: %2 %, %3',
                gpu.index,
                gpu.utilization.toFixed(0),
                formatBytes(gpu.memory_used)
              )
            )
          ].join(' · ')}
        </p>
      )}
    </div>
  );
}

interface RunProps {
  model: RunModel;
  run: RunOut;
  context: Context;
}

function Failure({ model: { progress }, run }: Omit<RunProps, 'context'>): React.JSX.Element | null {
  const { end } = progress;
  const message = end?.message ?? run.message;
  if (!isEnd(run.state) && !end) {
    return null;
  }
  if (message === '') {
    return null;
  }
  return (
    <div className={`jp-mlops-problem${run.state === 'cancelled' ? ' jp-mod-quiet' : ''}`}>
      {end?.line != null && end.line !== '' && <code className="jp-mlops-line">{printable(end.line)}</code>}
      {message.split('\n').map((line, index) => (
        <p key={index}>{printable(line)}</p>
      ))}
      {end && end.hint !== '' && <Hint text={end.hint} />}
    </div>
  );
}

function Actions({ model, run, context }: RunProps): React.JSX.Element {
  const { trans, api, runs } = context;
  const [busy, setBusy] = React.useState(false);
  const [asked, setAsked] = React.useState(false);
  const [problem, setProblem] = React.useState<ProblemError | null>(null);
  const act = async (call: () => Promise<RunOut>, then: (run: RunOut) => void) => {
    setBusy(true);
    setProblem(null);
    try {
      const answer = await call();
      runs.put([answer]);
      then(answer);
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  const over = isEnd(run.state) || model.progress.end !== null;
  const url = webAddress(model.details?.mlflow_url ?? model.progress.mlflowUrl);
  return (
    <>
      <div className="jp-mlops-actions">
        {!over && (
          <Action
            label={asked ? trans.__('Ending…') : trans.__('Cancel run')}
            warn
            disabled={busy || asked}
            onClick={() =>
              void act(
                () => api.cancel(run.run_id),
                () => setAsked(true)
              )
            }
          />
        )}
        {over && (
          <Action
            label={trans.__('Run again')}
            title={trans.__('The same snapshot with the same parameters')}
            disabled={busy}
            onClick={() =>
              void act(
                () => api.retry(run.run_id),
                again => context.showRun(again.run_id)
              )
            }
          />
        )}
        {model.details?.has_notebook === true && (
          <Action label={trans.__('Executed notebook')} onClick={() => context.openExecuted(run)} />
        )}
        {run.path !== null && (
          <Action label={trans.__('Notebook')} onClick={() => context.openNotebook(run.path ?? '')} />
        )}
        {url !== null && (
          <a className="jp-mlops-link" href={url} target="_blank" rel="noopener noreferrer">
            {trans.__('Open in MLflow')}
          </a>
        )}
      </div>
      {problem && <ProblemView problem={problem} />}
    </>
  );
}

function Facts({ model, run, context: { trans } }: RunProps): React.JSX.Element {
  const now = new Date();
  const moment = (text: string | null) => (text === null ? '' : formatMoment(new Date(text), now));
  const files = model.details?.files ?? [];
  const rows: [string, string][] = [
    [trans.__('Run'), run.run_id],
    [trans.__('Notebook'), run.path ?? run.source],
    [trans.__('Profile'), run.profile],
    [trans.__('Owner'), run.owner],
    [trans.__('Experiment'), run.experiment],
    [trans.__('Created'), moment(run.create_time)],
    [trans.__('Ended'), moment(run.end_time)],
    [trans.__('Repeats'), run.retry_of ?? ''],
    ...Object.entries(run.parameters).map(([name, value]): [string, string] => [name, valueText(value)]),
    [trans.__('Files'), files.length > 20 ? trans.__('%1 files', files.length) : files.join(', ')]
  ];
  return (
    <dl className="jp-mlops-facts">
      {rows
        .filter(([, value]) => value !== '')
        .map(([name, value], index) => (
          <div key={index}>
            <dt>{printable(name)}</dt>
            <dd>{printable(value)}</dd>
          </div>
        ))}
    </dl>
  );
}

function Fold({
  title,
  open,
  children
}: {
  title: string;
  open?: boolean;
  children: React.ReactNode;
}): React.JSX.Element {
  const [isOpen, setOpen] = React.useState(open ?? false);
  return (
    <details className="jp-mlops-fold" open={isOpen} onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>{title}</summary>
      {isOpen && children}
    </details>
  );
}

/** Only what leads to a web page: an address with a script in it is none. */
export function webAddress(text: string | null | undefined): string | null {
  if (!text) {
    return null;
  }
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}
