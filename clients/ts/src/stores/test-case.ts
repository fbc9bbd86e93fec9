import type { Client } from "@connectrpc/connect";
import type {
  CollaborationService,
  Comment,
  ListCommentsResponse,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { TestCase, TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { Environment } from "../environment";
import {
  emptyTestCase,
  mergeComments,
  mergeTestCase,
  reduceTestCase,
  revisionOf,
  type TestCaseSnapshot,
  type TestCaseState,
} from "../rooms/test-case";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { retry } from "./retry";
import type { Noun } from "./room-core";

const commentsPageSize = 500;

/** TestCaseNoun is a test case's part of its room, with the comments, which are read by a call. */
export class TestCaseNoun implements Noun<TestCaseSnapshot> {
  #state: TestCaseState = emptyTestCase;
  #loading: AbortController | undefined;

  constructor(
    readonly testCaseId: string,
    readonly collaboration: Client<typeof CollaborationService>,
    readonly environment: Environment,
    readonly changed: () => void,
  ) {}

  readonly apply = (message: RoomMessage): void => {
    this.#state = reduceTestCase(this.#state, message);
    if (message.kind === "failed") this.stop();
    if (message.kind !== "joined") return;
    if (!message.joined.recovered || this.#state.commentsState === "failed") this.#load();
  };

  readonly snapshot = (room: RoomSnapshot): TestCaseSnapshot => ({ ...room, ...this.#state });

  readonly stop = (): void => this.#loading?.abort();

  /** The revision of a field. */
  readonly revision = (field: TestCaseField): bigint => revisionOf(this.#state.testCase, field);

  /** Takes the answer to one's own edit. */
  edited(testCase: TestCase): void {
    this.#put({ testCase: mergeTestCase(this.#state.testCase, testCase) });
  }

  /** Takes the answer to one's own comment. */
  commented(comment: Comment): void {
    this.#put({ comments: mergeComments(this.#state.comments, [comment]) });
  }

  #put(change: Partial<TestCaseState>): void {
    this.#state = { ...this.#state, ...change };
    this.changed();
  }

  #load(): void {
    this.stop();
    const loading = new AbortController();
    this.#loading = loading;
    this.#put({ commentsState: "loading" });
    const ended = (commentsState: "complete" | "failed") => {
      if (!loading.signal.aborted) this.#put({ commentsState });
    };
    this.#read(loading.signal).then(
      () => ended("complete"),
      () => ended("failed"),
    );
  }

  async #read(signal: AbortSignal): Promise<void> {
    let pageToken = "";
    do {
      const page: ListCommentsResponse = await this.#page(pageToken, signal);
      if (signal.aborted) return;
      this.#put({ comments: mergeComments(this.#state.comments, page.comments) });
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  #page(pageToken: string, signal: AbortSignal): Promise<ListCommentsResponse> {
    const request = { testCaseId: this.testCaseId, pageSize: commentsPageSize, pageToken };
    return retry(this.environment, signal, () => this.collaboration.listComments(request, { signal }));
  }
}
