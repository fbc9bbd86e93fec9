import { useQuery } from "@tanstack/react-query";
import { headcountOf, type TestCaseSnapshot, type TestCaseStore } from "@tcmanager/client";
import { type Project, Role } from "@tcmanager/gen/tcmanager/v1/project_pb";
import type { TestCase } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { Panel } from "../../components/Panel";
import { Failing, Loading } from "../../components/State";
import { useDocumentTitle } from "../../components/useDocumentTitle";
import { formatCount } from "../../format/duration";
import { useClient, useRoom, useSnapshot } from "../../live/client";
import { PresenceList } from "../../people/Presence";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { useCrumbs } from "../../shell/trail";
import { ActivityFeed } from "../project/ActivityFeed";
import { useMe } from "../useMe";
import styles from "./Case.module.css";
import { Comments } from "./Comments";
import { ChoiceField, DescriptionField, TitleField } from "./Fields";

/** A test case, edited together. */
export function CasePage({ id }: { readonly id: string }) {
  const store = useRoom(`testcase:${id}`, (client) => client.openTestCase(id));
  const snapshot = useSnapshot(store);
  const { testCase } = snapshot;
  useDocumentTitle(testCase === undefined ? "Test case" : `${testCase.key} ${testCase.title}`);
  if (snapshot.state === "failed") {
    return (
      <Failing
        title="This test case can't be opened"
        error={snapshot.error}
        actions={
          <Link href="/" className="link">
            Go to your projects
          </Link>
        }
      />
    );
  }
  if (testCase === undefined) return <CaseLoading />;
  return <Editor store={store} snapshot={snapshot} testCase={testCase} />;
}

/** A test case that is still being read, in the shape it will have. */
function CaseLoading() {
  return (
    <div className={styles.page}>
      <Panel title="Test case">
        <Loading label="Loading the test case" lines={8} />
      </Panel>
      <Panel title="Properties">
        <Loading label="Loading properties" />
      </Panel>
    </div>
  );
}

/** What every part of the editor works on. */
export interface EditorProps {
  readonly store: TestCaseStore;
  readonly snapshot: TestCaseSnapshot;
  readonly testCase: TestCase;
}

function Editor(props: EditorProps) {
  const { snapshot, testCase } = props;
  const project = useProject(testCase.projectId);
  const me = useMe();
  const readOnly = project?.myRole === Role.VIEWER || project?.myRole === Role.BOT;
  useCaseCrumbs(testCase, project);
  return (
    <div className={styles.page}>
      <div className={styles.main}>
        <Panel
          title={testCase.key}
          aside={readOnly && <span className={styles.readonly}>You may read this, not change it</span>}
        >
          <h1 className="visually-hidden">
            {testCase.key} {testCase.title}
          </h1>
          <div className={styles.form}>
            <TitleField {...props} readOnly={readOnly} />
            <DescriptionField {...props} readOnly={readOnly} />
          </div>
        </Panel>
        <Comments {...props} readOnly={readOnly} />
      </div>
      <div className={styles.side}>
        <Panel title="Properties">
          <div className={styles.form}>
            <ChoiceField {...props} name="priority" label="Priority" readOnly={readOnly} />
            <ChoiceField {...props} name="status" label="Status" readOnly={readOnly} />
          </div>
        </Panel>
        <Panel title="Here now" count={formatCount(headcountOf(snapshot))}>
          <div className={styles.pad}>
            <PresenceList presence={snapshot.presence} count={headcountOf(snapshot)} me={me} />
          </div>
        </Panel>
        <Panel title="Activity">
          <ActivityFeed
            events={snapshot.recent}
            about={formatRoute({ page: "case", testCase: testCase.id })}
          />
        </Panel>
      </div>
    </div>
  );
}

function useProject(id: string): Project | undefined {
  const client = useClient();
  const { data } = useQuery({
    queryKey: ["project", id],
    queryFn: ({ signal }) => client.projects.getProject({ project: id }, { signal }),
    staleTime: 600_000,
  });
  return data?.project;
}

function useCaseCrumbs(testCase: TestCase, project: Project | undefined): void {
  const key = project?.key ?? testCase.projectId;
  useCrumbs([
    {
      label: project?.name || project?.key || "Project",
      href: formatRoute({ page: "project", project: key }),
    },
    { label: "Test cases", href: formatRoute({ page: "cases", project: key }) },
    { label: testCase.key, href: formatRoute({ page: "case", testCase: testCase.id }) },
  ]);
}
