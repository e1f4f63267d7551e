/** The side panel: the sections as an accordion, in the order and with the heights of `sections`. */

import { SidePanel } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { AccordionPanel, Widget } from '@lumino/widgets';
import { Context } from './context';
import { mlopsIcon } from './icons';
import { SECTIONS } from './sections';

export const PANEL_ID = 'jupyter-mlops-panel';

export class MLOpsPanel extends SidePanel {
  constructor(context: Context) {
    super();
    const { trans } = context;
    this.id = PANEL_ID;
    this.addClass('jp-mlops-panel');
    this.title.icon = mlopsIcon;
    this.title.caption = trans.__('Runs of notebooks (jupyter-mlops)');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Runs of notebooks'));
    for (const section of SECTIONS) {
      const widget = section.create(context);
      widget.id = `${PANEL_ID}-${section.id}`;
      widget.title.label = section.title(trans);
      this.addWidget(widget);
    }
    this.accordion.setRelativeSizes(SECTIONS.map(section => section.share));
    this.accordion.expansionToggled.connect(() => this._changed.emit());
  }

  /** The panel is shown or hidden, or a section is folded or unfolded. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The ids of the unfolded sections. */
  get unfolded(): string[] {
    return SECTIONS.filter((_, index) => this.widgets[index]?.isHidden === false).map(section => section.id);
  }

  set unfolded(ids: string[]) {
    SECTIONS.forEach((section, index) => {
      if (ids.includes(section.id)) {
        this.accordion.expand(index);
      } else {
        this.accordion.collapse(index);
      }
    });
  }

  section(id: string): Widget | undefined {
    return this.widgets[SECTIONS.findIndex(section => section.id === id)];
  }

  /** Whether a person can see a section. */
  isShown(id: string): boolean {
    return this.isVisible && this.section(id)?.isHidden === false;
  }

  /** Unfold a section and put the focus into it. */
  reveal(id: string): void {
    const index = SECTIONS.findIndex(section => section.id === id);
    const widget = this.widgets[index];
    if (!widget) {
      return;
    }
    if (widget.isHidden) {
      this.accordion.expand(index);
    }
    focusFirst(widget.node);
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._changed.emit();
  }

  protected override onAfterHide(msg: Message): void {
    super.onAfterHide(msg);
    this._changed.emit();
  }

  private get accordion(): AccordionPanel {
    // Lab's panel, where no content of our own was given.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
    return this.content as AccordionPanel;
  }

  private _changed = new Signal<this, void>(this);
}

/** After Lab has moved the focus to the panel, and React has drawn the section: that is some frames later. */
function focusFirst(node: HTMLElement, frames = 60): void {
  requestAnimationFrame(() => {
    const first =
      node.querySelector<HTMLElement>('[data-mlops-first]') ??
      node.querySelector<HTMLElement>('button, select, input, [tabindex]');
    first?.focus();
    if ((!first || document.activeElement !== first) && frames > 0) {
      focusFirst(node, frames - 1);
    }
  });
}
