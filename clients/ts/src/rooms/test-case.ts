import type { Comment } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { TestCase } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { RoomSnapshot } from "../store";

/** TestCaseSnapshot is the live state of a test case. */
export interface TestCaseSnapshot extends RoomSnapshot {
  /** The test case with everybody's edits; undefined while loading. */
  readonly testCase: TestCase | undefined;
  /** The comments, oldest first. */
  readonly comments: readonly Comment[];
  /** "failed" means that older comments could not be read; new ones still arrive. */
  readonly commentsState: "loading" | "complete" | "failed";
}
