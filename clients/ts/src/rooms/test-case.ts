import { create, enumFromJson, isEnumJson } from "@bufbuild/protobuf";
import type { CollaborationUpdate, Comment, FieldEdit } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  type FieldRevision,
  FieldRevisionSchema,
  PrioritySchema,
  type TestCase,
  TestCaseField,
  TestCaseStatusSchema,
} from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";

/** The part of a test case room that is about the test case. */
export interface TestCaseState {
  /** The test case with everybody's edits; undefined while loading. */
  readonly testCase: TestCase | undefined;
  /** The comments, oldest first. */
  readonly comments: readonly Comment[];
  /** "failed" means that older comments could not be read; new ones still arrive. */
  readonly commentsState: "loading" | "complete" | "failed";
}

/** TestCaseSnapshot is the live state of a test case. */
export interface TestCaseSnapshot extends RoomSnapshot, TestCaseState {}

/** What a test case is before its first message. */
export const emptyTestCase: TestCaseState = { testCase: undefined, comments: [], commentsState: "loading" };

/** reduceTestCase applies what its room heard. */
export function reduceTestCase(state: TestCaseState, message: RoomMessage): TestCaseState {
  switch (message.kind) {
    case "joined": {
      const { snapshot } = message.joined;
      if (snapshot.case !== "testCase") return state;
      return { ...state, testCase: snapshot.value.testCase };
    }
    case "events":
      return message.events.reduce(
        (next, event) =>
          event.payload.case === "collaboration" ? collaborate(next, event.payload.value, event) : next,
        state,
      );
    case "reset":
    case "stale":
    case "failed":
      return state;
    default:
      message satisfies never;
      return state;
  }
}

/** revisionOf returns the revision of a field; 0n if there is none. */
export function revisionOf(testCase: TestCase | undefined, field: TestCaseField): bigint {
  return testCase?.revisions.find((entry) => entry.field === field)?.revision ?? 0n;
}

/**
 * mergeTestCase takes from the answer to an edit those fields that are newer
 * than what is known: the answer and the others' events come in either order.
 */
export function mergeTestCase(known: TestCase | undefined, answer: TestCase): TestCase {
  if (known === undefined) return answer;
  let merged = known;
  for (const { field, revision } of answer.revisions) {
    if (revision <= revisionOf(merged, field)) continue;
    merged = withRevision({ ...merged, ...fieldOf(answer, field) }, field, revision);
  }
  if (merged === known) return known;
  const { updatedAt, updatedBy } = answer;
  return { ...merged, ...(updatedAt && { updatedAt }), ...(updatedBy && { updatedBy }) };
}

/** mergeComments returns the comments of both lists, each once, oldest first. */
export function mergeComments(known: readonly Comment[], more: readonly Comment[]): readonly Comment[] {
  const byId = new Map([...known, ...more].map((comment) => [comment.id, comment]));
  // UUIDv7 sorts by time.
  return [...byId.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

function collaborate(state: TestCaseState, update: CollaborationUpdate, event: Event): TestCaseState {
  switch (update.data.case) {
    case "edit":
      return { ...state, testCase: state.testCase && edit(state.testCase, update.data.value, update, event) };
    case "comment":
      return { ...state, comments: mergeComments(state.comments, [update.data.value]) };
    default:
      return state;
  }
}

function edit(known: TestCase, change: FieldEdit, update: CollaborationUpdate, event: Event): TestCase {
  const { field, value, revision } = change;
  if (revision <= revisionOf(known, field)) return known;
  const updatedAt = update.timestamp ?? event.time;
  const updatedBy = update.user ?? event.actor;
  return withRevision(
    {
      ...known,
      ...parseField(field, value),
      ...(updatedAt && { updatedAt }),
      ...(updatedBy && { updatedBy }),
    },
    field,
    revision,
  );
}

function withRevision(testCase: TestCase, field: TestCaseField, revision: bigint): TestCase {
  const others: FieldRevision[] = testCase.revisions.filter((entry) => entry.field !== field);
  return { ...testCase, revisions: [...others, create(FieldRevisionSchema, { field, revision })] };
}

/** parseField reads a value as FieldEdit carries it. A value that a newer server understands leaves the field alone. */
function parseField(field: TestCaseField, value: string): Partial<TestCase> {
  switch (field) {
    case TestCaseField.TITLE:
      return { title: value };
    case TestCaseField.DESCRIPTION:
      return { description: value };
    case TestCaseField.PRIORITY:
      return isEnumJson(PrioritySchema, value) ? { priority: enumFromJson(PrioritySchema, value) } : {};
    case TestCaseField.STATUS:
      return isEnumJson(TestCaseStatusSchema, value)
        ? { status: enumFromJson(TestCaseStatusSchema, value) }
        : {};
    case TestCaseField.UNSPECIFIED:
      return {};
    default: // A field of a newer server.
      field satisfies never;
      return {};
  }
}

function fieldOf(from: TestCase, field: TestCaseField): Partial<TestCase> {
  switch (field) {
    case TestCaseField.TITLE:
      return { title: from.title };
    case TestCaseField.DESCRIPTION:
      return { description: from.description };
    case TestCaseField.PRIORITY:
      return { priority: from.priority };
    case TestCaseField.STATUS:
      return { status: from.status };
    case TestCaseField.UNSPECIFIED:
      return {};
    default:
      field satisfies never;
      return {};
  }
}
