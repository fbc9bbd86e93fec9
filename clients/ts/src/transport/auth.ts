import type { Interceptor } from "@connectrpc/connect";
import { Code, ConnectError, createContextKey } from "@connectrpc/connect";
import type { TokenSource } from "../session";

/** Set on a call whose token must be a new one, because the last was refused. */
export const refreshToken = createContextKey(false, { description: "ask for a new token" });

/**
 * bearerToken adds the token to each call. A unary call that is refused as
 * UNAUTHENTICATED is tried once more with a new token; a stream is not, since
 * its messages are gone: whoever drives it opens another with refreshToken set.
 */
export function bearerToken(source: TokenSource): Interceptor {
  const authorize = async (header: Headers, refresh: boolean) => {
    const token = await obtain(source, refresh);
    if (token === "") header.delete("authorization");
    else header.set("authorization", `Bearer ${token}`);
    return token;
  };
  return (next) => async (req) => {
    const refresh = req.contextValues.get(refreshToken);
    const token = await authorize(req.header, refresh);
    if (req.stream || refresh) return next(req);
    try {
      return await next(req);
    } catch (thrown) {
      if (ConnectError.from(thrown).code !== Code.Unauthenticated) throw thrown;
      if ((await authorize(req.header, true)) === token) throw thrown;
      return next(req);
    }
  };
}

/** obtain asks source; what it throws is told as UNAUTHENTICATED, since no call can be made. */
async function obtain(source: TokenSource, refresh: boolean): Promise<string> {
  try {
    return await source({ refresh });
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    if (thrown instanceof ConnectError && error.code !== Code.Unknown) throw error;
    throw new ConnectError(
      `no token: ${error.rawMessage}`,
      Code.Unauthenticated,
      undefined,
      undefined,
      thrown,
    );
  }
}
