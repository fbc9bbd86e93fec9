import { describe, expect, it } from "vitest";
import { AnsiLog, type Line, plain } from "./ansi";

const red = { ...plain, fg: { kind: "named", index: 1 } as const };

function read(...pieces: readonly string[]): AnsiLog {
  const log = new AnsiLog();
  for (const piece of pieces) log.write(piece);
  return log;
}

const textOf = (line: Line | undefined): string => (line?.spans ?? []).map((span) => span.text).join("");
const textsOf = (log: AnsiLog): string[] => log.lines.map(textOf);

describe("AnsiLog", () => {
  it("splits lines and keeps an unfinished one", () => {
    expect(textsOf(read("a\nb\r\n\nc"))).toEqual(["a", "b", "", "c"]);
  });

  it("colours what follows a sequence until it is reset", () => {
    const [line] = read("ok \u001b[31mred\u001b[0m ok").lines;
    expect(line?.spans).toEqual([
      { text: "ok ", style: plain },
      { text: "red", style: red },
      { text: " ok", style: plain },
    ]);
  });

  it("carries a colour over the end of a line", () => {
    expect(read("\u001b[31ma\nb").lines[1]?.spans).toEqual([{ text: "b", style: red }]);
  });

  it("gives the same lines however the output is cut", () => {
    const text =
      "x\u001b[1;38;2;1;2;3mA\u001b[0m\r\n\u001b]8;;http://a\u0007link\u001b]8;;\u001b\\ 50%\r100%\nend\u202e";
    const whole = read(text);
    const cut = read(...text.split(""));
    expect(textsOf(cut)).toEqual(textsOf(whole));
    expect(cut.lines[0]?.spans.at(-1)?.style).toEqual(whole.lines[0]?.spans.at(-1)?.style);
  });

  it("reads 256 and exact colours, and passes over ones out of range", () => {
    expect(read("\u001b[38;5;196mx").lines[0]?.spans[0]?.style.fg).toEqual({
      kind: "rgb",
      r: 255,
      g: 0,
      b: 0,
    });
    expect(read("\u001b[48;2;9;8;7mx").lines[0]?.spans[0]?.style.bg).toEqual({
      kind: "rgb",
      r: 9,
      g: 8,
      b: 7,
    });
    expect(read("\u001b[38;2;999;8;7mx").lines[0]?.spans[0]?.style.fg).toBeUndefined();
    expect(read("\u001b[38;5;-1;1mx").lines[0]?.spans[0]?.style).toEqual({ ...plain, bold: true });
  });

  it("shows a progress line as the terminal leaves it", () => {
    expect(textsOf(read("10%\r20%\rdone\n"))).toEqual(["done", ""]);
  });

  it("drops cursor movement, titles and links, and nothing of the text around them", () => {
    expect(textsOf(read("a\u001b[2J\u001b[10;20Hb\u001b]0;title\u0007c\u001b(Bd"))).toEqual(["abcd"]);
  });

  it("keeps markup as text", () => {
    expect(textsOf(read("<img src=x onerror=alert(1)>\u001b[31m</span>"))).toEqual([
      "<img src=x onerror=alert(1)></span>",
    ]);
  });

  it("lets no parameter become part of a style", () => {
    const log = read("\u001b[38;2;1;2;url(http://x)mA");
    // "u" ends the sequence: it was no colour, and the rest is text.
    expect(log.lines[0]?.spans[0]).toEqual({ text: "rl(http://x)mA", style: plain });
  });

  it("does not swallow the lines after a sequence without an end", () => {
    expect(textsOf(read("a\u001b]0;never ended\nb\u001b[31\nc"))).toEqual(["a", "b", "c"]);
  });

  it("shows control and reordering characters instead of obeying them", () => {
    expect(textsOf(read("a\u0000\u0008b\u202ec\u2066d\u0085"))).toEqual(["a␀␈b⟨U+202E⟩c⟨U+2066⟩d\ufffd"]);
  });

  it("breaks a line that would be too long to lay out", () => {
    const log = read("x".repeat(5000), "\ny");
    expect(log.lines.map((line) => line.continued)).toEqual([false, true, true, false]);
    expect(textsOf(log).join("")).toBe(`${"x".repeat(5000)}y`);
  });

  it("keeps little of an endless sequence", () => {
    const log = read(`\u001b[${"1;".repeat(100_000)}mx`);
    expect(log.lines[0]?.spans).toEqual([{ text: "x", style: plain }]);
  });
});
