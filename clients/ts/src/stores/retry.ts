import { Code } from "@connectrpc/connect";
import { backoffMs } from "../connection";
import type { Environment } from "../environment";
import { type TcmError, toTcmError } from "../errors";

/** A call that failed so often in a row is given up. */
const maxTries = 6;

/**
 * retry calls run until it succeeds, waiting longer each time. It throws the
 * last error when another try can't help, after maxTries, or once signal is
 * aborted.
 */
export async function retry<T>(
  environment: Environment,
  signal: AbortSignal,
  run: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await run();
    } catch (thrown) {
      const error = toTcmError(thrown);
      if (signal.aborted || tries >= maxTries || !isTransient(error)) throw error;
      const delayMs = Math.max(error.retryAfterMs ?? 0, backoffMs(tries - 1, environment.random()));
      await new Promise<void>((resolve) => environment.after(delayMs, resolve));
    }
  }
}

function isTransient({ code }: TcmError): boolean {
  switch (code) {
    case Code.Unavailable:
    case Code.ResourceExhausted:
    case Code.DeadlineExceeded:
    case Code.Aborted:
    case Code.Internal:
    case Code.Unknown:
      return true;
    default:
      return false;
  }
}
