/**
 * How quantities and foreign text are written for a person. The same rules as `jupyter_mlops/progress/state.py` has for
 * notebooks and terminals. Knows no widget.
 */

// Escape sequences of terminals (ECMA-48): CSI, OSC to its end, and the two-character ones.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b\n]*(?:\u0007|\u001b\\)?|[@-Z\\^_])/g;

// Bidirectional controls (Unicode TR 36), line separators, invisible tags and lone surrogates.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;

/** Text without the sequences by which programs colour a terminal. */
export function withoutColours(text: string): string {
  return text.replace(ESCAPES, '');
}

/** One line in which everything that a browser would obey instead of show is made visible: escape becomes ␛. */
export function printable(text: string): string {
  return text.replace(/[\t\n]/g, ' ').replace(UNSEEN, found => {
    const code = found.codePointAt(0) ?? 0;
    if (code < 0x20) {
      return String.fromCodePoint(0x2400 + code);
    }
    return code === 0x7f ? '\u2421' : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** Seconds for a person: `35 ms`, `4.1 s`, `42 s`, `1 min 05 s`, `2 h 03 min`, `1 d 04 h`. */
export function formatDuration(seconds: number): string {
  if (!(seconds >= 0 && seconds < 1e12)) {
    return '?';
  }
  if (seconds < 0.0995) {
    return seconds > 0 ? `${(seconds * 1000).toFixed(0)} ms` : '0 s';
  }
  if (seconds < 9.95) {
    return `${seconds.toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  const units: [string, number, string, number][] = [
    ['d', 86400, 'h', 3600],
    ['h', 3600, 'min', 60],
    ['min', 60, 's', 1]
  ];
  for (const [unit, size, below, part] of units) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return `${Math.floor(whole / size)} ${unit} ${rest.toString().padStart(2, '0')} ${below}`;
    }
  }
  return `${whole} s`;
}

/** Bytes for a person, in binary units: `512 B`, `1.2 GiB`. */
export function formatBytes(count: number): string {
  if (!(count >= 0)) {
    return '?';
  }
  let value = Math.min(count, 2 ** 100);
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  for (const unit of units) {
    if (value < 1023.5 || unit === 'PiB') {
      return unit === 'B' || value >= 99.95 ? `${value.toFixed(0)} ${unit}` : `${value.toFixed(1)} ${unit}`;
    }
    value /= 1024;
  }
  return '?';
}

/** A metric's value in about four digits: `0.9731`, `1.23e-5`, `NaN`. */
export function formatMetric(value: number): string {
  if (!Number.isFinite(value)) {
    return value.toString();
  }
  const size = Math.abs(value);
  if (size > 0 && (size < 1e-3 || size >= 1e6)) {
    return Number(value.toPrecision(3)).toExponential();
  }
  return Number(size < 1000 ? value.toPrecision(4) : value.toFixed(1)).toString();
}

/** A number as the server writes it: JSON has no word for what is not finite. */
export function parseMetric(value: number | string): number {
  return typeof value === 'number' ? value : Number(value);
}

/** A moment as a person reads it in a list: the time today, else the day too. */
export function formatMoment(moment: Date, now: Date): string {
  const time = moment.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (moment.toDateString() === now.toDateString()) {
    return time;
  }
  const year = moment.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' as const };
  return `${moment.toLocaleDateString([], { day: 'numeric', month: 'short', ...year })}, ${time}`;
}
