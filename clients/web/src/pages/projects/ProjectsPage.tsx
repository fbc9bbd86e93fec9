import { useQuery } from "@tanstack/react-query";
import type { Project } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { Icon } from "../../components/icon/Icon";
import { Panel } from "../../components/Panel";
import { Empty, Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { formatAgo } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useClient } from "../../live/client";
import { roleWord } from "../../live/describe";
import { useNow } from "../../live/now";
import { initials } from "../../people/color";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { lookOfRun } from "../../run/state";
import { useCrumbs } from "../../shell/trail";
import { StatusIcon } from "../../status/StatusIcon";
import { testids } from "../../testids";
import styles from "./Projects.module.css";

const noCrumbs = [{ label: "Projects", href: "/" }];

/** The reader's projects. */
export function ProjectsPage() {
  const client = useClient();
  useDocumentTitle("Projects");
  useCrumbs(noCrumbs);
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["projects"],
    queryFn: ({ signal }) => client.projects.listProjects({}, { signal }),
  });
  return (
    <div className={styles.page}>
      <h1>Projects</h1>
      <Panel title="Yours" count={data?.projects.length}>
        {isPending && <Loading label="Loading projects" />}
        {error !== null && data === undefined && (
          <Failing title="The projects could not be read" error={error} onRetry={() => void refetch()} />
        )}
        {data !== undefined && <ProjectList projects={data.projects} />}
      </Panel>
    </div>
  );
}

function ProjectList({ projects }: { readonly projects: readonly Project[] }) {
  if (projects.length === 0) {
    return (
      <Empty icon="search" title="No projects yet">
        Ask an owner of a project to add you to it, or create one with the ProjectService.
      </Empty>
    );
  }
  return (
    <ul>
      {projects.map((project) => (
        <li key={project.id}>
          <Link
            href={formatRoute({ page: "project", project: project.key })}
            className={styles.row}
            data-testid={testids.projectRow}
            data-project={project.key}
          >
            <span className={styles.sign} aria-hidden="true">
              {initials(project.name || project.key)}
            </span>
            <span>
              <span className={styles.name}>{project.name || project.key}</span>
              <span className={styles.key}>{project.key}</span>
            </span>
            <LastRun project={project} />
            <span className={styles.role}>{roleWord(project.myRole)}</span>
            <Icon name="chevron" />
          </Link>
        </li>
      ))}
    </ul>
  );
}

/** How a project's newest run stands, so that the list says where to look. */
function LastRun({ project }: { readonly project: Project }) {
  const client = useClient();
  const now = useNow(10_000);
  const { data } = useQuery({
    queryKey: ["last-run", project.id],
    queryFn: ({ signal }) => client.execution.listRuns({ project: project.id, pageSize: 1 }, { signal }),
    refetchInterval: 15_000,
  });
  const run = data?.runs[0];
  const started = msOf(run?.startedAt);
  if (run === undefined)
    return <span className={styles.last}>{data === undefined ? "" : "no runs yet"}</span>;
  const look = lookOfRun(run);
  return (
    <span className={styles.last}>
      <StatusIcon tone={look.tone} />
      {look.word} #{run.number}
      {started !== undefined && `, ${formatAgo(started, now)}`}
    </span>
  );
}
