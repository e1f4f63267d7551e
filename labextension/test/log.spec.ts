import { LOG_LINES, LogTail } from '../src/log';

const log = (...texts: string[]): LogTail => {
  const tail = new LogTail();
  for (const text of texts) {
    tail.append({ type: 'log', time: '', stream: 'stdout', text, cell_index: null });
  }
  return tail;
};
const lines = (tail: LogTail) => tail.lines.map(line => line.text);

describe('the tail of a log', () => {
  it('joins a line that comes in pieces', () => {
    expect(lines(log('ep', 'och 1\nepoch', ' 2\n'))).toEqual(['epoch 1', 'epoch 2']);
  });

  it('shows a progress bar as it was drawn last', () => {
    expect(lines(log(' 10%\r', ' 20%\r', ' 30%'))).toEqual([' 30%']);
    expect(lines(log(' 10%\r 20%\n', 'done\r\n'))).toEqual([' 20%', 'done']);
  });

  it('joins a colour that was cut in two', () => {
    expect(lines(log('\u001b[3', '2mgreen\u001b[0m\n'))).toEqual(['green']);
  });

  it('keeps the last lines and counts the others', () => {
    const tail = log(Array.from({ length: LOG_LINES + 5 }, (_, index) => `${index}\n`).join(''));
    expect(tail.lines.length).toBe(LOG_LINES);
    expect(tail.leftOut).toBe(5);
    expect(tail.lines[0]).toEqual({ number: 6, stream: 'stdout', text: '5' });
  });

  it('stays small when a line has no end', () => {
    const tail = log(...Array.from({ length: 1000 }, () => 'x'.repeat(5000)));
    expect(tail.lines.length).toBe(1);
    expect(tail.lines[0]?.text.length).toBeLessThanOrEqual(2000);
  });

  it('stays small when many long lines come', () => {
    const tail = log(...Array.from({ length: 400 }, () => 'x'.repeat(1999) + '\n'));
    const size = lines(tail).reduce((sum, line) => sum + line.length, 0);
    expect(size).toBeLessThanOrEqual(256 * 1024);
    expect(tail.leftOut + tail.lines.length).toBe(400);
  });
});
