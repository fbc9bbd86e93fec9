import { Code } from "@connectrpc/connect";
import { TcmError } from "@tcmanager/client";
import { describe, expect, it } from "vitest";
import { messageOf } from "./State";

describe("messageOf", () => {
  it("makes a sentence of a server's message", () => {
    expect(messageOf(new TcmError({ code: Code.NotFound, message: "the run is gone" }))).toBe(
      "The run is gone.",
    );
  });

  it("says what each field needs when a rule was broken", () => {
    const violations = [{ field: "title", description: "must not be empty" }];
    const error = new TcmError({ code: Code.InvalidArgument, message: "invalid", violations });
    expect(messageOf(error)).toBe("Title: must not be empty.");
  });

  it("says what to do when nothing answers, in whichever words the browser told it", () => {
    for (const error of [
      new TypeError("Failed to fetch"),
      new TypeError("NetworkError when attempting to fetch resource."),
      new TcmError({ code: Code.Unavailable, message: "HTTP 502" }),
    ]) {
      expect(messageOf(error)).toMatch(/^The server can't be reached\. Check/);
    }
  });
});
