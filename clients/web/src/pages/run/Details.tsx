import { ActionIcon, Tooltip } from "@mantine/core";
import type { Row, RunSnapshot, RunStore } from "@tcmanager/client";
import { type ResultFlag, type Run, Status, type Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { useState } from "react";
import { cx } from "../../components/cx";
import { Icon } from "../../components/icon/Icon";
import panelStyles from "../../components/Panel.module.css";
import { Empty } from "../../components/State";
import { OutputPane } from "../../output/OutputPane";
import { isLive } from "../../run/state";
import { StatusIcon } from "../../status/StatusIcon";
import { isInFlight, type Look, lookOf } from "../../status/status";
import { testids } from "../../testids";
import { DetailFacts } from "./DetailFacts";
import styles from "./Details.module.css";
import type { RunViewState } from "./useRunView";

interface DetailsProps {
  readonly store: RunStore;
  readonly snapshot: RunSnapshot;
  readonly run: Run;
  readonly view: RunViewState;
}

/** What there is to say of a test, a suite, or the run's own output. */
export interface Subject {
  readonly suite: string;
  readonly name: string;
  readonly look: Look;
  readonly attempt: number;
  readonly durationMs: number;
  readonly startedAtMs: number;
  readonly flags: readonly ResultFlag[];
  readonly message: string;
  readonly file: string;
  readonly line: number;
  readonly details: string;
  readonly testCaseId: string;
  /** Whether it may still print and change. */
  readonly live: boolean;
}

/** The selected test: how it went, why it failed, and what it printed. */
export function Details({ store, snapshot, run, view }: DetailsProps) {
  const open = view.suite !== undefined;
  return (
    <section className={cx(panelStyles.panel, styles.panel)} aria-label="Details" data-open={open}>
      {view.suite === undefined ? (
        <Empty icon="terminal" title="Select a test">
          Its failure and what it printed are shown here.
        </Empty>
      ) : (
        <Shown
          key={`${view.suite} ${view.test ?? ""}`}
          subject={subjectOf(store, snapshot, run, view.suite, view.test)}
          run={run}
          onClose={() => view.select(undefined)}
        />
      )}
    </section>
  );
}

function subjectOf(
  store: RunStore,
  snapshot: RunSnapshot,
  run: Run,
  suite: string,
  name: string | undefined,
): Subject {
  const runLives = isLive(run);
  if (name !== undefined) {
    const row = snapshot.rows.find(suite, name);
    return ofRow(suite, name, row, row === undefined ? "" : store.failureDetails(suite, name), runLives);
  }
  return ofSuite(suite, snapshot.suites.get(suite), runLives);
}

function ofRow(
  suite: string,
  name: string,
  row: Row | undefined,
  details: string,
  runLives: boolean,
): Subject {
  return {
    suite,
    name,
    look: lookOf(row?.status ?? Status.UNSPECIFIED),
    attempt: row?.attempt ?? 0,
    durationMs: row?.durationMs ?? 0,
    startedAtMs: row?.startedAtMs ?? 0,
    flags: row?.flags ?? [],
    message: row?.message ?? "",
    file: row?.file ?? "",
    line: row?.line ?? 0,
    details,
    testCaseId: row?.testCaseId ?? "",
    live: runLives && (row === undefined || isInFlight(row.status)),
  };
}

function ofSuite(name: string, suite: Suite | undefined, runLives: boolean): Subject {
  return {
    suite: name,
    name: "",
    look: lookOf(suite?.status ?? Status.UNSPECIFIED),
    attempt: 0,
    durationMs: suite?.durationMs ?? 0,
    startedAtMs: 0,
    flags: suite?.flags ?? [],
    message: suite?.error?.message ?? "",
    file: suite?.error?.file ?? "",
    line: suite?.error?.line ?? 0,
    details: suite?.error?.details ?? "",
    testCaseId: "",
    live: runLives && (suite === undefined || isInFlight(suite.status)),
  };
}

interface ShownProps {
  readonly subject: Subject;
  readonly run: Run;
  readonly onClose: () => void;
}

function Shown({ subject, run, onClose }: ShownProps) {
  const [attempt, setAttempt] = useState(0);
  const ofRun = subject.suite === "" && subject.name === "";
  return (
    <>
      <header
        className={styles.head}
        data-testid={testids.details}
        data-suite={subject.suite}
        data-test={subject.name}
        data-status={subject.look.tone}
      >
        <div className={styles.title}>
          {!ofRun && <StatusIcon tone={subject.look.tone} />}
          <h2>{ofRun ? "Output of the run" : subject.name || subject.suite}</h2>
          <Tooltip label="Close (Esc)">
            <ActionIcon
              className={styles.close ?? ""}
              variant="subtle"
              color="gray"
              size={26}
              aria-label="Close details"
              onClick={onClose}
            >
              <Icon name="close" size={15} />
            </ActionIcon>
          </Tooltip>
        </div>
        {subject.name !== "" && <p className={styles.suite}>{subject.suite}</p>}
        {!ofRun && <DetailFacts subject={subject} attempt={attempt} onAttempt={setAttempt} />}
      </header>
      <FailureBox subject={subject} />
      <OutputPane
        runId={run.id}
        suite={subject.suite}
        name={subject.name}
        attempt={attempt}
        live={ofRun ? isLive(run) : subject.live}
        trimmed={run.resultsTrimmed}
      />
    </>
  );
}

function FailureBox({ subject: { message, file, line, details } }: { readonly subject: Subject }) {
  if (message === "" && details === "" && file === "") return null;
  return (
    <div className={styles.failure}>
      {message !== "" && <h3>{message}</h3>}
      {file !== "" && (
        <p className={styles.place}>
          {file}
          {line > 0 && `:${line}`}
        </p>
      )}
      {details !== "" && details !== message && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable to be scrolled by keyboard
        <pre className={styles.details} tabIndex={0}>
          {details}
        </pre>
      )}
    </div>
  );
}
