import { useMemo } from "react";
import { Empty } from "../components/State";
import { useDocumentTitle } from "../components/useDocumentTitle";
import { usePathname } from "../router/history";
import { Link } from "../router/Link";
import { parseRoute } from "../router/route";
import { CasePage } from "./case/CasePage";
import { ProjectPage } from "./project/ProjectPage";
import { ProjectsPage } from "./projects/ProjectsPage";
import { RunPage } from "./run/RunPage";

/** The page that the address names. Another run or project is another page, with nothing left of the one before. */
export function Pages() {
  const pathname = usePathname();
  const route = useMemo(() => parseRoute(pathname), [pathname]);
  switch (route.page) {
    case "projects":
      return <ProjectsPage />;
    case "project":
      return <ProjectPage key={route.project} project={route.project} tab="runs" />;
    case "cases":
      return <ProjectPage key={route.project} project={route.project} tab="cases" />;
    case "run":
      return <RunPage key={route.run} id={route.run} />;
    case "case":
      return <CasePage key={route.testCase} id={route.testCase} />;
    case "not-found":
      return <NotFound path={route.path} />;
    default:
      return route satisfies never;
  }
}

function NotFound({ path }: { readonly path: string }) {
  useDocumentTitle("Not found");
  return (
    <Empty
      icon="search"
      title="There is no such page"
      actions={
        <Link href="/" className="link">
          Go to the projects
        </Link>
      }
    >
      Nothing has the address {path}.
    </Empty>
  );
}
