/** The sections of the panel from top to bottom. A new one is a file beside this and a line here. */

import { Section } from '../context';
import { parametersSection } from './parameters';
import { runSection } from './run';
import { runsSection } from './runs';

export const SECTIONS: readonly Section[] = [parametersSection, runSection, runsSection];
