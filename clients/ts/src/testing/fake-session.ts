import type { MessageInitShape } from "@bufbuild/protobuf";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import type { SubscribeResponseSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { SendQueue } from "../session/send-queue";

type Response = MessageInitShape<typeof SubscribeResponseSchema>;

/** FakeSession is one client's stream as the fake server sees it. */
export class FakeSession {
  /** A peer that is gone though the connection looks open: nothing arrives, nobody says so. */
  silent = false;
  readonly #outgoing = new SendQueue<{ readonly response: Response } | { readonly error: unknown }>(
    Number.MAX_SAFE_INTEGER,
  );

  constructor(
    public id: string,
    readonly user: User,
  ) {}

  send(response: Response): void {
    if (!this.silent) this.#outgoing.push({ response });
  }

  /** Ends the stream after what was sent, with error unless undefined. */
  end(error?: unknown): void {
    this.#outgoing.push({ error });
  }

  /** What is on its way to the client. */
  async *outgoing(): AsyncGenerator<Response> {
    for await (const item of this.#outgoing) {
      if ("response" in item) {
        yield item.response;
        continue;
      }
      if (item.error !== undefined) throw item.error;
      return;
    }
  }
}
