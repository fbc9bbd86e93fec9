import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import { expect, test } from "vitest";
import { TcmError, toTcmError } from "./errors";

test("a call's error carries the server's detail", () => {
  const value = {
    code: Code.ResourceExhausted,
    reason: "RATE_LIMITED",
    message: "too fast",
    metadata: { limit: "5" },
    retryAfter: durationFromMs(1_500),
    violations: [{ field: "a.b", description: "must be set" }],
  };
  const thrown = new ConnectError("too fast", Code.ResourceExhausted, undefined, [
    { desc: ErrorSchema, value },
  ]);
  expect(toTcmError(thrown)).toMatchObject({
    code: Code.ResourceExhausted,
    reason: "RATE_LIMITED",
    message: "too fast",
    metadata: { limit: "5" },
    retryAfterMs: 1_500,
    violations: [{ field: "a.b", description: "must be set" }],
    cause: thrown,
  });
});

test("an error without a detail keeps its code and message", () => {
  expect(toTcmError(new ConnectError("gone", Code.NotFound))).toMatchObject({
    code: Code.NotFound,
    reason: "",
    message: "gone",
    retryAfterMs: undefined,
  });
});

test("a detail that can't be read counts as none", () => {
  const thrown = new ConnectError("odd", Code.Internal);
  thrown.details.push({ type: "tcmanager.v1.Error", value: Uint8Array.of(0xff, 0xff, 0xff) });
  expect(toTcmError(thrown)).toMatchObject({ code: Code.Internal, message: "odd" });
});

test("anything else is unknown, with what was thrown as the cause", () => {
  const thrown = new Error("bug");
  expect(toTcmError(thrown)).toMatchObject({ code: Code.Unknown, message: "bug", cause: thrown });
  expect(toTcmError("text")).toBeInstanceOf(TcmError);
});

test("an error that is one already stays the same", () => {
  const error = new TcmError({ code: Code.Aborted, message: "m" });
  expect(toTcmError(error)).toBe(error);
});
