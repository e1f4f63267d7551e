/** The parameters of the notebook in front, as a form made from their types. */

import { TranslationBundle } from '@jupyterlab/translation';
import { FormComponent, ReactWidget } from '@jupyterlab/ui-components';
import { ReadonlyJSONObject } from '@lumino/coreutils';
import type { ErrorSchema, ValidatorType } from '@rjsf/utils';
import * as React from 'react';
import { FIELD_TEMPLATES } from '../components/field';
import { Action, ProblemView, Teach } from '../components/marks';
import { misfitText } from '../components/words';
import { useSignals } from '../components/signal';
import { Context, Section } from '../context';
import { edits, fieldKey, Form, formOf } from '../form';
import { LaunchModel } from '../models/launch';
import { printable } from '../text';
import { misfit, own, Values } from '../values';
import { ParameterOut } from '../wire';

export const parametersSection: Section = {
  id: 'parameters',
  share: 4,
  title: trans => trans.__('Parameters'),
  create: context => {
    const widget = ReactWidget.create(<ParametersView context={context} />);
    widget.addClass('jp-mlops-section');
    return widget;
  }
};

const EXAMPLE = 'learning_rate: float = 0.01  # step size\nepochs: int = 10';

function ParametersView({ context }: { context: Context }): React.JSX.Element {
  const { notebook, launch, trans } = context;
  useSignals(notebook.changed, launch.changed);
  if (!notebook.panel) {
    return (
      <Teach>
        <p>{trans.__('Open a notebook to see its parameters and to run it.')}</p>
      </Teach>
    );
  }
  if (notebook.isElsewhere) {
    return (
      <Teach>
        <p>
          {trans.__(
            'This notebook is a view and none of the server’s files. Open the notebook itself to run it.'
          )}
        </p>
      </Teach>
    );
  }
  if (notebook.problem) {
    return <ProblemView problem={notebook.problem} />;
  }
  const { parameters } = notebook;
  if (!parameters) {
    return <p className="jp-mlops-note">{trans.__('Reading the notebook…')}</p>;
  }
  if (parameters.cell === null) {
    return <Untagged context={context} />;
  }
  if (parameters.parameters.length === 0) {
    return (
      <Teach>
        <p>{trans.__('The parameters cell assigns nothing yet. Write one assignment a line:')}</p>
        <pre>{EXAMPLE}</pre>
      </Teach>
    );
  }
  const isChanged = Object.keys(notebook.values).length > 0;
  return (
    <>
      <ParameterForm context={context} parameters={parameters.parameters} />
      {isChanged && (
        <div className="jp-mlops-actions">
          <Action label={trans.__('Back to the defaults')} onClick={() => notebook.reset()} />
        </div>
      )}
    </>
  );
}

function Untagged({ context: { notebook, trans } }: { context: Context }): React.JSX.Element {
  const isCode = notebook.panel?.content.activeCell?.model.type === 'code';
  // The active cell changes without an edit.
  const panel = notebook.panel;
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const content = panel?.content;
    const slot = () => redraw();
    content?.activeCellChanged.connect(slot);
    return () => {
      content?.activeCellChanged.disconnect(slot);
    };
  }, [panel]);
  return (
    <Teach>
      <p>
        {trans.__(
          'No cell is tagged as parameters yet. Tag the one that sets them, and each run can set other values without an edit.'
        )}
      </p>
      <div className="jp-mlops-actions">
        <Action
          label={trans.__('Tag this cell as parameters')}
          primary
          disabled={!isCode}
          title={isCode ? trans.__('The active cell of the notebook') : trans.__('Select a code cell first')}
          onClick={() => notebook.tagActiveCell()}
        />
        <Action label={trans.__('Insert an example')} onClick={() => notebook.insertCell(EXAMPLE)} />
      </div>
    </Teach>
  );
}

/** The form checks nothing by itself: what is wrong is said by `misfit` at once and by the server a moment later. */
const NO_VALIDATOR: ValidatorType = {
  validateFormData: () => ({ errors: [], errorSchema: {} }),
  toErrorList: () => [], // eslint-disable-line @typescript-eslint/no-deprecated -- the interface has it
  isValid: () => true,
  rawValidation: () => ({ errors: [] })
};

function ParameterForm({
  context,
  parameters
}: {
  context: Context;
  parameters: ParameterOut[];
}): React.JSX.Element {
  const { notebook, launch, trans } = context;
  const form = formOf(parameters, notebook.values, trans);
  return (
    <FormComponent
      className="jp-mlops-form"
      idPrefix="jp-mlops-parameter"
      validator={NO_VALIDATOR}
      schema={form.schema}
      uiSchema={form.uiSchema}
      formData={form.data as ReadonlyJSONObject}
      extraErrors={errors(parameters, notebook.values, launch, trans)}
      showErrorList={false}
      templates={FIELD_TEMPLATES}
      formContext={{ trans }}
      noHtml5Validate
      tagName="div"
      onChange={({ formData }) => {
        for (const [name, text] of edits(parameters, form.data, (formData ?? {}) as Form['data'])) {
          notebook.set(name, text);
        }
      }}
    >
      {/* No button of its own: runs are started in the section below. */}
      <></>
    </FormComponent>
  );
}

function errors(
  parameters: readonly ParameterOut[],
  values: Values,
  launch: LaunchModel,
  trans: TranslationBundle
): ErrorSchema {
  const found: Record<string, { __errors: string[] }> = {};
  parameters.forEach((parameter, index) => {
    const text = own(values, parameter.name);
    const kind = misfit(parameter, text);
    if (kind === 'required' && !launch.wasTried) {
      return; // not touched yet: the mark beside the name says it
    }
    const said = kind !== null ? [misfitText(kind, trans)] : (launch.problemsOf.get(parameter.name) ?? []);
    if (said.length > 0) {
      found[fieldKey(index)] = { __errors: said.map(printable) };
    }
  });
  return found as ErrorSchema;
}
