import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import { type Command, CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { KeyValueStorage } from "../session";

/** A command that waits for its answer, as it outlives a reload. */
export interface SavedCommand {
  readonly requestId: string;
  readonly command: Command;
  /** Whose it is: the user of the last welcome; empty before the first. */
  readonly userId: string;
  /** When it was given, by this machine's clock. */
  readonly atMs: number;
}

const storageKey = "tcmanager.outbox";
/** Browsers give a page about 5 MB; what doesn't fit lives in memory only. */
const maxChars = 1 << 20;

interface Line {
  readonly saved: SavedCommand;
  readonly text: string;
}

/**
 * Outbox keeps commands in a storage until they are answered, so that a reload
 * or a crash of the tab costs none of them. It is bounded in number, and what it
 * stores in size.
 *
 * A duplicated tab begins with a copy, and both send the same commands under the
 * same request ids: the second gets the first's answer.
 */
export class Outbox {
  readonly #lines = new Map<string, Line>();

  constructor(
    readonly storage: KeyValueStorage | undefined,
    readonly maxCommands: number,
  ) {
    for (const saved of load(storage)) {
      if (this.#lines.size < maxCommands) this.#lines.set(saved.requestId, lineOf(saved));
    }
  }

  /** How many commands wait. */
  get size(): number {
    return this.#lines.size;
  }

  /** Whether no more fit. */
  get full(): boolean {
    return this.#lines.size >= this.maxCommands;
  }

  /** The commands that wait, oldest first. */
  all(): readonly SavedCommand[] {
    return Array.from(this.#lines.values(), ({ saved }) => saved);
  }

  get(requestId: string): SavedCommand | undefined {
    return this.#lines.get(requestId)?.saved;
  }

  /** Keeps a command, or another version of it. */
  put(saved: SavedCommand): void {
    this.#lines.set(saved.requestId, lineOf(saved));
    this.#save();
  }

  /** Says whose the commands are that were given before anybody was welcomed. */
  claim(userId: string, requestIds: ReadonlySet<string>): void {
    for (const { saved } of this.#lines.values()) {
      if (saved.userId !== "" || !requestIds.has(saved.requestId)) continue;
      this.#lines.set(saved.requestId, lineOf({ ...saved, userId }));
    }
    this.#save();
  }

  /** Forgets a command: it was answered, or given up. */
  remove(requestId: string): void {
    if (this.#lines.delete(requestId)) this.#save();
  }

  #save(): void {
    const texts: string[] = [];
    let chars = 0;
    for (const { text } of this.#lines.values()) {
      chars += text.length;
      if (chars > maxChars) break;
      texts.push(text);
    }
    try {
      if (texts.length === 0) this.storage?.removeItem(storageKey);
      else this.storage?.setItem(storageKey, `[${texts.join(",")}]`);
    } catch {
      // Full, or not allowed: a reload costs what was not sent.
    }
  }
}

function lineOf(saved: SavedCommand): Line {
  const { command, userId, atMs } = saved;
  const bytes = base64Encode(toBinary(CommandSchema, command));
  return { saved, text: JSON.stringify([userId, atMs, bytes]) };
}

/** load reads what was stored; what can't be read counts as nothing. */
function load(storage: KeyValueStorage | undefined): readonly SavedCommand[] {
  try {
    const lines: unknown = JSON.parse(storage?.getItem(storageKey) ?? "[]");
    return Array.isArray(lines) ? lines.flatMap(parse) : [];
  } catch {
    return [];
  }
}

function parse(line: unknown): readonly SavedCommand[] {
  if (!Array.isArray(line)) return [];
  const [userId, atMs, bytes]: unknown[] = line;
  if (typeof userId !== "string" || typeof atMs !== "number" || typeof bytes !== "string") return [];
  try {
    const command = fromBinary(CommandSchema, base64Decode(bytes));
    return command.requestId === "" ? [] : [{ requestId: command.requestId, command, userId, atMs }];
  } catch {
    return [];
  }
}
