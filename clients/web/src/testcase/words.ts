import { Priority, TestCaseStatus } from "@tcmanager/gen/tcmanager/v1/testcase_pb";

/** A value to choose, as it is sent and as it is read. */
export interface Choice {
  /** The name of the enum's value, which is how fields are edited. */
  readonly value: string;
  readonly label: string;
}

/** The priorities, most important first. */
export const priorities: readonly (Choice & { readonly priority: Priority })[] = [
  { priority: Priority.CRITICAL, value: "PRIORITY_CRITICAL", label: "Critical" },
  { priority: Priority.HIGH, value: "PRIORITY_HIGH", label: "High" },
  { priority: Priority.MEDIUM, value: "PRIORITY_MEDIUM", label: "Medium" },
  { priority: Priority.LOW, value: "PRIORITY_LOW", label: "Low" },
];

/** The states of a test case, in the order of its life. */
export const statuses: readonly (Choice & { readonly status: TestCaseStatus })[] = [
  { status: TestCaseStatus.DRAFT, value: "TEST_CASE_STATUS_DRAFT", label: "Draft" },
  { status: TestCaseStatus.IN_REVIEW, value: "TEST_CASE_STATUS_IN_REVIEW", label: "In review" },
  { status: TestCaseStatus.APPROVED, value: "TEST_CASE_STATUS_APPROVED", label: "Approved" },
  { status: TestCaseStatus.DEPRECATED, value: "TEST_CASE_STATUS_DEPRECATED", label: "Deprecated" },
];

/** priorityChoice is a priority as it is sent and read. */
export function priorityChoice(priority: Priority): Choice {
  return (
    priorities.find((each) => each.priority === priority) ?? { value: "PRIORITY_UNSPECIFIED", label: "–" }
  );
}

/** statusChoice is a test case's state as it is sent and read. */
export function statusChoice(status: TestCaseStatus): Choice {
  return (
    statuses.find((each) => each.status === status) ?? { value: "TEST_CASE_STATUS_UNSPECIFIED", label: "–" }
  );
}
