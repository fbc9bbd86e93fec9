import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CollaborationType } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { EndReason, RunChange, RunState, Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { describe, expect, it } from "vitest";
import { describe as inWords } from "./describe";

const actor = { id: "u1", name: "Ada" };

function said(payload: MessageInitShape<typeof EventSchema>["payload"]) {
  return inWords(create(EventSchema, { actor, ...(payload === undefined ? {} : { payload }) }));
}

describe("describe", () => {
  it("says how a run ended, with the number of those that did not pass", () => {
    const run = {
      id: "r",
      number: 7,
      state: RunState.ENDED,
      endReason: EndReason.FAILED,
      counts: { total: 1200, failed: 2, errored: 1 },
    };
    const change = { change: RunChange.ENDED, run };
    expect(said({ case: "runChanged", value: change })).toMatchObject({
      actor: "",
      text: "failed, 3 of 1,200 not passed",
      subject: { label: "Run #7", href: "/runs/r" },
      tone: "failed",
    });
  });

  it("is silent about runners that come and go", () => {
    const change = { change: RunChange.SHARD, run: { id: "r", number: 7 } };
    expect(said({ case: "runChanged", value: change })).toBeUndefined();
  });

  it("leads to the test that failed", () => {
    const value = { runId: "r", test: { suite: "p/q", name: "Test A" }, status: Status.TIMED_OUT };
    expect(said({ case: "testExecution", value })).toMatchObject({
      text: "timed out",
      subject: { label: "Test A", href: "/runs/r?suite=p%2Fq&test=Test+A" },
    });
  });

  it("names the field and the test case that somebody edited", () => {
    const edit = { field: TestCaseField.TITLE, testCaseKey: "TC-1", testCaseTitle: "Pay" };
    const value = {
      type: CollaborationType.TEST_CASE_EDIT,
      entityId: "c",
      data: { case: "edit" as const, value: edit },
    };
    expect(said({ case: "collaboration", value })).toMatchObject({
      actor: "Ada",
      text: "edited the title",
      joint: "of",
      subject: { label: "TC-1 Pay", href: "/cases/c" },
    });
  });

  it("passes over kinds it does not know, and those that are no news", () => {
    expect(said(undefined)).toBeUndefined();
    expect(said({ case: "runProgress", value: {} })).toBeUndefined();
    expect(said({ case: "activity", value: {} })).toBeUndefined();
  });
});
