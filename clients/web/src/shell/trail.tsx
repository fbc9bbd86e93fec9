import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";

/** A step of the way to a page. The last one is the page itself. */
export interface Crumb {
  readonly label: string;
  readonly href: string;
}

interface Trail {
  readonly crumbs: readonly Crumb[];
  readonly set: (crumbs: readonly Crumb[]) => void;
}

const TrailContext = createContext<Trail>({ crumbs: [], set: () => {} });

/** Keeps the way to the page on show. */
export function TrailProvider({ children }: { readonly children: ReactNode }) {
  const [crumbs, set] = useState<readonly Crumb[]>([]);
  const trail = useMemo(() => ({ crumbs, set }), [crumbs]);
  return <TrailContext value={trail}>{children}</TrailContext>;
}

/** useTrail is the way to the page on show. */
export function useTrail(): readonly Crumb[] {
  return useContext(TrailContext).crumbs;
}

/** useCrumbs says the way to this page, for as long as it is there. */
export function useCrumbs(crumbs: readonly Crumb[]): void {
  const { set } = useContext(TrailContext);
  const text = JSON.stringify(crumbs);
  // biome-ignore lint/correctness/useExhaustiveDependencies: text stands for crumbs, which is new at each render
  useEffect(() => {
    set(crumbs);
    return () => set([]);
  }, [set, text]);
}
