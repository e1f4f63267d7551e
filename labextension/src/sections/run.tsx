/** Starting a run of the notebook in front: on which profile, with which resources; one button. */

import { HTMLSelect, ReactWidget } from '@jupyterlab/ui-components';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { Capacity } from '../api';
import { ProblemView, Teach } from '../components/marks';
import { useSignals } from '../components/signal';
import { Context, Section } from '../context';
import { Overrides } from '../models/launch';
import { formatBytes, printable } from '../text';
import { misfit, own } from '../values';
import { ProfileOut } from '../wire';

export const runSection: Section = {
  id: 'run',
  share: 2,
  title: trans => trans.__('Run'),
  create: context => {
    const widget = ReactWidget.create(<RunView context={context} />);
    widget.addClass('jp-mlops-section');
    return widget;
  }
};

function RunView({ context }: { context: Context }): React.JSX.Element {
  const { launch, notebook, trans } = context;
  useSignals(launch.changed, notebook.changed);
  if (!notebook.panel || notebook.path === null) {
    return (
      <Teach>
        <p>
          {trans.__(
            'A run executes a copy of the notebook in front: you can go on working in it, or close the browser.'
          )}
        </p>
      </Teach>
    );
  }
  const { profile } = launch;
  const missing = launch.wasTried && hasMisfits(context);
  return (
    <form
      className="jp-mlops-launch"
      onSubmit={event => {
        event.preventDefault();
        void launch.start();
      }}
    >
      <label>
        <span>{trans.__('Profile')}</span>
        <HTMLSelect value={profile?.name ?? ''} onChange={event => launch.choose(event.currentTarget.value)}>
          {launch.profiles.map(each => (
            <option key={each.name} value={each.name}>
              {profileTitle(each, trans)}
            </option>
          ))}
        </HTMLSelect>
      </label>
      {profile && <p className="jp-mlops-note">{profileFacts(profile, trans)}</p>}
      {launch.capacity && <p className="jp-mlops-note">{capacityFacts(launch.capacity, trans)}</p>}
      <Resources context={context} profile={profile} />
      <button
        type="submit"
        data-mlops-first="true"
        className="jp-mlops-runButton jp-mod-styled jp-mod-accept"
        disabled={launch.isStarting}
      >
        {launch.isStarting ? trans.__('Starting…') : trans.__('Run %1', fileName(notebook.path))}
      </button>
      <div aria-live="polite">
        {notebook.isDirty && (
          <p className="jp-mlops-note">
            {launch.unsavedEdits === 'save'
              ? trans.__('Unsaved edits are saved first.')
              : trans.__('Unsaved edits ship with the run; the file stays as it is.')}
          </p>
        )}
        {missing && <p className="jp-mlops-fieldError">{trans.__('See the parameters marked above.')}</p>}
        {launch.checked && <Ships context={context} />}
      </div>
      {launch.problem && <ProblemView problem={launch.problem} />}
    </form>
  );
}

function Resources({
  context,
  profile
}: {
  context: Context;
  profile: ProfileOut | null;
}): React.JSX.Element {
  const { launch, trans } = context;
  const field = (key: keyof Overrides, label: string, placeholder: string) => (
    <label>
      <span>{label}</span>
      <input
        className="jp-mod-styled"
        type="text"
        inputMode={key === 'memory' ? 'text' : 'decimal'}
        value={launch.overrides[key]}
        placeholder={placeholder}
        onChange={event => launch.override({ [key]: event.currentTarget.value })}
      />
    </label>
  );
  const all = trans.__('all');
  return (
    <details className="jp-mlops-fold">
      <summary>{trans.__('Resources of this run')}</summary>
      <div className="jp-mlops-resources">
        {field('gpus', trans.__('GPUs'), profile?.gpus == null ? all : `${profile.gpus}`)}
        {field('cpus', trans.__('CPUs'), profile?.cpus == null ? all : `${profile.cpus}`)}
        {field('memory', trans.__('Memory'), profile?.memory == null ? all : formatBytes(profile.memory))}
      </div>
    </details>
  );
}

function Ships({ context: { launch, trans } }: { context: Context }): React.JSX.Element | null {
  const { checked } = launch;
  if (!checked) {
    return null;
  }
  const title = checked.files.slice(0, 50).map(printable).join('\n');
  return (
    <>
      <p className="jp-mlops-note" title={title}>
        {trans._n('Ships %1 file, %2', 'Ships %1 files, %2', checked.files.length, formatBytes(checked.size))}
      </p>
      {checked.notices.map((notice, index) => (
        <p key={index} className="jp-mlops-notice jp-mod-warning">
          {printable(notice)}
        </p>
      ))}
    </>
  );
}

function hasMisfits({ notebook }: Context): boolean {
  const declared = notebook.parameters?.parameters ?? [];
  return declared.some(each => misfit(each, own(notebook.values, each.name)) !== null);
}

function profileTitle(profile: ProfileOut, trans: TranslationBundle): string {
  const name = printable(profile.name);
  return profile.is_default ? trans.__('%1 (default)', name) : name;
}

function profileFacts(profile: ProfileOut, trans: TranslationBundle): string {
  const parts = [
    printable(profile.description) ||
      (profile.runner === 'local' ? trans.__('This machine') : printable(profile.runner)),
    profile.gpus === null ? '' : trans._n('%1 GPU', '%1 GPUs', profile.gpus),
    profile.cpus === null ? '' : trans.__('%1 CPUs', profile.cpus),
    profile.memory === null ? '' : formatBytes(profile.memory),
    profile.queue === null ? '' : trans.__('queue %1', printable(profile.queue))
  ];
  return parts.filter(part => part !== '').join(' · ');
}

function capacityFacts(capacity: Capacity, trans: TranslationBundle): string {
  const kinds = capacity.kinds.map(kind => {
    const name = printable(kind.product || kind.resource);
    const parts = [
      kind.free === null || kind.total === null ? '' : trans.__('%1 of %2 free', kind.free, kind.total),
      kind.queued ? trans.__('%1 waited for', kind.queued) : '',
      kind.quota_left === null ? '' : trans.__('%1 left of your quota', kind.quota_left)
    ].filter(part => part !== '');
    return `${name}: ${parts.join(', ') || trans.__('not known')}`;
  });
  return kinds.length === 0 ? trans.__('No GPUs are seen in this cluster.') : kinds.join(' · ');
}

function fileName(path: string): string {
  return printable(path.slice(path.lastIndexOf('/') + 1));
}
