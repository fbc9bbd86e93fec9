import { CollaborationType, type CollaborationUpdate } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { EndReason, RunChange, type RunChanged, Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { MemberChange, type MemberChanged } from "@tcmanager/gen/tcmanager/v1/project_pb";

/** describeEvent says in one line of English what happened, without who did it. */
export function describeEvent({ payload }: Event): string {
  switch (payload.case) {
    case "testExecution":
      return `${payload.value.test?.name ?? "a test"} ${words(Status[payload.value.status])}`;
    case "suiteExecution":
      return `${payload.value.suite} ${words(Status[payload.value.status])}`;
    case "runChanged":
      return describeRun(payload.value);
    case "runProgress":
      return `${payload.value.counts?.total ?? 0} tests so far`;
    case "collaboration":
    case "presence":
      return describeCollaboration(payload.value);
    case "headcount":
      return payload.value.present === 0
        ? "everybody is told of"
        : `${payload.value.present} people are here`;
    case "activity":
      return `is in ${payload.value.field}`;
    case "notificationAdded":
      return payload.value.notification?.title ?? "a notification";
    case "notificationsRead":
      return payload.value.all ? "read all notifications" : `read ${payload.value.ids.length} notifications`;
    case "memberChanged":
      return describeMember(payload.value);
    case undefined:
      return "something this version doesn't know";
    default:
      payload satisfies never;
      return "";
  }
}

function describeRun({ change, run }: RunChanged): string {
  const name = `run #${run?.number ?? 0}`;
  switch (change) {
    case RunChange.STARTED:
      return `${name} started`;
    case RunChange.ENDED:
      return `${name} ended: ${words(EndReason[run?.endReason ?? 0])}`;
    case RunChange.TRIMMED:
      return `${name}: what passed is no longer kept`;
    case RunChange.DELETED:
      return `${name} was deleted`;
    default:
      return `${name}: a runner changed`;
  }
}

function describeCollaboration({ type, data, user }: CollaborationUpdate): string {
  switch (type) {
    case CollaborationType.TEST_CASE_EDIT:
      return data.case === "edit" ? `edited ${data.value.testCaseKey} ${data.value.testCaseTitle}` : "edited";
    case CollaborationType.USER_JOINED:
      return `${user?.name ?? "somebody"} came`;
    case CollaborationType.USER_LEFT:
      return `${user?.name ?? "somebody"} left`;
    case CollaborationType.COMMENT_ADDED:
      return data.case === "comment" ? `commented: ${firstLine(data.value.text)}` : "commented";
    case CollaborationType.TEST_CASE_CREATED:
      return data.case === "testCase" ? `wrote ${data.value.key} ${data.value.title}` : "wrote a test case";
    default:
      return "worked on a test case";
  }
}

function describeMember({ change, member }: MemberChanged): string {
  const name = member?.user?.name ?? "somebody";
  switch (change) {
    case MemberChange.JOINED:
      return `${name} became a member`;
    case MemberChange.LEFT:
      return `${name} is no longer a member`;
    default:
      return `${name} has another role`;
  }
}

/** words makes "TIMED_OUT" "timed out". */
function words(name: string | undefined): string {
  return (name ?? "changed").toLowerCase().replaceAll("_", " ");
}

function firstLine(text: string): string {
  const line = text.split("\n", 1)[0] ?? "";
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}
