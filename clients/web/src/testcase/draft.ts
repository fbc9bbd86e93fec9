import { toTcmError } from "@tcmanager/client";

/** A field's value as the server has it. */
export interface Stored {
  readonly value: string;
  readonly revision: bigint;
}

/** How an edited field stands. */
export type DraftState =
  /** What is shown is what is stored. */
  | { readonly kind: "saved" }
  /** The editor is typing; it will be saved in a moment. */
  | { readonly kind: "typing" }
  | { readonly kind: "saving" }
  /** Somebody else's value arrived while this one was being typed. Nothing is saved until the editor chooses. */
  | { readonly kind: "conflict"; readonly theirs: Stored }
  /** The server refused the value, or could not take it. */
  | { readonly kind: "failed"; readonly error: Error };

/** What a field shows. */
export interface DraftSnapshot {
  readonly value: string;
  readonly state: DraftState;
}

/** Saves a value over the revision it was edited from. Resolves with what is stored then. */
export type SaveField = (value: string, base: bigint) => Promise<Stored>;

/** How long after the last key a value is saved. */
export const saveDelayMs = 400;

/**
 * Draft is one field while somebody edits it, as a store. It shows what is
 * stored until the editor types; then it holds the editor's text, saves it over
 * the revision it began from, and lets go of it once that came back as stored.
 * Others' edits show at once in a field that is not edited, and become a
 * conflict in one that is.
 *
 * An edit's own event may arrive before or after the answer to it. Before: it
 * is not looked at while saving. After: the text is held until the stored
 * revision reached the answer's, so that the old value never flashes up.
 */
export class Draft {
  readonly #save: SaveField;
  readonly #check: (value: string) => Error | undefined;
  readonly #listeners = new Set<() => void>();
  #stored: Stored;
  /** The editor's text; undefined while what is stored is shown. */
  #text: string | undefined;
  /** The revision that #text was edited from. */
  #base = 0n;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saving = false;
  #snapshot: DraftSnapshot;

  /** check says why a value can't be saved; undefined if it can. */
  constructor(stored: Stored, save: SaveField, check: (value: string) => Error | undefined) {
    this.#stored = stored;
    this.#save = save;
    this.#check = check;
    this.#snapshot = { value: stored.value, state: { kind: "saved" } };
  }

  readonly getSnapshot = (): DraftSnapshot => this.#snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** setStored says what the server has now. An older revision than known is passed over. */
  setStored(stored: Stored): void {
    if (stored.revision < this.#stored.revision) return;
    if (stored.revision === this.#stored.revision && stored.value === this.#stored.value) return;
    this.#stored = stored;
    this.#settle();
  }

  /** type takes the editor's text. */
  type(text: string): void {
    if (this.#text === undefined) this.#base = this.#stored.revision;
    this.#text = text;
    if (this.#snapshot.state.kind === "conflict") {
      this.#show(this.#snapshot.state);
      return;
    }
    this.#show({ kind: this.#saving ? "saving" : "typing" });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#flush(), saveDelayMs);
  }

  /** flush saves at once what there is to save: on leaving the field, and to try again. */
  flush(): void {
    clearTimeout(this.#timer);
    void this.#flush();
  }

  /** keepMine ends a conflict by saving the editor's text over the other's. */
  keepMine(): void {
    if (this.#snapshot.state.kind !== "conflict") return;
    this.#base = this.#snapshot.state.theirs.revision;
    this.#show({ kind: "typing" });
    this.flush();
  }

  /** takeTheirs ends a conflict, or a failure, by letting go of the editor's text. */
  takeTheirs(): void {
    clearTimeout(this.#timer);
    this.#text = undefined;
    this.#show({ kind: "saved" });
  }

  /** Whether there is text that is not stored yet. */
  get dirty(): boolean {
    return this.#text !== undefined;
  }

  /** #settle looks at the editor's text after the stored value changed, or after a save. */
  #settle(): void {
    if (this.#saving) return;
    if (this.#text === undefined || this.#text === this.#stored.value) {
      // Nothing of the editor's is left, or both wrote the same.
      clearTimeout(this.#timer);
      this.#text = undefined;
      this.#show({ kind: "saved" });
    } else if (this.#stored.revision > this.#base) {
      clearTimeout(this.#timer);
      this.#show({ kind: "conflict", theirs: this.#stored });
    }
  }

  async #flush(): Promise<void> {
    const text = this.#text;
    const { kind } = this.#snapshot.state;
    if (text === undefined || this.#saving || kind === "conflict") return;
    const wrong = this.#check(text);
    if (wrong !== undefined) {
      this.#show({ kind: "failed", error: wrong });
      return;
    }
    if (text === this.#stored.value) {
      this.#settle();
      return;
    }
    this.#saving = true;
    this.#show({ kind: "saving" });
    try {
      this.#saved(text, await this.#save(text, this.#base));
    } catch (thrown) {
      this.#refused(thrown);
    }
  }

  #saved(text: string, stored: Stored): void {
    this.#saving = false;
    this.#base = stored.revision;
    // The answer is as true as the event would be, and here first.
    if (stored.revision >= this.#stored.revision) this.#stored = stored;
    if (this.#text === text && this.#stored.revision === stored.revision) this.#text = undefined;
    this.#settle();
    // More was typed meanwhile.
    if (this.#text !== undefined && this.#snapshot.state.kind === "saving") this.flush();
  }

  #refused(thrown: unknown): void {
    this.#saving = false;
    const error = toTcmError(thrown);
    if (error.reason !== "REVISION_MISMATCH") {
      this.#show({ kind: "failed", error });
      return;
    }
    const revision = parseRevision(error.metadata.current_revision) ?? this.#stored.revision;
    const value = error.metadata.current_value;
    if (value !== undefined && revision >= this.#stored.revision) this.#stored = { value, revision };
    if (this.#text === this.#stored.value) this.#settle();
    else this.#show({ kind: "conflict", theirs: this.#stored });
  }

  #show(state: DraftState): void {
    this.#snapshot = { value: this.#text ?? this.#stored.value, state };
    for (const listener of this.#listeners) listener();
  }
}

function parseRevision(text: string | undefined): bigint | undefined {
  return text !== undefined && /^\d+$/.test(text) ? BigInt(text) : undefined;
}
