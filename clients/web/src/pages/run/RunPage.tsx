import { useQuery } from "@tanstack/react-query";
import { headcountOf, type RunSnapshot, type RunStore } from "@tcmanager/client";
import type { Run } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { Panel } from "../../components/Panel";
import { Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { useClient, useRoom, useSnapshot } from "../../live/client";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { isLive, lookOfRun } from "../../run/state";
import { useCrumbs } from "../../shell/trail";
import { Details } from "./Details";
import { Failures } from "./Failures";
import styles from "./Run.module.css";
import { RunHeader } from "./RunHeader";
import { RunningNow } from "./RunningNow";
import { TestTree } from "./TestTree";
import treeStyles from "./Tree.module.css";
import { useRunTree } from "./useRunTree";
import { type RunViewState, useRunView } from "./useRunView";

/** A run, live. */
export function RunPage({ id }: { readonly id: string }) {
  const store = useRoom(`testrun:${id}`, (client) => client.openRun(id));
  const snapshot = useSnapshot(store);
  const { run } = snapshot;
  useRunTitle(run);
  if (snapshot.state === "failed") {
    return (
      <Failing
        title={snapshot.error?.reason === "RUN_DELETED" ? "This run was deleted" : "This run can't be opened"}
        error={snapshot.error}
        actions={
          <Link href="/" className="link">
            Go to your projects
          </Link>
        }
      />
    );
  }
  if (run === undefined) return <RunLoading />;
  return <LoadedRun store={store} snapshot={snapshot} run={run} />;
}

/** A run that is still being read, in the shape it will have. */
function RunLoading() {
  return (
    <div className={styles.page}>
      <div className={styles.header}>
        <Loading label="Loading the run" lines={3} />
      </div>
      <div className={styles.body}>
        <Panel title="Tests" className={treeStyles.panel}>
          <Loading label="Loading tests" lines={8} />
        </Panel>
      </div>
    </div>
  );
}

interface LoadedRunProps {
  readonly store: RunStore;
  readonly snapshot: RunSnapshot;
  readonly run: Run;
}

function LoadedRun({ store, snapshot, run }: LoadedRunProps) {
  const view = useRunView();
  const live = isLive(run);
  const split = view.suite !== undefined || live;
  return (
    <div className={styles.page}>
      <RunCrumbs run={run} />
      <RunHeader run={run} presence={snapshot.presence} here={headcountOf(snapshot)} view={view} />
      <div className={styles.body} data-split={split}>
        <div className={styles.left}>
          <Failures failures={snapshot.failures} suites={snapshot.suites} live={live} view={view} />
          <Tests store={store} snapshot={snapshot} view={view} />
        </div>
        {split && (
          <div className={styles.rightPane}>
            {live && <RunningNow running={snapshot.running} run={run} view={view} />}
            <Details store={store} snapshot={snapshot} run={run} view={view} />
          </div>
        )}
      </div>
    </div>
  );
}

interface TestsProps {
  readonly store: RunStore;
  readonly snapshot: RunSnapshot;
  readonly view: RunViewState;
}

function Tests({ store, snapshot, view }: TestsProps) {
  const tree = useRunTree(store, snapshot, view);
  return <TestTree tree={tree} snapshot={snapshot} view={view} onReload={store.reloadRows} />;
}

/** The way to a run leads over its project, whose name has to be asked for. */
function RunCrumbs({ run }: { readonly run: Run }) {
  const client = useClient();
  const { data } = useQuery({
    queryKey: ["project", run.projectId],
    queryFn: ({ signal }) => client.projects.getProject({ project: run.projectId }, { signal }),
    staleTime: 600_000,
  });
  const project = data?.project;
  useCrumbs([
    {
      label: project?.name || project?.key || "Project",
      href: formatRoute({ page: "project", project: project?.key ?? run.projectId }),
    },
    { label: `Run #${run.number}`, href: formatRoute({ page: "run", run: run.id }) },
  ]);
  return null;
}

function useRunTitle(run: Run | undefined): void {
  const look = run === undefined ? undefined : lookOfRun(run);
  useDocumentTitle(look === undefined ? "Run" : `${look.word} · Run #${run?.number}`, look?.tone);
}
