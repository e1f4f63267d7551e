import { ServerConnection } from '@jupyterlab/services';
import { Event } from '../src/events';
import { EventSocket } from '../src/socket';

/** Stands for the browser's own: the connection to the real server is tested in tests/browser. */
class Line {
  static lines: Line[] = [];
  readyState = 0;
  said: unknown[] = [];
  onopen?: () => void;
  onclose?: () => void;
  onmessage?: (event: { data: string }) => void;

  constructor(readonly url: string) {
    Line.lines.push(this);
  }

  send(text: string): void {
    this.said.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
    this.onclose?.();
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  hear(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

const settings = { wsUrl: 'ws://host/', token: 'a b', appendToken: true, WebSocket: Line };
const event = (text: string) => ({ type: 'log', text }) as Event;
const line = () => Line.lines[Line.lines.length - 1] as Line;

function follower() {
  const heard: string[] = [];
  return {
    heard,
    events: (events: Event[]) => events.forEach(each => heard.push((each as { text: string }).text)),
    ended: () => heard.push('END'),
    problem: () => heard.push('PROBLEM')
  };
}

describe('the websocket', () => {
  let socket: EventSocket;

  beforeEach(() => {
    jest.useFakeTimers();
    Line.lines = [];
    socket = new EventSocket(settings as unknown as ServerConnection.ISettings);
    socket.open();
  });

  afterEach(() => {
    socket.dispose();
    jest.useRealTimers();
  });

  it('goes on behind what was heard when the connection was lost', () => {
    const one = follower();
    socket.follow('r', one);
    expect(line().url).toBe('ws://host/mlops/events?token=a%20b');
    line().open();
    expect(line().said).toEqual([{ follow: 'r', after: 0 }]);
    line().hear({ run: 'r', after: 2, events: [event('a'), event('b')] });
    line().close();
    jest.advanceTimersByTime(1001);
    expect(Line.lines.length).toBe(2);
    line().open();
    expect(line().said).toEqual([{ follow: 'r', after: 2 }]);
    line().hear({ run: 'r', after: 3, events: [event('c')] });
    expect(one.heard).toEqual(['a', 'b', 'c']);
  });

  it('takes what comes twice once', () => {
    const one = follower();
    socket.follow('r', one);
    line().open();
    line().hear({ run: 'r', after: 2, events: [event('a'), event('b')] });
    line().hear({ run: 'r', after: 3, events: [event('b'), event('c')] });
    line().hear({ run: 'r', after: 3, events: [event('c')] });
    expect(one.heard).toEqual(['a', 'b', 'c']);
  });

  it('waits longer and longer while the server is away', () => {
    const waits: number[] = [];
    for (let losses = 0; losses < 8; losses += 1) {
      const count = Line.lines.length;
      line().close();
      let waited = 0;
      while (Line.lines.length === count) {
        jest.advanceTimersByTime(100);
        waited += 100;
      }
      waits.push(waited);
    }
    expect(waits[0]).toBeLessThanOrEqual(1100);
    expect(waits[7]).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_100);
  });

  it('says no more after it was disposed, and does not come back', () => {
    line().open();
    socket.dispose();
    jest.advanceTimersByTime(120_000);
    expect(Line.lines.length).toBe(1);
  });

  it('tells the end once, and follows no longer', () => {
    const one = follower();
    socket.follow('r', one);
    line().open();
    line().hear({ run: 'r', ended: true });
    line().hear({ run: 'r', after: 1, events: [event('late')] });
    expect(one.heard).toEqual(['END']);
  });

  it('says what it no longer wants', () => {
    line().open();
    const following = socket.follow('r', follower());
    following.dispose();
    following.dispose();
    expect(line().said).toEqual([{ follow: 'r', after: 0 }, { unfollow: 'r' }]);
  });
});
