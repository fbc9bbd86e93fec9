import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  ActivitySchema,
  ActivityState,
  CollaborationType,
  CommentSchema,
  PresenceState,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { type Event, EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { EndReason, RunChange, RunSchema, RunState, Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { NotificationSchema } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import { MemberChange, Role } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { JoinedSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import {
  Priority,
  TestCaseField,
  TestCaseSchema,
  TestCaseStatus,
} from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { describe, expect, test } from "vitest";
import { TcmError } from "../errors";
import type { RoomMessage } from "../session";
import { applyActivity, expireActivity, type FieldActivity, nextExpiryMs } from "./activity";
import { describeEvent } from "./describe";
import { headcountOf } from "./presence";
import { emptyProject, reduceProject } from "./project";
import { emptyRoom, feedLength, reduceRoom } from "./room";
import { RunRoom } from "./run";
import { emptyTestCase, mergeComments, mergeTestCase, reduceTestCase, revisionOf } from "./test-case";
import { emptyUser, mergeNotifications, reduceUser } from "./user";

type EventInit = MessageInitShape<typeof EventSchema>;
type Payload = NonNullable<EventInit["payload"]>;

function event(payload: Payload, offset = 1n): Event {
  return create(EventSchema, { room: "r", offset, payload, time: timestampFromMs(1000) });
}

function events(...list: Event[]): RoomMessage {
  return { kind: "events", events: list };
}

function joined(init: MessageInitShape<typeof JoinedSchema>): RoomMessage {
  return { kind: "joined", joined: create(JoinedSchema, init) };
}

const ada = { id: "ada", name: "Ada" };
const bob = { id: "bob", name: "Bob" };
const context = { nowMs: 50_000, sessionId: "mine", userId: "ada" };

function presence(user: typeof ada, type: CollaborationType, state: PresenceState): Event {
  return event(
    {
      case: "presence",
      value: { type, user, data: { case: "presence", value: { user, state, sessions: 1 } } },
    },
    0n,
  );
}

describe("the part that all rooms share", () => {
  const here = reduceRoom(
    emptyRoom,
    joined({
      presence: [{ user: bob, state: PresenceState.ONLINE }],
      recent: [event({ case: undefined }, 7n), event({ case: undefined }, 8n)],
    }),
    context,
  );

  test("is live with the snapshot, the newest event first", () => {
    expect(here.state).toBe("live");
    expect(here.recent.map(({ offset }) => offset)).toEqual([8n, 7n]);
  });

  test("lists who is here by name, and not who left", () => {
    const came = reduceRoom(
      here,
      events(presence(ada, CollaborationType.USER_JOINED, PresenceState.ONLINE)),
      context,
    );
    expect(came.presence.map(({ user }) => user?.name)).toEqual(["Ada", "Bob"]);
    const shaky = reduceRoom(
      came,
      events(presence(bob, CollaborationType.USER_LEFT, PresenceState.RECONNECTING)),
      context,
    );
    expect(shaky.presence.map(({ state }) => state)).toEqual([
      PresenceState.ONLINE,
      PresenceState.RECONNECTING,
    ]);
    const gone = reduceRoom(
      shaky,
      events(presence(bob, CollaborationType.USER_LEFT, PresenceState.OFFLINE)),
      context,
    );
    expect(gone.presence.map(({ user }) => user?.name)).toEqual(["Ada"]);
  });

  test("counts a crowd of whom not all are listed", () => {
    const count = (present: number) => event({ case: "headcount", value: { present } }, 0n);
    const { ONLINE, UNLISTED, OFFLINE } = PresenceState;
    const { USER_JOINED, USER_LEFT } = CollaborationType;
    const carl = { id: "carl", name: "Carl" };
    const crowd = reduceRoom(
      emptyRoom,
      joined({
        presence: [ada, bob].map((user) => ({ user, state: ONLINE })),
        present: 5000,
      }),
      context,
    );
    const after = (...list: Event[]) => {
      const room = reduceRoom(crowd, events(...list), context);
      return [headcountOf(room), ...room.presence.map(({ user }) => user?.id)];
    };
    expect(after()).toEqual([5000, "ada", "bob"]);
    const swapped = [presence(bob, USER_LEFT, UNLISTED), presence(carl, USER_JOINED, ONLINE)];
    expect(after(...swapped)).toEqual([5000, "ada", "carl"]);
    expect(after(presence(ada, USER_LEFT, UNLISTED)), "one's own user stays").toEqual([5000, "ada", "bob"]);
    expect(after(count(4999), ...swapped)).toEqual([4999, "ada", "carl"]);
    // The newest of each key comes, in whatever order.
    expect(after(count(0), ...swapped, presence(ada, USER_LEFT, OFFLINE))).toEqual([1, "carl"]);
    expect(after(...swapped, presence(ada, USER_LEFT, OFFLINE), count(0))).toEqual([1, "carl"]);
    const small = reduceRoom(
      crowd,
      joined({ presence: [{ user: ada, state: ONLINE }], present: 1 }),
      context,
    );
    expect(headcountOf(small)).toBe(1);
    expect(describeEvent(count(4999))).toBe("4999 people are here");
    expect(describeEvent(count(0))).toBe("everybody is told of");
  });

  test("forgets what somebody did who left", () => {
    const typing = event(
      {
        case: "activity",
        value: { user: bob, sessionId: "b", field: "title", state: ActivityState.FOCUSED },
      },
      0n,
    );
    const busy = reduceRoom(here, events(typing), context);
    expect(busy.activity.length).toBe(1);
    const gone = reduceRoom(
      busy,
      events(presence(bob, CollaborationType.USER_LEFT, PresenceState.OFFLINE)),
      context,
    );
    expect(gone.activity).toEqual([]);
  });

  test("does not tell one's own session's activity", () => {
    const own = event(
      {
        case: "activity",
        value: { user: ada, sessionId: "mine", field: "title", state: ActivityState.TYPING },
      },
      0n,
    );
    expect(reduceRoom(here, events(own), context).activity).toEqual([]);
  });

  test("a session of another user that took one's id is another session", () => {
    const typing = (user: typeof ada, sessionId: string, state: ActivityState) =>
      event({ case: "activity", value: { user, sessionId, field: "title", state } }, 0n);
    const room = reduceRoom(
      here,
      events(
        typing(bob, "mine", ActivityState.TYPING),
        typing({ id: "eve", name: "Eve" }, "mine", ActivityState.LEFT),
      ),
      context,
    );
    expect(room.activity.map(({ userId }) => userId)).toEqual(["bob"]);
  });

  test("keeps a bounded feed of durable events", () => {
    const many = Array.from({ length: 80 }, (_, i) => event({ case: undefined }, BigInt(i + 9)));
    const fed = reduceRoom(here, events(...many, event({ case: undefined }, 0n)), context);
    expect(fed.recent.length).toBe(feedLength);
    expect(fed.recent[0]?.offset).toBe(88n);
  });

  test("is stale without a connection, failed when refused, and keeps the feed when recovered", () => {
    const stale = reduceRoom(here, { kind: "stale" }, context);
    expect(stale.state).toBe("stale");
    const back = reduceRoom(stale, joined({ recovered: true }), context);
    expect(back).toMatchObject({ state: "live", presence: [] });
    expect(back.recent).toBe(here.recent);
    const error = new TcmError({ code: Code.PermissionDenied, message: "no" });
    expect(reduceRoom(back, { kind: "failed", error }, context)).toMatchObject({ state: "failed", error });
  });
});

describe("activity", () => {
  const typing = create(ActivitySchema, {
    user: bob,
    sessionId: "b",
    field: "title",
    state: ActivityState.TYPING,
    expiresIn: durationFromMs(6_000),
  });

  test("of typing ends by itself, later if there is more of it", () => {
    let list: readonly FieldActivity[] = applyActivity([], typing, 1_000);
    expect(nextExpiryMs(list)).toBe(7_000);
    list = applyActivity(list, typing, 3_000);
    expect(list.length).toBe(1);
    expect(expireActivity(list, 7_000)).toBe(list);
    expect(expireActivity(list, 9_000)).toEqual([]);
  });

  test("in the next field ends that in the last", () => {
    const first = applyActivity([], create(ActivitySchema, { ...typing, state: ActivityState.FOCUSED }), 0);
    const second = applyActivity(first, create(ActivitySchema, { ...typing, field: "description" }), 0);
    expect(second.map(({ field }) => field)).toEqual(["description"]);
    const late = create(ActivitySchema, { ...typing, field: "title", state: ActivityState.LEFT });
    expect(applyActivity(second, late, 0), "word of leaving the last changes nothing").toBe(second);
  });

  test("of two tabs of one user is told apart", () => {
    const one = applyActivity([], typing, 0);
    const two = applyActivity(one, create(ActivitySchema, { ...typing, sessionId: "c" }), 0);
    expect(two.length).toBe(2);
  });

  test("without an end holds until the session leaves", () => {
    const { expiresIn: _, ...rest } = typing;
    const list = applyActivity([], create(ActivitySchema, { ...rest, state: ActivityState.FOCUSED }), 0);
    expect(nextExpiryMs(list)).toBeUndefined();
    expect(expireActivity(list, Number.MAX_SAFE_INTEGER)).toBe(list);
  });
});

describe("a project", () => {
  const run = (number: number, more: MessageInitShape<typeof RunSchema> = {}) =>
    create(RunSchema, { ...more, id: `run${number}`, number } as MessageInitShape<typeof RunSchema>);
  const snapshot = joined({
    snapshot: {
      case: "project",
      value: {
        project: { id: "p", key: "demo" },
        runs: [run(2), run(1)],
        members: [{ user: bob, role: Role.TESTER }],
      },
    },
  });
  const state = reduceProject(emptyProject, snapshot);

  test("lists runs newest first as they start, and changes them in place", () => {
    const next = reduceProject(
      state,
      events(
        event({
          case: "runChanged",
          value: { change: RunChange.STARTED, run: run(3, { state: RunState.RUNNING }) },
        }),
        event({ case: "runProgress", value: { runId: "run3", counts: { total: 5, failed: 1 } } }, 0n),
        event({
          case: "runChanged",
          value: { change: RunChange.ENDED, run: run(1, { state: RunState.ENDED }) },
        }),
      ),
    );
    expect(next.runs.map(({ id }) => id)).toEqual(["run3", "run2", "run1"]);
    expect(next.runs[0]?.counts).toMatchObject({ total: 5, failed: 1 });
    expect(next.runs[2]?.state).toBe(RunState.ENDED);
    expect(next.runs[1], "the others stay the same objects").toBe(state.runs[0]);
  });

  test("drops a run that was deleted, and keeps the others", () => {
    const deleted = run(1, {});
    const value = { change: RunChange.DELETED, run: deleted };
    const next = reduceProject(state, events(event({ case: "runChanged", value })));
    expect(next.runs.map(({ id }) => id)).toEqual(["run2"]);
    expect(reduceProject(next, events(event({ case: "runChanged", value }))).runs).toEqual(next.runs);
  });

  test("does not take older counts for a run that has ended", () => {
    const ended = run(4, { state: RunState.ENDED, counts: { total: 9 } });
    const next = reduceProject(
      state,
      events(
        event({ case: "runChanged", value: { change: RunChange.ENDED, run: ended } }),
        event({ case: "runProgress", value: { runId: "run4", counts: { total: 5 } } }, 0n),
      ),
    );
    expect(next.runs[0]?.counts?.total).toBe(9);
  });

  test("follows its members", () => {
    const change = (what: MemberChange, role: Role, user = ada) =>
      event({ case: "memberChanged", value: { projectId: "p", change: what, member: { user, role } } });
    let next = reduceProject(state, events(change(MemberChange.JOINED, Role.VIEWER)));
    expect(next.members.map(({ user }) => user?.name)).toEqual(["Ada", "Bob"]);
    next = reduceProject(next, events(change(MemberChange.ROLE, Role.OWNER)));
    expect(next.members[0]?.role).toBe(Role.OWNER);
    next = reduceProject(next, events(change(MemberChange.LEFT, Role.UNSPECIFIED, bob)));
    expect(next.members.map(({ user }) => user?.name)).toEqual(["Ada"]);
  });

  test("is unmoved by a kind it doesn't know", () => {
    expect(reduceProject(state, events(event({ case: undefined })))).toBe(state);
  });
});

describe("a test case", () => {
  const fields = [
    TestCaseField.TITLE,
    TestCaseField.DESCRIPTION,
    TestCaseField.PRIORITY,
    TestCaseField.STATUS,
  ];
  const stored = create(TestCaseSchema, {
    id: "c",
    title: "Sign in",
    priority: Priority.MEDIUM,
    status: TestCaseStatus.DRAFT,
    revisions: fields.map((field) => ({ field, revision: 1n })),
  });
  const state = reduceTestCase(
    emptyTestCase,
    joined({ snapshot: { case: "testCase", value: { testCase: stored } } }),
  );

  const edit = (field: TestCaseField, value: string, revision: bigint) =>
    event({
      case: "collaboration",
      value: {
        type: CollaborationType.TEST_CASE_EDIT,
        user: bob,
        data: { case: "edit", value: { field, value, revision } },
      },
    });

  test("takes edits of each field by its own revision", () => {
    const { testCase } = reduceTestCase(
      state,
      events(
        edit(TestCaseField.TITLE, "Sign in, fast", 2n),
        edit(TestCaseField.PRIORITY, "PRIORITY_CRITICAL", 2n),
        edit(TestCaseField.STATUS, "TEST_CASE_STATUS_APPROVED", 2n),
      ),
    );
    expect(testCase).toMatchObject({
      title: "Sign in, fast",
      priority: Priority.CRITICAL,
      status: TestCaseStatus.APPROVED,
    });
    expect(testCase?.updatedBy?.name).toBe("Bob");
    expect(fields.map((field) => revisionOf(testCase, field))).toEqual([2n, 1n, 2n, 2n]);
  });

  test("leaves alone what is known already, and values of a newer server", () => {
    const newer = reduceTestCase(state, events(edit(TestCaseField.TITLE, "third", 3n)));
    expect(reduceTestCase(newer, events(edit(TestCaseField.TITLE, "second", 2n))).testCase?.title).toBe(
      "third",
    );
    expect(
      reduceTestCase(state, events(edit(TestCaseField.PRIORITY, "PRIORITY_URGENT", 2n))).testCase?.priority,
    ).toBe(Priority.MEDIUM);
  });

  test("is the same whether one's own answer or the event comes first", () => {
    const answer = create(TestCaseSchema, {
      ...stored,
      title: "mine",
      revisions: stored.revisions.map((entry) =>
        entry.field === TestCaseField.TITLE ? { ...entry, revision: 2n } : entry,
      ),
    });
    const change = events(
      edit(TestCaseField.TITLE, "mine", 2n),
      edit(TestCaseField.DESCRIPTION, "theirs", 2n),
    );
    const eventFirst = mergeTestCase(reduceTestCase(state, change).testCase, answer);
    const answerFirst = reduceTestCase(
      { ...state, testCase: mergeTestCase(state.testCase, answer) },
      change,
    ).testCase;
    for (const testCase of [eventFirst, answerFirst]) {
      expect(testCase).toMatchObject({ title: "mine", description: "theirs" });
      expect(revisionOf(testCase, TestCaseField.TITLE)).toBe(2n);
    }
  });

  test("lists comments oldest first, each once", () => {
    const comment = (id: string) => create(CommentSchema, { id, text: id });
    const added = event({
      case: "collaboration",
      value: { type: CollaborationType.COMMENT_ADDED, data: { case: "comment", value: comment("3") } },
    });
    const next = reduceTestCase({ ...state, comments: [comment("2")] }, events(added, added));
    expect(mergeComments(next.comments, [comment("1"), comment("2")]).map(({ id }) => id)).toEqual([
      "1",
      "2",
      "3",
    ]);
  });
});

describe("a user's room", () => {
  const notification = (id: string) => create(NotificationSchema, { id, title: id });
  const state = reduceUser(emptyUser, joined({ snapshot: { case: "user", value: { unread: 3 } } }));

  test("counts and lists what arrives, newest first", () => {
    const add = (id: string, unread: number) =>
      event({ case: "notificationAdded", value: { notification: notification(id), unread } });
    const next = reduceUser(state, events(add("1", 4), add("2", 5)));
    expect(next.unread).toBe(5);
    expect(next.notifications.map(({ id }) => id)).toEqual(["2", "1"]);
  });

  test("marks what was read on any tab, one by one or all", () => {
    const known = { ...state, notifications: [notification("2"), notification("1")] };
    const some = reduceUser(
      known,
      events(event({ case: "notificationsRead", value: { ids: ["1"], unread: 2 } })),
    );
    expect(some.unread).toBe(2);
    expect(some.notifications.map(({ readAt }) => readAt !== undefined)).toEqual([false, true]);
    const all = reduceUser(
      known,
      events(event({ case: "notificationsRead", value: { all: true, unread: 0 } })),
    );
    expect(all.notifications.every(({ readAt }) => readAt !== undefined)).toBe(true);
  });

  test("does not unread what a page that was read before shows as unread", () => {
    const read = create(NotificationSchema, { id: "1", readAt: timestampFromMs(5) });
    expect(mergeNotifications([read], [notification("1")])[0]?.readAt).toBeDefined();
  });
});

describe("a run", () => {
  const snapshot = joined({
    position: { epoch: 1n, offset: 100n },
    snapshot: {
      case: "run",
      value: {
        run: { id: "r", state: RunState.RUNNING, counts: { total: 10 } },
        suites: [{ name: "s", status: Status.RUNNING, offset: 5n, counts: { total: 10 } }],
        running: [{ test: { suite: "s", name: "Slow" }, status: Status.RUNNING, attempt: 1 }],
        failures: [
          {
            test: { suite: "s", name: "Bad" },
            status: Status.FAILED,
            attempt: 1,
            error: { message: "m", details: "d" },
          },
        ],
      },
    },
  });

  test("shows running tests and failures before its rows are read", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    const state = room.snapshot();
    expect(state.running.map(({ name }) => name)).toEqual(["Slow"]);
    expect(state.failures.map(({ name }) => name)).toEqual(["Bad"]);
    expect(room.details("s", "Bad")).toBe("d");
    expect(state).toMatchObject({ rowsState: "loading", rowsLoaded: 0, rowsExpected: 10 });
  });

  test("keeps the server's counts of suites when what passed was trimmed", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    const trimmed = { id: "r", state: RunState.ENDED, counts: { total: 10 }, resultsTrimmed: true };
    room.apply(
      events(event({ case: "runChanged", value: { change: RunChange.TRIMMED, run: trimmed } }, 101n)),
    );
    room.rowsComplete();
    const state = room.snapshot();
    expect(state.run?.resultsTrimmed).toBe(true);
    expect(state.suites.get("s")?.counts?.total).toBe(10);
    expect(state).toMatchObject({ rowsLoaded: state.rowsExpected });
  });

  test("shows what it was while it ends because the run was deleted", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    const deleted = { change: RunChange.DELETED, run: { id: "r", number: 1 } };
    room.apply(events(event({ case: "runChanged", value: deleted }, 101n)));
    expect(room.snapshot().run?.counts?.total).toBe(10);
  });

  test("gives the same objects for what did not change", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    const before = room.snapshot();
    room.apply(events(event({ case: "runProgress", value: { runId: "r", counts: { total: 11 } } }, 0n)));
    const after = room.snapshot();
    expect(after.run?.counts?.total).toBe(11);
    expect(after.running).toBe(before.running);
    expect(after.failures).toBe(before.failures);
    expect(after.suites).toBe(before.suites);
  });

  test("does not change a snapshot that was given out", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    const before = room.snapshot();
    room.apply(events(event({ case: "suiteExecution", value: { suite: "s", status: Status.FAILED } }, 101n)));
    expect(before.suites.get("s")?.status).toBe(Status.RUNNING);
    expect(room.snapshot().suites.get("s")?.status).toBe(Status.FAILED);
  });

  test("takes the server's counts of a suite until its rows are read, and then the rows'", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    expect(room.snapshot().suites.get("s")?.counts?.total).toBe(10);
    room.rowsComplete();
    expect(room.snapshot().suites.get("s")?.counts).toMatchObject({ total: 2, running: 1, failed: 1 });
    const passed = event(
      {
        case: "testExecution",
        value: { test: { suite: "s", name: "Slow" }, status: Status.PASSED, attempt: 1 },
      },
      101n,
    );
    room.apply(events(passed));
    expect(room.snapshot().suites.get("s")?.counts).toMatchObject({ total: 2, passed: 1, running: 0 });
  });

  test("has another table after a snapshot, and nothing of the old one", () => {
    const room = new RunRoom();
    room.apply(snapshot);
    room.rowsComplete();
    const { rows } = room.snapshot();
    room.apply(
      joined({ position: { epoch: 2n, offset: 3n }, snapshot: { case: "run", value: { run: { id: "r" } } } }),
    );
    const state = room.snapshot();
    expect(state.rows).not.toBe(rows);
    expect(state).toMatchObject({ rowsState: "loading", running: [], failures: [], rowsLoaded: 0 });
    expect(room.details("s", "Bad")).toBe("");
  });

  test("keeps the details of the newest 200 failures", () => {
    const room = new RunRoom();
    for (let i = 1; i <= 201; i++) {
      const value = {
        test: { suite: "s", name: `T${i}` },
        status: Status.FAILED,
        attempt: 1,
        error: { message: "m", details: `d${i}` },
      };
      room.apply(events(event({ case: "testExecution", value }, BigInt(i))));
    }
    expect(room.details("s", "T1")).toBe("");
    expect(room.details("s", "T201")).toBe("d201");
  });
});

describe("a line about an event", () => {
  test("says what happened", () => {
    const lines = [
      event({
        case: "testExecution",
        value: { test: { suite: "s", name: "TestX" }, status: Status.TIMED_OUT },
      }),
      event({
        case: "runChanged",
        value: { change: RunChange.ENDED, run: { number: 7, endReason: EndReason.FAILED } },
      }),
      event({ case: "runChanged", value: { change: RunChange.DELETED, run: { number: 7 } } }),
      event({ case: undefined }),
    ].map(describeEvent);
    expect(lines).toEqual([
      "TestX timed out",
      "run #7 ended: failed",
      "run #7 was deleted",
      "something this version doesn't know",
    ]);
  });
});
