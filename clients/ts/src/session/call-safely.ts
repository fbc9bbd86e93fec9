/**
 * callSafely runs a listener that somebody else wrote. What it throws is
 * reported as an uncaught error, and does not end the stream for all others.
 */
export function callSafely(run: () => void): void {
  try {
    run();
  } catch (thrown) {
    setTimeout(() => {
      throw thrown;
    });
  }
}
