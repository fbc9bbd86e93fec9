import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { navigate, usePathname, useSearch } from "../../router/history";
import { formatRunView, type Only, parseRunView, type RunView } from "../../router/route";

/** What the reader looks at in a run, and how to look at something else. */
export interface RunViewState extends RunView {
  readonly setFilter: (text: string) => void;
  readonly setOnly: (only: Only) => void;
  /** Opens a test, or a suite if test is undefined; suite undefined closes what is open. */
  readonly select: (suite: string | undefined, test?: string | undefined) => void;
}

/** Browsers refuse addresses that change with every key: Safari takes 100 in 30 seconds. */
const addressDelayMs = 250;

/** useRunView is the part of the address that says what the reader looks at. What is selected makes a step in the history; what is typed does not. */
export function useRunView(): RunViewState {
  const pathname = usePathname();
  const search = useSearch();
  const inAddress = useMemo(() => parseRunView(search), [search]);
  const [filter, setFilterText] = useState(inAddress.filter);
  const latest = useRef({ ...inAddress, filter });
  latest.current = { ...inAddress, filter };

  const go = useCallback(
    (change: Partial<RunView>, replace: boolean) =>
      navigate(pathname + formatRunView({ ...latest.current, ...change }), { replace }),
    [pathname],
  );
  useFilterInAddress(filter, inAddress.filter, go);
  useEffect(() => setFilterText(inAddress.filter), [inAddress.filter]);
  return useMemo(
    () => ({
      ...inAddress,
      filter,
      setFilter: setFilterText,
      setOnly: (only: Only) => go({ only }, true),
      select: (suite: string | undefined, test?: string | undefined) => go({ suite, test }, false),
    }),
    [inAddress, filter, go],
  );
}

function useFilterInAddress(
  filter: string,
  inAddress: string,
  go: (change: Partial<RunView>, replace: boolean) => void,
): void {
  useEffect(() => {
    if (filter === inAddress) return;
    const timer = setTimeout(() => go({ filter }, true), addressDelayMs);
    return () => clearTimeout(timer);
  }, [filter, inAddress, go]);
}
