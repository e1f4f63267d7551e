/** Which rows of a long list are in the DOM. Pure arithmetic. */

export interface Range {
  first: number;
  /** One behind the last. */
  end: number;
}

/** The rows that a scrolled box shows, and a few around them so that fast scrolling shows no gaps. */
export function visibleRows(scrollTop: number, height: number, rowHeight: number, count: number): Range {
  const around = 6;
  const first = Math.floor(Math.max(0, scrollTop) / rowHeight) - around;
  const end = Math.ceil((Math.max(0, scrollTop) + height) / rowHeight) + around;
  return { first: Math.max(0, Math.min(first, count)), end: Math.max(0, Math.min(end, count)) };
}

/** Where to scroll so that a row is seen whole; the same as before if it is already. */
export function scrollToRow(row: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = row * rowHeight;
  if (top < scrollTop) {
    return top;
  }
  return Math.max(scrollTop, top + rowHeight - height);
}
