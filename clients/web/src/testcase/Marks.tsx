import type { Priority, TestCaseStatus } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import styles from "./Marks.module.css";
import { priorityChoice, statusChoice } from "./words";

/** A priority: bars that grow, and the word. */
export function PriorityMark({ priority }: { readonly priority: Priority }) {
  return (
    <span className={styles.mark}>
      <span className={styles.bars} data-level={priority} aria-hidden="true">
        <i />
        <i />
        <i />
        <i />
      </span>
      {priorityChoice(priority).label}
    </span>
  );
}

/** Where a test case is in its life. */
export function StatusMark({ status }: { readonly status: TestCaseStatus }) {
  return (
    <span className={styles.status} data-status={status}>
      {statusChoice(status).label}
    </span>
  );
}
