/** Where the reader is. Every page is one of these, and every one has an address. */
export type Route =
  | { readonly page: "projects" }
  | { readonly page: "project"; readonly project: string }
  | { readonly page: "cases"; readonly project: string }
  | { readonly page: "run"; readonly run: string }
  | { readonly page: "case"; readonly testCase: string }
  | { readonly page: "not-found"; readonly path: string };

/** parseRoute reads a path; an address that names nothing gives "not-found", never an error. */
export function parseRoute(pathname: string): Route {
  const parts: string[] = [];
  for (const raw of pathname.split("/")) {
    if (raw === "") continue;
    const part = decode(raw);
    if (part === undefined) return { page: "not-found", path: pathname };
    parts.push(part);
  }
  const [head, id, tail] = parts;
  if (head === undefined) return { page: "projects" };
  if (id !== undefined && parts.length === 2) {
    if (head === "projects") return { page: "project", project: id };
    if (head === "runs") return { page: "run", run: id };
    if (head === "cases") return { page: "case", testCase: id };
  }
  if (head === "projects" && id !== undefined && tail === "cases" && parts.length === 3) {
    return { page: "cases", project: id };
  }
  return { page: "not-found", path: pathname };
}

/** formatRoute is the inverse of parseRoute. */
export function formatRoute(route: Route): string {
  switch (route.page) {
    case "projects":
      return "/";
    case "project":
      return `/projects/${encodeURIComponent(route.project)}`;
    case "cases":
      return `/projects/${encodeURIComponent(route.project)}/cases`;
    case "run":
      return `/runs/${encodeURIComponent(route.run)}`;
    case "case":
      return `/cases/${encodeURIComponent(route.testCase)}`;
    case "not-found":
      return route.path;
    default:
      return route satisfies never;
  }
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

/** Which tests the tree shows. */
export type Only = "all" | "failed" | "flaky" | "skipped" | "running";

/** The values of Only in the order in which the f key goes through the first two. */
export const onlyValues: readonly Only[] = ["all", "failed", "flaky", "skipped", "running"];

/** What the address of a run page holds besides the run: a link shows the same to whoever opens it. */
export interface RunView {
  /** The text in the filter box. */
  readonly filter: string;
  readonly only: Only;
  /** The selected suite; undefined if nothing is selected. */
  readonly suite: string | undefined;
  /** The selected test within suite; undefined if the suite itself is selected. */
  readonly test: string | undefined;
}

/** parseRunView reads a query string; unknown words mean the default. */
export function parseRunView(search: string): RunView {
  const query = new URLSearchParams(search);
  const only = query.get("only");
  const suite = query.get("suite") ?? undefined;
  return {
    filter: query.get("q") ?? "",
    only: onlyValues.find((value) => value === only) ?? "all",
    suite,
    test: suite === undefined ? undefined : (query.get("test") ?? undefined),
  };
}

/** formatRunView is the inverse of parseRunView; defaults are left out. */
export function formatRunView(view: RunView): string {
  const query = new URLSearchParams();
  if (view.filter !== "") query.set("q", view.filter);
  if (view.only !== "all") query.set("only", view.only);
  if (view.suite !== undefined) {
    query.set("suite", view.suite);
    if (view.test !== undefined) query.set("test", view.test);
  }
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}
