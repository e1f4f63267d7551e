/** Small parts that many views share. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { ProblemError } from '../problem';
import { stateIcons } from '../icons';
import { printable } from '../text';
import { RunState } from '../wire';
import { stateWord } from './words';

/** A state as icon, word and colour. */
export function StateMark({
  state,
  trans
}: {
  state: RunState;
  trans: TranslationBundle;
}): React.JSX.Element {
  const icon = stateIcons[state];
  return (
    <span className={`jp-mlops-state jp-mod-${state}`}>
      <icon.react tag="span" className="jp-mlops-stateIcon" aria-hidden="true" />
      {stateWord(state, trans)}
    </span>
  );
}

/** A problem in its sentence, with the next step. */
export function ProblemView({ problem }: { problem: ProblemError }): React.JSX.Element {
  return (
    <div className="jp-mlops-problem" role="alert">
      {problem.message.split('\n').map((line, index) => (
        <p key={index}>{printable(line)}</p>
      ))}
      {problem.hint !== '' && <Hint text={problem.hint} />}
    </div>
  );
}

export function Hint({ text }: { text: string }): React.JSX.Element {
  return (
    <>
      {text.split('\n').map((line, index) => (
        <p key={index} className="jp-mlops-hint">
          {printable(line)}
        </p>
      ))}
    </>
  );
}

interface ActionProps {
  label: string;
  onClick(): void;
  primary?: boolean;
  warn?: boolean;
  disabled?: boolean;
  title?: string;
  refTo?: React.Ref<HTMLButtonElement>;
}

/** A button as Lab's dialogs have it. */
export function Action({
  label,
  onClick,
  primary,
  warn,
  disabled,
  title,
  refTo
}: ActionProps): React.JSX.Element {
  const kind = warn ? 'jp-mod-warn' : primary ? 'jp-mod-accept' : 'jp-mod-plain';
  return (
    <button
      type="button"
      ref={refTo}
      className={`jp-mlops-action jp-mod-styled ${kind}`}
      disabled={disabled ?? false}
      title={title}
      onClick={onClick}
    >
      {label}
    </button>
  );
}

/** What an empty place teaches. */
export function Teach({ children }: { children: React.ReactNode }): React.JSX.Element {
  return <div className="jp-mlops-teach">{children}</div>;
}
