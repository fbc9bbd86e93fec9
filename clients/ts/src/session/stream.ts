import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SubscribeRequestSchema, SubscribeResponse } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { Carrier } from "../carrier";
import type { TcmError } from "../errors";

/** What a client may say. */
export type AnyFrame = NonNullable<MessageInitShape<typeof SubscribeRequestSchema>["frame"]>;

/** What a session says; pings and tokens are its carrier's business. */
export type RequestFrame = Extract<AnyFrame, { case: "hello" | "join" | "leave" | "command" }>;

/** One frame with its number. */
export type Request = MessageInitShape<typeof SubscribeRequestSchema>;

/** Who hears a stream. None of it is called after close. */
export interface StreamListener {
  /**
   * Says hello and joins all rooms, each from where it is, by send. Called when
   * the stream opens, and again whenever it has to be opened anew, which nobody
   * else notices. False, with nothing said, while another stream is about to take
   * the session over: a hello now would take it back.
   */
  readonly greet: (stream: SessionStream) => boolean;
  readonly frame: (frame: SubscribeResponse) => void;
  /** A command got no answer, or a refusal; number is its frame's. */
  readonly refused: (number: bigint, error: TcmError) => void;
  /** A round trip was measured; with the server's clock at about its middle, 0 if not known. */
  readonly measured: (rttMs: number, serverTimeMs: number) => void;
  /** Which carrier it is became another one. */
  readonly carrierChanged: () => void;
  /** The stream is over. */
  readonly ended: (error: TcmError) => void;
}

/** SessionStream is one incarnation of a session over one carrier. */
export interface SessionStream {
  /** How its frames travel now. */
  readonly carrier: Carrier;
  /** Says a frame. Returns its number, which the answer repeats; undefined if nothing answers by number. */
  send(frame: RequestFrame): bigint | undefined;
  /** Says what is worth nothing later: now or never. */
  sendOrDrop(frame: RequestFrame): void;
  /** Asks for a sign of life, soon: somebody looks at the page. */
  probe(): void;
  /** Goes on with a newer token. */
  refreshToken(): void;
  /** Ends it at once. */
  close(): void;
}
