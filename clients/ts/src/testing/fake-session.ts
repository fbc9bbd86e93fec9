import type { MessageInitShape } from "@bufbuild/protobuf";
import { PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import type { SubscribeResponseSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { SendQueue } from "../session/send-queue";

/** A frame for a client. */
export type Response = MessageInitShape<typeof SubscribeResponseSchema>;

/** FakeSession is one incarnation of a client's session as the fake server sees it. */
export class FakeSession {
  /** Empty before the hello. */
  id = "";
  /** What the client says of its user. */
  state: PresenceState.ONLINE | PresenceState.IDLE = PresenceState.ONLINE;
  /** A peer that is gone though the connection looks open: nothing arrives, nobody says so. */
  silent = false;
  /** Whether the stream is over. */
  ended = false;
  /** Whether anything was sent beside answers that say that nothing happened. */
  hasNews = false;
  /** Calls on the first news, for a Watch that ends with it. */
  onNews: () => void = () => {};
  readonly #outgoing = new SendQueue<{ readonly response: Response } | { readonly error: unknown }>(
    Number.MAX_SAFE_INTEGER,
  );

  constructor(readonly user: User) {}

  send(response: Response): void {
    if (this.silent || this.ended) return;
    this.#outgoing.push({ response });
    if (this.hasNews || !isNews(response)) return;
    this.hasNews = true;
    this.onNews();
  }

  /** Ends the stream after what was sent, with error unless undefined. */
  end(error?: unknown): void {
    this.ended = true;
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

function isNews({ events, frame }: Response): boolean {
  if (events !== undefined && events.length > 0) return true;
  switch (frame?.case) {
    case undefined:
    case "welcome":
    case "pong":
      return false;
    case "joined":
      return frame.value.recovered !== true;
    default:
      return true;
  }
}
