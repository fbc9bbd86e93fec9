import { Code, ConnectError } from "@connectrpc/connect";
import { type Error as ErrorMessage, ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import { durationToMs } from "./time";

/** One field that broke a rule. */
export interface Violation {
  /** The path of the field in the request, for example "update.status". */
  readonly field: string;
  /** What the rule asks for. */
  readonly description: string;
}

/** What TcmError is made of; all but the code and the message may be left out. */
export interface TcmErrorInit {
  readonly code: Code;
  readonly message: string;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
  readonly violations?: readonly Violation[];
  readonly cause?: unknown;
}

/**
 * TcmError is every error this package throws or shows, from calls and from
 * the stream alike.
 */
export class TcmError extends Error {
  override readonly name = "TcmError";
  /** The gRPC status. */
  readonly code: Code;
  /** A stable word for programs, for example "REVISION_MISMATCH"; empty if the server gave none. */
  readonly reason: string;
  /** Facts a program can use, for example metadata["current_revision"]. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How long to wait before a retry can succeed; undefined when the server didn't say. */
  readonly retryAfterMs: number | undefined;
  /** The fields that broke a rule, with Code.InvalidArgument. */
  readonly violations: readonly Violation[];

  constructor(init: TcmErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.reason = init.reason ?? "";
    this.metadata = init.metadata ?? {};
    this.retryAfterMs = init.retryAfterMs;
    this.violations = init.violations ?? [];
  }
}

/** unavailable is the error of a server that can't be had just now. */
export function unavailable(message: string): TcmError {
  return new TcmError({ code: Code.Unavailable, message });
}

/** fromErrorMessage turns the error of a stream's frame, or of a status' detail, into a TcmError. */
export function fromErrorMessage(message: ErrorMessage, cause?: unknown): TcmError {
  return new TcmError({
    code: toCode(message.code),
    message: message.message === "" ? "the server refused the request" : message.message,
    reason: message.reason,
    metadata: message.metadata,
    retryAfterMs: message.retryAfter === undefined ? undefined : durationToMs(message.retryAfter),
    violations: message.violations.map(({ field, description }) => ({ field, description })),
    cause,
  });
}

/**
 * toTcmError turns whatever was thrown into a TcmError: a ConnectError with its
 * details, a TcmError as it is, anything else as Code.Unknown with the thrown
 * value as its cause.
 */
export function toTcmError(thrown: unknown): TcmError {
  if (thrown instanceof TcmError) return thrown;
  const error = ConnectError.from(thrown);
  const detail = findDetail(error);
  if (detail !== undefined) return fromErrorMessage({ ...detail, code: detail.code || error.code }, thrown);
  return new TcmError({ code: error.code, message: error.rawMessage, cause: thrown });
}

/** findDetail returns the error's tcmanager.v1.Error; a detail that can't be read counts as none. */
function findDetail(error: ConnectError): ErrorMessage | undefined {
  try {
    return error.findDetails(ErrorSchema)[0];
  } catch {
    return undefined;
  }
}

const knownCodes: ReadonlyMap<number, Code> = new Map(
  Object.values(Code)
    .filter((code) => typeof code === "number")
    .map((code) => [code, code]),
);

function toCode(code: number): Code {
  return knownCodes.get(code) ?? Code.Unknown;
}
