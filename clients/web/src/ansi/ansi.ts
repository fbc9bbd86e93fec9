/**
 * How a piece of output looks. Colours are numbers, never text from the output,
 * so that nothing a test prints can become markup or a style of its own.
 */
export interface Style {
  readonly fg: Color | undefined;
  readonly bg: Color | undefined;
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underline: boolean;
  readonly strike: boolean;
  readonly inverse: boolean;
}

/** A colour: one of the terminal's 16, which the page's theme draws, or exact red, green and blue in 0 to 255. */
export type Color =
  | { readonly kind: "named"; readonly index: number }
  | { readonly kind: "rgb"; readonly r: number; readonly g: number; readonly b: number };

/** The look of output that asked for none. */
export const plain: Style = {
  fg: undefined,
  bg: undefined,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  strike: false,
  inverse: false,
};

/** A piece of a line in one look. */
export interface Span {
  readonly text: string;
  readonly style: Style;
}

/** One line of output. */
export interface Line {
  spans: Span[];
  /** Whether it goes on from the line before, which had grown too long for one. */
  readonly continued: boolean;
}

/** Longer lines are broken: a browser lays out a line of a megabyte in seconds. */
const maxLineLength = 2000;

/** The longest escape sequence that is remembered; terminals know none near it. Longer ones are passed over to their end. */
const maxSequence = 256;

type State = "text" | "escape" | "csi" | "string" | "string-escape";

const esc = 0x1b;
const bel = 0x07;

/**
 * AnsiLog turns output with ANSI escape sequences into lines of styled spans.
 * Output may arrive in pieces cut anywhere, within a sequence too. Colours and
 * weights are kept; movements of the cursor, titles, links and all else are
 * dropped; a lone carriage return starts its line anew, as a terminal shows it;
 * other control characters and those that reorder text become visible signs.
 */
export class AnsiLog {
  readonly lines: Line[] = [];
  #style: Style = plain;
  #state: State = "text";
  #sequence = "";
  #run = "";
  #length = 0;
  #carriage = false;

  /** write takes the next piece. */
  write(text: string): void {
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (this.#state !== "text") {
        this.#escape(code, text.charAt(at));
        start = at + 1;
      } else if (isOrdinary(code) && !this.#carriage && this.#length + (at - start) < maxLineLength) {
        // Left in place: whole runs are taken at once.
      } else {
        this.#append(text.slice(start, at));
        start = at + 1;
        this.#take(code, text.charAt(at));
      }
    }
    this.#append(text.slice(start));
    this.#flush();
  }

  #take(code: number, char: string): void {
    if (this.#carriage && code !== 0x0a) this.#restart();
    this.#carriage = false;
    if (this.#length >= maxLineLength && code !== 0x0a && code !== 0x0d) this.#newLine(true);
    if (code === 0x0a) this.#newLine(false);
    else if (code === 0x0d) this.#carriage = true;
    else if (code === esc) this.#state = "escape";
    else if (code === 0x9b) this.#state = "csi";
    else this.#append(isOrdinary(code) ? char : visible(code));
  }

  #escape(code: number, char: string): void {
    switch (this.#state) {
      case "escape":
        this.#sequence = "";
        if (char === "[") this.#state = "csi";
        else if (char === "]" || char === "P" || char === "_" || char === "^" || char === "X")
          this.#state = "string";
        // An intermediate (as in "ESC ( B") is followed by one more character.
        else if (code < 0x20 || code > 0x2f) this.#state = "text";
        return;
      case "csi":
        if (code >= 0x40 && code <= 0x7e) {
          if (char === "m" && this.#sequence.length < maxSequence) this.#select(this.#sequence);
          this.#state = "text";
        } else if (code === esc) this.#state = "escape";
        else if (code === 0x0a) {
          this.#state = "text";
          this.#newLine(false);
        } else if (this.#sequence.length < maxSequence) this.#sequence += char;
        return;
      case "string":
        if (code === bel || code === 0x9c) this.#state = "text";
        else if (code === esc) this.#state = "string-escape";
        // A string never spans lines; one without an end must not swallow the rest.
        else if (code === 0x0a) {
          this.#state = "text";
          this.#newLine(false);
        }
        return;
      case "string-escape":
        this.#state = "escape";
        if (char === "\\") this.#state = "text";
        else this.#escape(code, char);
        return;
      case "text":
        return;
      default:
        this.#state satisfies never;
    }
  }

  #select(parameters: string): void {
    this.#flush();
    this.#style = applySelect(this.#style, parameters);
  }

  #append(text: string): void {
    this.#run += text;
    this.#length += text.length;
  }

  #flush(): void {
    if (this.#run === "") return;
    let line = this.lines.at(-1);
    if (line === undefined) {
      line = { spans: [], continued: false };
      this.lines.push(line);
    }
    // A new array: whoever shows the line sees that it changed.
    line.spans = [...line.spans, { text: this.#run, style: this.#style }];
    this.#run = "";
  }

  #restart(): void {
    this.#run = "";
    this.#length = 0;
    const line = this.lines.at(-1);
    if (line !== undefined) line.spans = [];
  }

  #newLine(continued: boolean): void {
    this.#flush();
    if (this.lines.length === 0) this.lines.push({ spans: [], continued: false });
    this.lines.push({ spans: [], continued });
    this.#length = 0;
  }
}

