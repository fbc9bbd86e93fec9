import { useSyncExternalStore } from "react";

/** Fired on window when navigate changed the address; the browser itself fires popstate for back and forward only. */
const changed = "tcm:navigate";

/** navigate goes to a path of this page, with its query. With replace the entry in the history is changed, not added. */
export function navigate(href: string, options: { readonly replace?: boolean } = {}): void {
  if (href === location.pathname + location.search) return;
  if (options.replace === true) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  window.dispatchEvent(new Event(changed));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(changed, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(changed, listener);
  };
}

/** usePathname is the path of the address, live. */
export function usePathname(): string {
  return useSyncExternalStore(subscribe, () => location.pathname);
}

/** useSearch is the query of the address with its question mark, live. */
export function useSearch(): string {
  return useSyncExternalStore(subscribe, () => location.search);
}
