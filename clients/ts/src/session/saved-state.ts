import type { KeyValueStorage } from "../session";
import type { Cursor } from "./rooms";

/** What outlives a reload. */
export interface SavedState {
  /** The session to go on with; empty for none. */
  readonly sessionId: string;
  /** Rooms' cursors by room name. */
  readonly cursors: ReadonlyMap<string, Cursor>;
}

const storageKey = "tcmanager.session";
const nothing: SavedState = { sessionId: "", cursors: new Map() };

/**
 * takeSaved reads what was saved and removes it: a duplicated tab starts with a
 * copy of sessionStorage, and two tabs with one session would end each other's
 * streams for ever. What can't be read counts as nothing.
 */
export function takeSaved(storage: KeyValueStorage | undefined): SavedState {
  try {
    const text = storage?.getItem(storageKey);
    if (text === null || text === undefined) return nothing;
    storage?.removeItem(storageKey);
    return parse(JSON.parse(text));
  } catch {
    return nothing;
  }
}

/** save writes state for the page that comes after this one. A storage that refuses costs only the continuity. */
export function save(storage: KeyValueStorage | undefined, state: SavedState): void {
  const cursors = [...state.cursors].map(([room, { epoch, offset }]) => [room, `${epoch}`, `${offset}`]);
  try {
    storage?.setItem(storageKey, JSON.stringify({ sessionId: state.sessionId, cursors }));
  } catch {
    // Full, or not allowed: the next page begins with a new session.
  }
}

function parse(value: unknown): SavedState {
  if (typeof value !== "object" || value === null) return nothing;
  const sessionId = "sessionId" in value && typeof value.sessionId === "string" ? value.sessionId : "";
  const cursors = new Map<string, Cursor>();
  const saved: readonly unknown[] = "cursors" in value && Array.isArray(value.cursors) ? value.cursors : [];
  for (const entry of saved) {
    if (!Array.isArray(entry)) continue;
    const [room, epoch, offset]: unknown[] = entry;
    if (typeof room !== "string" || typeof epoch !== "string" || typeof offset !== "string") continue;
    cursors.set(room, { epoch: BigInt(epoch), offset: BigInt(offset) });
  }
  return { sessionId, cursors };
}