function isOrdinary(code: number): boolean {
  if (code === 0x09) return true;
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return false;
  return !isReordering(code);
}

/** Characters that change the order in which others are shown: output could read as something it is not. */
function isReordering(code: number): boolean {
  return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code === 0x061c;
}

function visible(code: number): string {
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  if (code <= 0x9f) return "\ufffd";
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** applySelect is the style after "ESC [ parameters m" (ECMA-48, SGR). Unknown parameters change nothing. */
export function applySelect(style: Style, parameters: string): Style {
  // Colons separate the parts of one colour; semicolons do in practice.
  const codes = parameters.split(/[;:]/).map((part) => (part === "" ? 0 : Number(part)));
  let next = style;
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 38 || code === 48) {
      const [color, used] = extendedColor(codes, at + 1);
      at += used;
      if (color !== undefined) next = code === 38 ? { ...next, fg: color } : { ...next, bg: color };
    } else next = applyCode(next, code);
  }
  return next;
}

function applyCode(style: Style, code: number): Style {
  if (code >= 30 && code <= 37) return { ...style, fg: { kind: "named", index: code - 30 } };
  if (code >= 90 && code <= 97) return { ...style, fg: { kind: "named", index: code - 82 } };
  if (code >= 40 && code <= 47) return { ...style, bg: { kind: "named", index: code - 40 } };
  if (code >= 100 && code <= 107) return { ...style, bg: { kind: "named", index: code - 92 } };
  switch (code) {
    case 0:
      return plain;
    case 1:
      return { ...style, bold: true };
    case 2:
      return { ...style, dim: true };
    case 3:
      return { ...style, italic: true };
    case 4:
      return { ...style, underline: true };
    case 7:
      return { ...style, inverse: true };
    case 9:
      return { ...style, strike: true };
    case 22:
      return { ...style, bold: false, dim: false };
    case 23:
      return { ...style, italic: false };
    case 24:
      return { ...style, underline: false };
    case 27:
      return { ...style, inverse: false };
    case 29:
      return { ...style, strike: false };
    case 39:
      return { ...style, fg: undefined };
    case 49:
      return { ...style, bg: undefined };
    default:
      return style;
  }
}

/** extendedColor reads "5;n" or "2;r;g;b" and says how many codes it used. */
function extendedColor(codes: readonly number[], at: number): readonly [Color | undefined, number] {
  if (codes[at] === 5) return [paletteColor(codes[at + 1]), 2];
  if (codes[at] === 2) {
    const [r, g, b] = [byte(codes[at + 1]), byte(codes[at + 2]), byte(codes[at + 3])];
    if (r === undefined || g === undefined || b === undefined) return [undefined, 4];
    return [{ kind: "rgb", r, g, b }, 4];
  }
  return [undefined, 1];
}

function byte(code: number | undefined): number | undefined {
  return code !== undefined && Number.isInteger(code) && code >= 0 && code <= 255 ? code : undefined;
}

/** paletteColor is xterm's table of 256: 16 named, a cube of 6 by 6 by 6, 24 greys. */
function paletteColor(code: number | undefined): Color | undefined {
  const index = byte(code);
  if (index === undefined) return undefined;
  if (index < 16) return { kind: "named", index };
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return { kind: "rgb", r: grey, g: grey, b: grey };
  }
  const cube = index - 16;
  const level = (n: number): number => (n === 0 ? 0 : 55 + n * 40);
  return {
    kind: "rgb",
    r: level(Math.floor(cube / 36)),
    g: level(Math.floor(cube / 6) % 6),
    b: level(cube % 6),
  };
}
