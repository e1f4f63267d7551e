/**
 * How a field of the parameters' form is drawn. As Lab's own, whose label does not belong to its input: a screen reader
 * would not name the field.
 */

import type { FieldTemplateProps, ObjectFieldTemplateProps } from '@rjsf/utils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

function Field(props: FieldTemplateProps): React.JSX.Element {
  const { id, label, required, displayLabel, rawDescription, rawErrors, children, schema, uiSchema } = props;
  const { trans } = props.formContext as { trans: TranslationBundle };
  if (schema.type === 'object') {
    return children;
  }
  const isSwitch = schema.type === 'boolean';
  return (
    <div className={`jp-mlops-field${rawErrors?.length ? ' jp-mod-hasErrors' : ''}`}>
      {displayLabel && (
        <label htmlFor={id} className="jp-FormGroup-fieldLabel">
          {label}
          <span className="jp-mlops-kind">{String(uiSchema?.['ui:kind'] ?? '')}</span>
          {required && <span className="jp-mlops-kind jp-mod-required">{trans.__('required')}</span>}
        </label>
      )}
      {rawDescription !== undefined && rawDescription !== '' && !isSwitch && (
        <div id={`${id}__description`} className="jp-FormGroup-description">
          {rawDescription}
        </div>
      )}
      <div className="jp-inputFieldWrapper">{children}</div>
      <div id={`${id}__error`} className="jp-mlops-fieldError" aria-live="polite">
        {rawErrors?.map((error, index) => (
          <p key={index}>{error}</p>
        ))}
      </div>
    </div>
  );
}

function Fields({ properties }: ObjectFieldTemplateProps): React.JSX.Element {
  return <>{properties.map(property => property.content)}</>;
}

/** For the form's `templates`. */
export const FIELD_TEMPLATES = { FieldTemplate: Field, ObjectFieldTemplate: Fields };
