import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createClient } from "@tcmanager/client";
import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { Priority, type TestCase, TestCaseStatus } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import type { Page } from "playwright-core";
import { expect } from "vitest";
import { byId, type Person } from "./browser";
import { patienceMs, program } from "./processes";
import type { TestServer } from "./server";

const counters = ["total", "passed", "failed", "errored", "skipped", "running", "paused"] as const;

/** What is shown of a run, or told: its counters, and each test with its state. */
interface RunView {
  readonly counts: Readonly<Record<string, number>>;
  readonly tests: readonly string[];
}

/** Asks the server by plain calls, as somebody without a session. */
export async function caller(
  server: TestServer,
  as: Person = "demo-tester",
): Promise<ReturnType<typeof createClient>> {
  const { token } = await createClient({ baseUrl: server.url, token: () => "" }).identity.signInDev({
    userId: as,
  });
  return createClient({ baseUrl: server.url, token: () => token });
}

/**
 * Waits until a run's page shows what the server says of the run, which must not move meanwhile:
 * counters as `tcm runs show` prints them, rows as a call lists them. Leaves the tree expanded.
 */
export async function showsTheRun(page: Page, server: TestServer): Promise<void> {
  const id = new URL(page.url()).pathname.split("/").at(-1) ?? "";
  const told: RunView = { counts: await toldCounts(server, id), tests: await toldTests(server, id) };
  const size = page.viewportSize();
  await page.setViewportSize({ width: 1440, height: 2000 }); // only rows in sight are there
  await byId(page, "test-filter").fill("");
  await page.getByRole("button", { name: "Expand all" }).click();
  await expect.poll(() => shownRun(page), { timeout: patienceMs }).toEqual(told);
  if (size !== null) await page.setViewportSize(size);
}

async function toldCounts(server: TestServer, id: string): Promise<RunView["counts"]> {
  const env = { ...process.env, TCM_SERVER: server.grpcAddr, TCM_TOKEN: "" };
  const { stdout } = await promisify(execFile)(program("tcm"), ["runs", "show", id, "--json"], { env });
  const { counts }: { readonly counts: Readonly<Record<string, number>> } = JSON.parse(stdout);
  return Object.fromEntries(counters.map((name) => [name, counts[name] ?? 0]));
}

async function toldTests(server: TestServer, id: string): Promise<readonly string[]> {
  const { execution } = await caller(server);
  const { suites, rows, nextPageToken } = await execution.listResults({ runId: id });
  expect(nextPageToken).toBe("");
  return rows.map((row) => `${suites[row.suite]} ${row.name} ${word(Status[row.status])}`).sort();
}

async function shownRun(page: Page): Promise<RunView> {
  return await page.evaluate((names) => {
    const number = (name: string): number =>
      Number(document.querySelector(`[data-testid="count-${name}"]`)?.getAttribute("data-value") ?? 0);
    const rows = [...document.querySelectorAll<HTMLElement>('[data-testid="test-row"]:not([data-test=""])')];
    const tests = rows.map(({ dataset: { suite, test, status } }) => `${suite} ${test} ${status}`);
    return { counts: Object.fromEntries(names.map((name) => [name, number(name)])), tests: tests.sort() };
  }, counters);
}

/** Waits until a test case's page shows what the server says of it, and returns that. */
export async function showsTheCase(page: Page, server: TestServer): Promise<TestCase> {
  const id = new URL(page.url()).pathname.split("/").at(-1) ?? "";
  const { testCases, collaboration } = await caller(server);
  const { testCase } = await testCases.getTestCase({ testCaseId: id });
  if (testCase === undefined) throw new Error("the server knows no such test case");
  const { comments } = await collaboration.listComments({ testCaseId: id });
  const told = {
    title: testCase.title,
    description: testCase.description,
    priority: `PRIORITY_${Priority[testCase.priority]}`,
    status: `TEST_CASE_STATUS_${TestCaseStatus[testCase.status]}`,
    comments: comments.length,
  };
  await expect.poll(() => shownCase(page), { timeout: patienceMs }).toEqual(told);
  return testCase;
}

async function shownCase(page: Page): Promise<unknown> {
  const read = (field: string) => byId(page, `field-${field}`).inputValue();
  return {
    title: await read("title"),
    description: await read("description"),
    priority: await read("priority"),
    status: await read("status"),
    comments: await byId(page, "comment").count(),
  };
}

function word(status: string | undefined): string {
  return (status ?? "").toLowerCase().replace("_", "-");
}
