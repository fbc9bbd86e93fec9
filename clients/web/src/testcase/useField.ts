import { type FieldActivity, revisionOf, type TestCaseSnapshot, type TestCaseStore } from "@tcmanager/client";
import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { type TestCase, TestCaseField } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { useConnection } from "../live/client";
import { Draft, type DraftState, type SaveField, type Stored } from "./draft";
import { Teller } from "./teller";
import { priorityChoice, statusChoice } from "./words";

/** An editable field: its name on the wire and in test ids. */
export type FieldName = "title" | "description" | "priority" | "status";

/** fieldNumbers are the fields as the server counts them. */
export const fieldNumbers: Readonly<Record<FieldName, TestCaseField>> = {
  title: TestCaseField.TITLE,
  description: TestCaseField.DESCRIPTION,
  priority: TestCaseField.PRIORITY,
  status: TestCaseField.STATUS,
};

/** fieldValue is a field's value in the form in which it is edited. */
export function fieldValue(testCase: TestCase, field: FieldName): string {
  switch (field) {
    case "title":
      return testCase.title;
    case "description":
      return testCase.description;
    case "priority":
      return priorityChoice(testCase.priority).value;
    case "status":
      return statusChoice(testCase.status).value;
    default:
      return field satisfies never;
  }
}

/** How a field stands, as it is shown: as Draft says, or "offline" when what is unsaved waits for the connection. */
export type ShownDraftState = DraftState | { readonly kind: "offline" };

/** A field as a form control uses it. */
export interface Field {
  readonly value: string;
  readonly state: ShownDraftState;
  readonly others: readonly FieldActivity[];
  readonly onFocus: () => void;
  readonly onBlur: () => void;
  /** Takes what was typed, to be saved when typing pauses. */
  readonly type: (text: string) => void;
  /** Takes what was chosen, and saves it at once. */
  readonly choose: (value: string) => void;
  readonly keepMine: () => void;
  readonly takeTheirs: () => void;
  readonly retry: () => void;
}

/** useField is one field of a test case, edited together with others. */
export function useField(
  store: TestCaseStore,
  snapshot: TestCaseSnapshot,
  testCase: TestCase,
  field: FieldName,
): Field {
  const draft = useDraft(store, testCase, field);
  const teller = useTeller(store, snapshot, field);
  const { value, state } = useSyncExternalStore(draft.subscribe, draft.getSnapshot);
  const away = useAway();
  const others = useOthers(snapshot.activity, field);
  const waits = away && (state.kind === "saving" || state.kind === "typing");
  return {
    value,
    state: waits ? { kind: "offline" } : state,
    others,
    onFocus: () => teller.focus(),
    onBlur: () => {
      teller.leave();
      draft.flush();
    },
    type: (text) => {
      teller.type();
      draft.type(text);
    },
    choose: (chosen) => {
      draft.type(chosen);
      draft.flush();
    },
    keepMine: () => draft.keepMine(),
    takeTheirs: () => draft.takeTheirs(),
    retry: () => draft.flush(),
  };
}

function useDraft(store: TestCaseStore, testCase: TestCase, field: FieldName): Draft {
  const number = fieldNumbers[field];
  const stored = storedOf(testCase, field);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is stored only begins the draft; the effect below keeps it up
  const draft = useMemo(() => {
    const save: SaveField = async (value, base) => {
      return storedOf(await store.edit(number, value, base), field);
    };
    return new Draft(stored, save, (value) => checkField(field, value));
  }, [store, field]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new object with the same value and revision is no news
  useEffect(() => draft.setStored(stored), [draft, stored.value, stored.revision]);
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent): void => {
      if (draft.dirty) event.preventDefault();
    };
    window.addEventListener("beforeunload", warn);
    return () => {
      window.removeEventListener("beforeunload", warn);
      draft.flush();
    };
  }, [draft]);
  return draft;
}

/**
 * storedOf is a field as it stands in a test case. Value and revision must be of
 * the same one: the store knows newer revisions than its snapshot, which follows
 * with the next frame, and an old value under a new revision would be taken for
 * news, and undo what is being typed.
 */
export function storedOf(testCase: TestCase, field: FieldName): Stored {
  return { value: fieldValue(testCase, field), revision: revisionOf(testCase, fieldNumbers[field]) };
}

/** The longest values the server takes: characters of a title, bytes of a description. */
const maxTitle = 200;
const maxDescription = 65_536;

/** checkField says why a value can't be saved; undefined if it can. */
export function checkField(field: FieldName, value: string): Error | undefined {
  if (field === "title" && value.trim() === "") return new Error("A title is needed");
  if (field === "title" && [...value].length > maxTitle)
    return new Error(`A title has at most ${maxTitle} characters`);
  if (field === "description" && new TextEncoder().encode(value).length > maxDescription) {
    return new Error("A description has at most 64 KB");
  }
  return undefined;
}

/** useTeller tells the others what the reader does in a field, also again after a reconnect. */
export function useTeller(store: TestCaseStore, snapshot: TestCaseSnapshot, field: string): Teller {
  const teller = useMemo(() => new Teller((state) => store.setActivity(field, state)), [store, field]);
  const live = snapshot.state === "live";
  useEffect(() => {
    if (live) teller.again();
  }, [live, teller]);
  useEffect(() => () => teller.leave(), [teller]);
  return teller;
}

/** useAway says whether the connection is away. */
function useAway(): boolean {
  return useConnection(({ state }) => state !== "live" && state !== "catching-up");
}

/** useOthers are the other sessions in a field, one line a person; whoever types comes first. */
export function useOthers(activity: readonly FieldActivity[], field: string): readonly FieldActivity[] {
  const own = useConnection(({ sessionId }) => sessionId);
  return useMemo(() => {
    const byUser = new Map<string, FieldActivity>();
    for (const each of activity) {
      if (each.field !== field || each.sessionId === own) continue;
      const known = byUser.get(each.userId);
      if (known === undefined || each.state === ActivityState.TYPING) byUser.set(each.userId, each);
    }
    return [...byUser.values()];
  }, [activity, field, own]);
}
