import { Panel } from "../../components/Panel";
import { Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { formatCount } from "../../format/duration";
import { useEvents, useHeadcount, usePresence, useRoom, useSnapshot } from "../../live/client";
import { PresenceList } from "../../people/Presence";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { useCrumbs } from "../../shell/trail";
import { CaseList } from "../cases/CaseList";
import { useMe } from "../useMe";
import { ActivityFeed } from "./ActivityFeed";
import styles from "./Project.module.css";
import { RunList } from "./RunList";

interface ProjectPageProps {
  /** The project's key or id. */
  readonly project: string;
  readonly tab: "runs" | "cases";
}

/** A project: its runs or its test cases, who is here, and what happened lately. */
export function ProjectPage({ project: key, tab }: ProjectPageProps) {
  const store = useRoom(`project:${key}`, (client) => client.openProject(key));
  const { state, error, project, runs } = useSnapshot(store);
  const presence = usePresence(store);
  const here = useHeadcount(store);
  const recent = useEvents(store);
  const me = useMe();
  const name = project?.name || key;
  useDocumentTitle(tab === "runs" ? name : `Test cases · ${name}`);
  useCrumbs([
    { label: name, href: formatRoute({ page: "project", project: key }) },
    ...(tab === "cases" ? [{ label: "Test cases", href: formatRoute({ page: "cases", project: key }) }] : []),
  ]);
  if (state === "failed") {
    return (
      <Failing
        title="This project can't be opened"
        error={error}
        actions={
          <Link href="/" className="link">
            Go to your projects
          </Link>
        }
      />
    );
  }
  return (
    <>
      <Head project={key} name={name} tab={tab} />
      <div className={styles.columns}>
        {tab === "runs" ? (
          <Panel title="Runs" count={project === undefined ? undefined : runs.length}>
            {project === undefined ? (
              <Loading label="Loading runs" lines={6} />
            ) : (
              <RunList runs={runs} project={key} />
            )}
          </Panel>
        ) : (
          <CaseList store={store} project={key} />
        )}
        <div className={styles.side}>
          <Panel title="Here now" count={formatCount(here)}>
            <div className={styles.pad}>
              <PresenceList presence={presence} count={here} me={me} />
            </div>
          </Panel>
          <Panel title="Activity">
            {project === undefined ? <Loading label="Loading activity" /> : <ActivityFeed events={recent} />}
          </Panel>
        </div>
      </div>
    </>
  );
}

interface HeadProps {
  readonly project: string;
  readonly name: string;
  readonly tab: "runs" | "cases";
}

function Head({ project, name, tab }: HeadProps) {
  const current = (is: boolean) => (is ? { "aria-current": "page" as const } : {});
  return (
    <div className={styles.head}>
      <h1>{name}</h1>
      <nav className={styles.tabs} aria-label="Project">
        <Link href={formatRoute({ page: "project", project })} {...current(tab === "runs")}>
          Runs
        </Link>
        <Link href={formatRoute({ page: "cases", project })} {...current(tab === "cases")}>
          Test cases
        </Link>
      </nav>
    </div>
  );
}
