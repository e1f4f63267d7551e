/** The last lines that a run printed, within bounds. Knows no view. */

import { LogEvent } from './events';
import { printable, withoutColours } from './text';

export const LOG_LINES = 1000;
const LOG_CHARACTERS = 256 * 1024;
const LINE_CHARACTERS = 2000;

export interface LogLine {
  /** Counts all lines from the first on, so that a view can tell them apart. */
  number: number;
  stream: LogEvent['stream'];
  text: string;
}

/** Takes text in pieces; a carriage return starts a line anew, as on a terminal. */
export class LogTail {
  private _lines: LogLine[] = [];
  private _raw = '';
  private _open = false;
  private _count = 0;
  private _size = 0;

  get lines(): readonly LogLine[] {
    return this._lines;
  }

  /** Lines that were dropped at the front. */
  get leftOut(): number {
    return this._count - this._lines.length;
  }

  append(event: LogEvent): void {
    const pieces = event.text.replace(/\r\n/g, '\n').split('\n');
    const rest = pieces.pop() ?? '';
    for (const piece of pieces) {
      this._append(event.stream, piece, true);
    }
    if (rest !== '') {
      this._append(event.stream, rest, false);
    }
  }

  private _append(stream: LogEvent['stream'], text: string, ends: boolean): void {
    const last = this._lines[this._lines.length - 1];
    if (this._open && last?.stream === stream) {
      this._raw = this._cut(this._raw + text);
      this._lines.pop();
      this._size -= last.text.length;
    } else {
      this._raw = this._cut(text);
      this._count += 1;
    }
    const plain = withoutColours(this._raw).replace(/\r+$/, '');
    const shown = printable(plain.slice(plain.lastIndexOf('\r') + 1));
    const line = { number: this._count, stream, text: shown };
    this._lines.push(line);
    this._size += line.text.length;
    this._open = !ends;
    let drop = Math.max(0, this._lines.length - LOG_LINES);
    let size = this._lines.slice(0, drop).reduce((sum, each) => sum + each.text.length, 0);
    while (this._size - size > LOG_CHARACTERS && drop < this._lines.length - 1) {
      size += this._lines[drop]?.text.length ?? 0;
      drop += 1;
    }
    if (drop > 0) {
      this._lines = this._lines.slice(drop);
      this._size -= size;
    }
  }

  /** A line without an end must not grow without bound; of one that is drawn over, the last part counts. */
  private _cut(raw: string): string {
    const start = raw.slice(0, -1).lastIndexOf('\r') + 1;
    const current = raw.slice(start);
    return current.length > LINE_CHARACTERS ? current.slice(0, LINE_CHARACTERS - 1) + '…' : current;
  }
}
