import type { CollaborationUpdate } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { CollaborationType, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  RunChange,
  type RunChanged,
  type TestExecutionUpdate,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { MemberChange, type MemberChanged, Role } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { formatCount } from "../format/duration";
import { formatRoute, formatRunView } from "../router/route";
import { failures, lookOfRun } from "../run/state";
import { lookOf, type Tone } from "../status/status";

/** An event as a sentence: actor, what was done, and what it was done to. */
export interface Sentence {
  /** Who did it; empty when nobody in particular did. */
  readonly actor: string;
  readonly actorId: string;
  readonly text: string;
  /** Joins text and subject, for example "of"; empty if nothing has to. */
  readonly joint: string;
  /** What it was done to, with the page that shows it; undefined if the text says it all. */
  readonly subject: { readonly label: string; readonly href: string | undefined } | undefined;
  /** The state it is about; undefined for what people do. */
  readonly tone: Tone | undefined;
}

/** describe puts an event into words; undefined for kinds that are no news, such as typing. */
export function describe(event: Event): Sentence | undefined {
  const said = sentenceOf(event);
  if (said === undefined) return undefined;
  return {
    actor: event.actor?.name ?? "",
    actorId: event.actor?.id ?? "",
    subject: undefined,
    tone: undefined,
    joint: "",
    ...said,
  };
}

type Said = Partial<Sentence> & Pick<Sentence, "text">;

function sentenceOf({ payload }: Event): Said | undefined {
  switch (payload.case) {
    case "runChanged":
      return ofRun(payload.value);
    case "testExecution":
      return ofTest(payload.value);
    case "suiteExecution": {
      const { suite, runId, status } = payload.value;
      const look = lookOf(status);
      const href =
        formatRoute({ page: "run", run: runId }) +
        formatRunView({ filter: "", only: "all", suite, test: undefined });
      return { actor: "", text: look.word.toLowerCase(), subject: { label: suite, href }, tone: look.tone };
    }
    case "collaboration":
      return ofCollaboration(payload.value);
    case "presence":
      return ofPresence(payload.value);
    case "notificationAdded":
      return { text: payload.value.notification?.title ?? "sent a notification" };
    case "memberChanged":
      return ofMember(payload.value);
    default:
      return undefined;
  }
}

function ofRun({ change, run }: RunChanged): Said | undefined {
  if (run === undefined) return undefined;
  const subject = { label: `Run #${run.number}`, href: formatRoute({ page: "run", run: run.id }) };
  if (change === RunChange.STARTED) return { text: "started", subject, tone: "unknown" };
  if (change !== RunChange.ENDED) return undefined;
  const look = lookOfRun(run);
  const total = formatCount(run.counts?.total ?? 0);
  const bad = failures(run.counts);
  const tally =
    bad > 0
      ? `${look.word.toLowerCase()}, ${formatCount(bad)} of ${total} not passed`
      : `${look.word.toLowerCase()}, ${total} tests`;
  return { actor: "", text: tally, subject, tone: look.tone };
}

function ofTest({ test, status, runId }: TestExecutionUpdate): Said | undefined {
  if (test === undefined) return undefined;
  const look = lookOf(status);
  const view = formatRunView({ filter: "", only: "all", suite: test.suite, test: test.name });
  const subject = { label: test.name, href: formatRoute({ page: "run", run: runId }) + view };
  return { actor: "", text: look.word.toLowerCase(), subject, tone: look.tone };
}

function ofCollaboration(update: CollaborationUpdate): Said | undefined {
  const href = formatRoute({ page: "case", testCase: update.entityId });
  switch (update.data.case) {
    case "edit": {
      const { field, testCaseKey, testCaseTitle } = update.data.value;
      const label = [testCaseKey, testCaseTitle].filter(Boolean).join(" ");
      return {
        text: `edited the ${fieldWord(field)}`,
        joint: "of",
        subject: { label: label || "a test case", href },
      };
    }
    case "comment":
      return {
        text: "commented",
        joint: "on",
        subject: {
          label: "a test case",
          href: formatRoute({ page: "case", testCase: update.data.value.testCaseId }),
        },
      };
    case "testCase": {
      const { id, key, title } = update.data.value;
      return {
        text: "created",
        subject: { label: `${key} ${title}`, href: formatRoute({ page: "case", testCase: id }) },
      };
    }
    default:
      return update.type === CollaborationType.UNSPECIFIED ? undefined : ofPresence(update);
  }
}

function ofPresence(update: CollaborationUpdate): Said {
  const gone = update.data.case === "presence" && update.data.value.state === PresenceState.OFFLINE;
  const left = gone || update.type === CollaborationType.USER_LEFT;
  return { actor: update.user?.name ?? "", actorId: update.user?.id ?? "", text: left ? "left" : "is here" };
}

function ofMember({ change, member }: MemberChanged): Said {
  const label = member?.user?.name ?? "somebody";
  if (change === MemberChange.LEFT) return { text: "removed", subject: { label, href: undefined } };
  if (change === MemberChange.ROLE) {
    return { text: `gave the role ${roleWord(member?.role)} to`, subject: { label, href: undefined } };
  }
  return { text: "added", subject: { label, href: undefined } };
}

/** fieldWord is an editable field's name in a sentence. */
export function fieldWord(field: TestCaseField): string {
  switch (field) {
    case TestCaseField.TITLE:
      return "title";
    case TestCaseField.DESCRIPTION:
      return "description";
    case TestCaseField.PRIORITY:
      return "priority";
    case TestCaseField.STATUS:
      return "status";
    default:
      return "text";
  }
}

/** roleWord is a role's name. */
export function roleWord(role: Role | undefined): string {
  switch (role) {
    case Role.OWNER:
      return "owner";
    case Role.MANAGER:
      return "manager";
    case Role.TESTER:
      return "tester";
    case Role.VIEWER:
      return "viewer";
    case Role.BOT:
      return "bot";
    default:
      return "none";
  }
}
