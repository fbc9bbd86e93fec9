import { useEffect } from "react";
import type { Tone } from "../status/status";

/** Shapes and colours of the tab's icon: told apart by shape as well as by colour, at 16 pixels. */
const icons: Partial<Readonly<Record<Tone, string>>> = {
  running:
    '<circle cx="16" cy="16" r="12" fill="none" stroke="#4a82f0" stroke-width="7" stroke-dasharray="50 26"/>',
  passed:
    '<circle cx="16" cy="16" r="15" fill="#1f9d63"/><path d="m9 16.5 5 5 9-10" fill="none" stroke="#fff" stroke-width="4"/>',
  failed:
    '<rect x="1" y="1" width="30" height="30" rx="6" fill="#dc3b46"/><path d="m9 9 14 14m0-14-14 14" fill="none" stroke="#fff" stroke-width="4"/>',
  errored:
    '<path d="M16 2 31 29H1Z" fill="#dc3b46"/><path d="M16 12v8m0 3.5v2" stroke="#fff" stroke-width="4"/>',
  blocked:
    '<circle cx="16" cy="16" r="12" fill="none" stroke="#7a8594" stroke-width="6"/><path d="m8 8 16 16" stroke="#7a8594" stroke-width="6"/>',
};

/**
 * useDocumentTitle names the tab, and with a tone marks its icon, for as long as
 * the component is there: a run is watched from another tab more often than not.
 */
export function useDocumentTitle(title: string, tone?: Tone): void {
  useEffect(() => {
    document.title = title === "" ? "TCManager" : `${title} · TCManager`;
  }, [title]);
  useEffect(() => {
    const link = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
    const shape = tone === undefined ? undefined : (icons[tone] ?? icons.errored);
    if (link === null || shape === undefined) return;
    const before = link.href;
    link.href = `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${shape}</svg>`)}`;
    return () => {
      link.href = before;
    };
  }, [tone]);
}
