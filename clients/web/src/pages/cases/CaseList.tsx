import { Button } from "@mantine/core";
import { type InfiniteData, useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import type { ProjectStore } from "@tcmanager/client";
import { Role } from "@tcmanager/gen/tcmanager/v1/project_pb";
import type { ListTestCasesResponse, TestCase } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { useEffect, useState } from "react";
import { Icon } from "../../components/icon/Icon";
import { Panel } from "../../components/Panel";
import { Empty, Failing, Loading } from "../../components/State";
import { formatAgo, formatMoment } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useClient, useSelected } from "../../live/client";
import { useNow } from "../../live/now";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { PriorityMark, StatusMark } from "../../testcase/Marks";
import { testids } from "../../testids";
import styles from "./Cases.module.css";
import { CreateCase } from "./CreateCase";

interface CaseListProps {
  readonly store: ProjectStore;
  /** The project's key or id. */
  readonly project: string;
}

/** A project's test cases. */
export function CaseList({ store, project }: CaseListProps) {
  const [creating, setCreating] = useState(false);
  const role = useSelected(store, (snapshot) => snapshot.project?.myRole);
  const { data, error, isPending, refetch, hasNextPage, isFetchingNextPage, fetchNextPage } = useCases(
    store,
    project,
  );
  const cases = data?.pages.flatMap((page) => page.testCases) ?? [];
  const mayCreate = role !== undefined && role !== Role.VIEWER && role !== Role.BOT;
  const create = (
    <Button
      leftSection={<Icon name="plus" size={14} />}
      onClick={() => setCreating(true)}
      disabled={!mayCreate}
    >
      New test case
    </Button>
  );
  return (
    <Panel
      title="Test cases"
      count={data === undefined || hasNextPage ? undefined : cases.length}
      aside={create}
    >
      {isPending && <Loading label="Loading test cases" lines={6} />}
      {error !== null && data === undefined && (
        <Failing title="The test cases could not be read" error={error} onRetry={() => void refetch()} />
      )}
      {data !== undefined && cases.length === 0 && (
        <Empty icon="check" title="No test cases yet">
          A test case says what has to be true. Automated tests link to it by its key, and people work on it
          together.
        </Empty>
      )}
      <CaseRows cases={cases} />
      {hasNextPage && (
        <div className={styles.actions} style={{ padding: 10 }}>
          <Button variant="default" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Load more
          </Button>
        </div>
      )}
      <CreateCase project={project} opened={creating} onClose={() => setCreating(false)} />
    </Panel>
  );
}

function useCases(store: ProjectStore, project: string) {
  const client = useClient();
  const queries = useQueryClient();
  const key = ["cases", project];
  // Somebody's edit or new case: the list is read again, which is cheap and always right.
  useEffect(
    () =>
      store.onEvent((event) => {
        if (event.payload.case === "collaboration")
          void queries.invalidateQueries({ queryKey: ["cases", project] });
      }),
    [store, queries, project],
  );
  return useInfiniteQuery<
    ListTestCasesResponse,
    Error,
    InfiniteData<ListTestCasesResponse>,
    string[],
    string
  >({
    queryKey: key,
    queryFn: ({ pageParam, signal }) =>
      client.testCases.listTestCases({ project, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => (last.nextPageToken === "" ? undefined : last.nextPageToken),
  });
}

function CaseRows({ cases }: { readonly cases: readonly TestCase[] }) {
  const now = useNow(10_000);
  return (
    <ul>
      {cases.map((each) => {
        const updated = msOf(each.updatedAt);
        return (
          <li key={each.id}>
            <Link
              href={formatRoute({ page: "case", testCase: each.id })}
              className={styles.row}
              data-testid={testids.caseRow}
              data-case={each.id}
              data-key={each.key}
            >
              <span className={styles.key}>{each.key}</span>
              <span className={styles.title}>{each.title}</span>
              <PriorityMark priority={each.priority} />
              <span>
                <StatusMark status={each.status} />
              </span>
              {updated !== undefined && (
                <time
                  className={styles.updated}
                  dateTime={new Date(updated).toISOString()}
                  title={formatMoment(updated)}
                >
                  {formatAgo(updated, now)}
                </time>
              )}
            </Link>
          </li>
        );
      })}
    </ul>
  );
}
