import { useQuery } from "@tanstack/react-query";
import type { Project } from "@tcmanager/gen/tcmanager/v1/project_pb";
import { Icon } from "../../components/icon/Icon";
import { Panel } from "../../components/Panel";
import { Empty, Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { useClient } from "../../live/client";
import { roleWord } from "../../live/describe";
import { initials } from "../../people/color";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { useCrumbs } from "../../shell/trail";
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
            <span className={styles.role}>{roleWord(project.myRole)}</span>
            <Icon name="chevron" />
          </Link>
        </li>
      ))}
    </ul>
  );
}
