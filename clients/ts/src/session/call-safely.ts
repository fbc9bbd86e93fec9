/**
 * callSafely runs a listener that somebody else wrote. What it throws is
 * reported as an uncaught error, and does not end the stream for all others.
 */
export function callSafely(run: () => void): void {
  try {
    run();
  } catch (thrown) {
    report(thrown);
  }
}

/** report tells of an error that nobody waits for, as the browser tells of its own. */
export function report(thrown: unknown): void {
  if (typeof reportError === "function") {
    reportError(thrown);
    return;
  }
  setTimeout(() => {
    throw thrown;
  });
}
